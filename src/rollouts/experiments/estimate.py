"""What a job will take, told before anything is spent: rollouts, calls, tokens and dollars by phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import (
    Endpoint,
    EnvironmentFactory,
    FewShotExample,
    Price,
    Program,
    PromptTemplate,
    Request,
    Sample,
    Usage,
    render,
    value_text,
)
from rollouts.evaluation import Task
from rollouts.experiments.job import Job
from rollouts.experiments.judging import StudyGenerate
from rollouts.llm.keys import key_of
from rollouts.llm.pricing import cost_micros, price_of, require_price
from rollouts.llm.tokens import estimate as tokens_of
from rollouts.llm.tokens import upper_bound
from rollouts.prompt_optimization import GEPAConfig, MIPROConfig, RMIPROConfig, Splits, StudyOptions
from rollouts.prompt_optimization.demos import example_of
from rollouts.prompt_optimization.gepa import planned as gepa_plan
from rollouts.prompt_optimization.mipro import planned as mipro_plan
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.prepared import prepared
from rollouts.prompt_optimization.rmipro import rmipro_plan
from rollouts.prompt_optimization.study import DEFAULT_SLOTS
from rollouts.prompt_optimization.usual import usual_candidate, usual_rollout
from rollouts.prompt_optimization.workshop import SHOWN

_USUAL_DEMOS = 0.5
"""Demonstration sets come in several sizes; half of the largest is about the mean of a search."""
_USUAL_PROPOSAL = 150
_USUAL_TURNS = 2
_JUDGE_FRAME = 150
_JUDGE_ANSWER = 60
_PROPOSAL_FRAME = 400
_BYTES_PER_TOKEN = 4
_RECORD_CHARS = 1500
_REJECTED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEstimate:
    """One phase. `tokens` and `usd` are what is expected, `worst_tokens` and `worst_usd` what cannot be passed as long
    as no call is retried. Dollars are None where the price of a model is not known."""

    phase: str
    rollouts: int
    calls: int
    tokens: int
    worst_tokens: int
    usd: float | None
    worst_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A job before it runs. The caps of the job hold whatever is estimated here."""

    plan: Plan
    phases: tuple[PhaseEstimate, ...]

    @property
    def total(self) -> PhaseEstimate:
        """The sum of the phases."""
        return _sum("total", self.phases)

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": dict(self.plan.to_json()),
            "phases": [asdict(phase) for phase in self.phases],
            "total": asdict(self.total),
        }


def estimate(job: Job) -> Estimate:
    """The plan that the run would make, and what its calls would take by the job's data and prices. Calls nothing.

    Tokens are estimated from the rendered prompts (one for 4 bytes). The worst case takes the longest row, as many and
    as long demonstrations as the settings allow, the longest instruction, one token for every byte of the prompt and
    the longest answer. Rows that repeat and results that are stored already make a run cheaper than this.

    A program is taken to call each module once, with values made inside it as long as an answer, an agent to call one
    tool a turn: two turns as expected, all of them at worst.
    """
    plan = plan_of(job)
    phases = [
        _rollouts(job, "baseline", plan.baseline, 0.0),
        _rollouts(job, "bootstrap", plan.bootstrap, 0.0),
        _rollouts(job, "search", plan.trials * plan.minibatch, _USUAL_DEMOS),
        _rollouts(job, "validate", plan.finals, _USUAL_DEMOS),
        _rollouts(job, "test", 2 * plan.test, _USUAL_DEMOS / 2),
    ]
    if len(job.others) > 1:
        phases.append(_judgements(job, plan.total))
    config = job.settings
    if isinstance(config, GEPAConfig):
        phases.append(_reflections(job, config, plan))
    elif isinstance(config, RMIPROConfig):
        phases.append(_texts_on_demand(job, config, plan))
    else:
        phases.append(_proposals(job, config, plan))
    return Estimate(plan=plan, phases=tuple(phase for phase in phases if phase.calls))


def estimate_run(
    initial_template: PromptTemplate | Program,
    config: MIPROConfig | GEPAConfig | RMIPROConfig,
    dataset: Sequence[dict[str, Any]] | Splits,
    endpoint: Endpoint,
    proposer_endpoint: Endpoint,
    environment_factory: EnvironmentFactory | None = None,
    *,
    options: StudyOptions | None = None,
) -> Estimate:
    """`estimate` for `run_mipro`, `run_gepa` and `run_rmipro`, by the class of `config`: their arguments without the
    metric, whose own calls it cannot know. Without a cap in `options` it shows what the settings alone would take."""
    start, data, opts = prepared(initial_template, dataset, config, options or StudyOptions())
    job = Job(
        config={},
        start=start,
        data=data,
        task=Task(endpoint=endpoint, score_fn=lambda *_: 0.0, environment_factory=environment_factory),
        proposer=proposer_endpoint,
        others=(proposer_endpoint,),
        settings=config,
        options=opts,
        store="",
        folder=Path(),
        generate=StudyGenerate(),
    )
    return estimate(job)


def plan_of(job: Job) -> Plan:
    """The plan that a run makes which finds nothing in the store."""
    config, data, budget = job.settings, job.data, job.options.budget
    usual = partial(_usual_rollout, job)
    if isinstance(config, GEPAConfig):
        return gepa_plan(config, data, job.start, budget, usual=usual, texts=_texts(job))
    if isinstance(config, RMIPROConfig):
        alone = {name: replace(job.start, modules={name: template}) for name, template in job.start.modules.items()}
        changed = usual(usual_candidate(job.start, data.train, config))
        return rmipro_plan(job.options, config, data, {name: usual(one) for name, one in alone.items()}, changed)
    slots = job.options.slots or DEFAULT_SLOTS
    return mipro_plan(config, data, job.start, budget, slots=slots, usual=usual, texts=_texts(job))


def _texts(job: Job) -> int:
    """How many texts are rewritten."""
    config = job.settings
    wanted = isinstance(config, GEPAConfig) or config.optimize_instructions
    return len(config.optimize) * len(job.start.modules) if wanted else 0


def _usual_rollout(job: Job, program: Program) -> Spend:
    """As `Study.usual_rollout`, with tokens and prices as providers that have no tokenizer tell them."""

    def worst_case(request: Request) -> Spend:
        usage = Usage(prompt_tokens=upper_bound(request), completion_tokens=request.endpoint.sampling.max_tokens)
        return Spend(micros=cost_micros(price_of(request.endpoint), usage), tokens=usage.total_tokens, calls=1)

    return usual_rollout(job.task, program, job.data.train[-1], count_tokens=tokens_of, worst_case=worst_case)


def check_models(job: Job) -> list[str]:
    """What would keep the job's models from being called: a missing key, an unknown price under a cap on money."""
    problems: list[str] = []
    for endpoint in dict.fromkeys((job.task.endpoint, *job.task.endpoints.values(), *job.others)):
        if endpoint.provider == "local":
            continue
        try:
            key_of(endpoint)
            if job.options.budget.max_micros is not None:
                require_price(endpoint)
        except Exception as error:  # noqa: BLE001 - the reason is the result
            problems.append(str(error))
    return list(dict.fromkeys(problems))


def _rollouts(job: Job, phase: str, count: int, demo_share: float) -> PhaseEstimate:
    modules = [_module(job, name, phase, count, demo_share) for name in job.start.modules]
    return replace(_sum(phase, modules), rollouts=count)


def _module(job: Job, name: str, phase: str, count: int, demo_share: float) -> PhaseEstimate:
    """One module's part of `count` rollouts."""
    endpoint = job.task.endpoints.get(name, job.task.endpoint)
    config, template, samples = job.settings, job.start.modules[name], _samples(job)
    most_demos = config.max_labeled_demos + config.max_bootstrapped_demos if config.optimize_demos else 0
    shown = _demos(job)
    usual_demo = _mean([tokens_of(demo.input) + tokens_of(demo.output) for demo in shown])
    widest = max((len((demo.input + demo.output).encode()) for demo in shown), default=0)
    prompts = [_request(template, sample, endpoint) for sample in samples]
    prompt = _mean([sum(tokens_of(message.content) for message in request.messages) for request in prompts])
    answer, longest = min(endpoint.sampling.max_tokens, _usual_answer(samples)), endpoint.sampling.max_tokens
    inner = len(template.placeholders - set(samples[0].inputs))
    worst = max(upper_bound(request) for request in prompts) + inner * longest * _BYTES_PER_TOKEN
    if demo_share:
        worst += most_demos * (widest + 32) + config.max_instruction_tokens * _BYTES_PER_TOKEN
    prompt += inner * answer + demo_share * most_demos * usual_demo
    usual = Usage(prompt_tokens=round(prompt), completion_tokens=answer)
    if job.task.environment_factory is None:
        return _phase(phase, endpoint, count, usual, Usage(prompt_tokens=worst, completion_tokens=longest))
    turns = job.task.limits.max_turns
    # Every turn is sent all that was said before it.
    grown = (longest * _BYTES_PER_TOKEN + job.task.limits.max_output_chars) * (turns - 1) // 2
    most = Usage(prompt_tokens=turns * (worst + grown), completion_tokens=turns * longest)
    calls = min(turns, _USUAL_TURNS)
    twice = Usage(prompt_tokens=calls * usual.prompt_tokens, completion_tokens=calls * answer)
    return replace(_phase(phase, endpoint, count, twice, most), calls=calls * count)


def _judgements(job: Job, count: int) -> PhaseEstimate:
    judge, samples = job.others[1], list(job.data.val)
    longest_answer = job.task.endpoint.sampling.max_tokens
    answer = min(longest_answer, _usual_answer(samples))
    prompt = _mean([tokens_of(_plain(sample)) for sample in samples]) + answer + _JUDGE_FRAME
    requests = [_request(template, sample, judge) for template in job.start.modules.values() for sample in samples]
    worst = max(upper_bound(request) for request in requests) + (longest_answer + _JUDGE_FRAME) * _BYTES_PER_TOKEN
    usual = Usage(prompt_tokens=round(prompt), completion_tokens=_JUDGE_ANSWER)
    longest = Usage(prompt_tokens=worst, completion_tokens=judge.sampling.max_tokens)
    return _phase("judge", judge, count, usual, longest)


def _proposals(job: Job, config: MIPROConfig, plan: Plan) -> PhaseEstimate:
    """None where there is no search."""
    frame = _PROPOSAL_FRAME + _longest_text(job)
    frame += sum(tokens_of(demo.input) + tokens_of(demo.output) for demo in _demos(job)[:5])
    calls = config.num_candidates * _texts(job) if plan.searched else 0
    worst = (frame + 8 * config.max_instruction_tokens) * _BYTES_PER_TOKEN
    return _writing(job, calls, calls, frame, worst)


def _reflections(job: Job, config: GEPAConfig, plan: Plan) -> PhaseEstimate:
    """One for each text of each rewritten child; the first children need none."""
    texts = _texts(job) if config.component == "all" else min(1, _texts(job))
    most = plan.trials * plan.children
    children = min(most, plan.trials * plan.minibatch // config.usual_rollouts)
    calls = max(0, children - config.rule_candidates * _texts(job)) * texts
    frame, worst = _reflection(job, config.minibatch_size)
    return _writing(job, calls, most * texts, frame, worst)


def _texts_on_demand(job: Job, config: RMIPROConfig, plan: Plan) -> PhaseEstimate:
    """About one text for two trials. Where no reflection gives a text, the proposers are asked in its place."""
    frame, worst = _reflection(job, SHOWN)
    most = config.num_candidates * _texts(job)
    return _writing(job, min(most, plan.trials // 2), most * len(config.sources), frame, worst)


def _reflection(job: Job, records: int) -> tuple[int, int]:
    """Prompt tokens of a reflection on so many rollouts, as expected and at worst."""
    shown = records * (_mean([tokens_of(_plain(sample)) for sample in _samples(job)]) + _USUAL_PROPOSAL)
    frame = _PROPOSAL_FRAME + _longest_text(job) + round(shown)
    told = (3 * records + _REJECTED) * _RECORD_CHARS
    written = len(job.start.modules) * job.settings.max_instruction_tokens
    return frame, (frame + written + told) * _BYTES_PER_TOKEN


def _writing(job: Job, calls: int, most: int, prompt: int, worst: int) -> PhaseEstimate:
    """`calls` for texts, at most `most`. A refused text goes back once: the worst case has two calls for each."""
    usual = Usage(prompt_tokens=prompt, completion_tokens=_USUAL_PROPOSAL)
    longest = Usage(prompt_tokens=worst, completion_tokens=max(job.proposer.sampling.max_tokens, 1024))
    at_most = _phase("propose", job.proposer, 2 * most, usual, longest)
    expected = _phase("propose", job.proposer, calls, usual, longest)
    return replace(expected, worst_tokens=at_most.worst_tokens, worst_usd=at_most.worst_usd)


def _phase(phase: str, endpoint: Endpoint, calls: int, usual: Usage, longest: Usage) -> PhaseEstimate:
    price = price_of(endpoint)
    return PhaseEstimate(
        phase=phase,
        rollouts=0,
        calls=calls,
        tokens=calls * usual.total_tokens,
        worst_tokens=calls * longest.total_tokens,
        usd=_usd(price, usual, calls),
        worst_usd=_usd(price, longest, calls),
    )


def _sum(phase: str, parts: Sequence[PhaseEstimate]) -> PhaseEstimate:
    def usd(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return PhaseEstimate(
        phase=phase,
        rollouts=sum(part.rollouts for part in parts),
        calls=sum(part.calls for part in parts),
        tokens=sum(part.tokens for part in parts),
        worst_tokens=sum(part.worst_tokens for part in parts),
        usd=usd([part.usd for part in parts]),
        worst_usd=usd([part.worst_usd for part in parts]),
    )


def _usd(price: Price | None, usage: Usage, calls: int) -> float | None:
    return None if price is None else Spend(micros=calls * cost_micros(price, usage)).usd


def _request(template: PromptTemplate, sample: Sample, endpoint: Endpoint) -> Request:
    values = {**dict.fromkeys(template.placeholders, ""), **sample.inputs}
    return Request(endpoint=endpoint, messages=render(template, values))


def _samples(job: Job) -> list[Sample]:
    return [*job.data.val, *job.data.test] or list(job.data.train)


def _plain(sample: Sample) -> str:
    return "\n".join(value_text(value) for value in sample.inputs.values())


def _demos(job: Job) -> list[FewShotExample]:
    """Labelled rows as demonstrations; of a program, whose demonstrations are made inside, about what they say."""
    labelled = [sample for sample in job.data.train if sample.ground_truth is not None]
    if len(job.start.modules) == 1:
        return [example_of(job.start.template, sample) for sample in labelled]
    return [FewShotExample(_plain(sample), value_text(sample.ground_truth)) for sample in labelled]


def _longest_text(job: Job) -> int:
    texts = [text for template in job.start.modules.values() for text in (template.system, template.user_template)]
    return max(map(tokens_of, texts))


def _usual_answer(samples: Sequence[Sample]) -> int:
    answers = [tokens_of(value_text(sample.ground_truth)) for sample in samples if sample.ground_truth is not None]
    return round(_mean(answers)) + 2 if answers else 100


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
