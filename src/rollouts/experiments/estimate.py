"""What a job will take, told before anything is spent: rollouts, calls, tokens and dollars by phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import Endpoint, FewShotExample, Price, PromptTemplate, Request, Sample, Usage, render
from rollouts.experiments.job import Job
from rollouts.llm.keys import key_of
from rollouts.llm.pricing import cost_micros, price_of, require_price
from rollouts.llm.tokens import estimate as tokens_of
from rollouts.llm.tokens import upper_bound
from rollouts.prompt_optimization.demos import example_of
from rollouts.prompt_optimization.plan import Plan, affordable, make_plan

_USUAL_DEMOS = 0.5
"""Demonstration sets come in several sizes; half of the largest is about the mean of a search."""
_USUAL_PROPOSAL = 150
_JUDGE_FRAME = 150
_JUDGE_ANSWER = 60
_PROPOSAL_FRAME = 400
_BYTES_PER_TOKEN = 4


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

        def usd(values: Sequence[float | None]) -> float | None:
            known = [value for value in values if value is not None]
            return sum(known) if len(known) == len(values) else None

        return PhaseEstimate(
            phase="total",
            rollouts=sum(phase.rollouts for phase in self.phases),
            calls=sum(phase.calls for phase in self.phases),
            tokens=sum(phase.tokens for phase in self.phases),
            worst_tokens=sum(phase.worst_tokens for phase in self.phases),
            usd=usd([phase.usd for phase in self.phases]),
            worst_usd=usd([phase.worst_usd for phase in self.phases]),
        )

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
    """
    config, data = job.settings, job.data
    plan = make_plan(
        config,
        train=len(data.train),
        val=len(data.val),
        test=len(data.test),
        rollouts=affordable(job.options.budget, _usual_rollout(job), config.num_candidates),
    )
    phases = [
        _rollouts(job, "baseline", plan.baseline, 0.0),
        _rollouts(job, "bootstrap", plan.bootstrap, 0.0),
        _rollouts(job, "search", plan.trials * plan.minibatch, _USUAL_DEMOS),
        _rollouts(job, "validate", plan.finals, _USUAL_DEMOS),
        _rollouts(job, "test", 2 * plan.test, _USUAL_DEMOS / 2),
    ]
    if len(job.others) > 1:
        phases.append(_judgements(job, plan.total))
    if config.optimize_instructions and config.num_candidates:
        phases.append(_proposals(job))
    return Estimate(plan=plan, phases=tuple(phase for phase in phases if phase.calls))


def _usual_rollout(job: Job) -> Spend:
    usual = _rollouts(job, "search", 1, _USUAL_DEMOS)
    judged = 1 + (len(job.others) > 1)
    return Spend(tokens=usual.tokens, micros=round(1e6 * (usual.usd or 0)), calls=judged, rollouts=1)


def check_models(job: Job) -> list[str]:
    """What would keep the job's models from being called: a missing key, an unknown price under a cap on money."""
    problems: list[str] = []
    for endpoint in dict.fromkeys((job.task.endpoint, *job.others)):
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
    endpoint, samples = job.task.endpoint, [*job.data.val, *job.data.test] or list(job.data.train)
    config = job.settings
    most_demos = config.max_labeled_demos + config.max_bootstrapped_demos if config.optimize_demos else 0
    shown = _demos(job)
    usual_demo = _mean([tokens_of(demo.input) + tokens_of(demo.output) for demo in shown])
    widest = max((len((demo.input + demo.output).encode()) for demo in shown), default=0)
    prompts = [_request(job.template, sample, endpoint) for sample in samples]
    prompt = _mean([sum(tokens_of(message.content) for message in request.messages) for request in prompts])
    answer = min(endpoint.sampling.max_tokens, _usual_answer(samples))
    worst = max(upper_bound(request) for request in prompts) + endpoint.sampling.max_tokens
    if demo_share:
        worst += most_demos * (widest + 32) + config.max_instruction_tokens * _BYTES_PER_TOKEN
    usual = Usage(prompt_tokens=round(prompt + demo_share * most_demos * usual_demo), completion_tokens=answer)
    longest = Usage(prompt_tokens=worst - endpoint.sampling.max_tokens, completion_tokens=endpoint.sampling.max_tokens)
    return _phase(phase, endpoint, count, usual, longest, rollouts=count)


def _judgements(job: Job, count: int) -> PhaseEstimate:
    judge = job.others[1]
    requests = [_request(job.template, sample, judge) for sample in job.data.val]
    rows = [sum(tokens_of(str(value)) for value in sample.inputs.values()) for sample in job.data.val]
    answer = min(job.task.endpoint.sampling.max_tokens, _usual_answer(job.data.val))
    usual = Usage(prompt_tokens=round(_mean(rows)) + answer + _JUDGE_FRAME, completion_tokens=_JUDGE_ANSWER)
    longest = Usage(
        prompt_tokens=max(upper_bound(request) for request in requests)
        + job.task.endpoint.sampling.max_tokens * _BYTES_PER_TOKEN
        + _JUDGE_FRAME * _BYTES_PER_TOKEN,
        completion_tokens=judge.sampling.max_tokens,
    )
    return _phase("judge", judge, count, usual, longest)


def _proposals(job: Job) -> PhaseEstimate:
    config, proposer = job.settings, job.proposer
    frame = _PROPOSAL_FRAME + tokens_of(job.template.system)
    frame += sum(tokens_of(demo.input) + tokens_of(demo.output) for demo in _demos(job)[:5])
    usual = Usage(prompt_tokens=frame, completion_tokens=_USUAL_PROPOSAL)
    tried = 8 * config.max_instruction_tokens
    longest = Usage(
        prompt_tokens=(frame + tried) * _BYTES_PER_TOKEN, completion_tokens=max(proposer.sampling.max_tokens, 512)
    )
    # A refused proposal goes back once: the worst case has two calls for each.
    once = _phase("propose", proposer, config.num_candidates, usual, longest)
    worst_usd = None if once.worst_usd is None else 2 * once.worst_usd
    return PhaseEstimate(
        **{**asdict(once), "phase": "propose", "worst_tokens": 2 * once.worst_tokens, "worst_usd": worst_usd}
    )


def _phase(
    phase: str, endpoint: Endpoint, calls: int, usual: Usage, longest: Usage, *, rollouts: int = 0
) -> PhaseEstimate:
    price = price_of(endpoint)
    return PhaseEstimate(
        phase=phase,
        rollouts=rollouts,
        calls=calls,
        tokens=calls * usual.total_tokens,
        worst_tokens=calls * longest.total_tokens,
        usd=_usd(price, usual, calls),
        worst_usd=_usd(price, longest, calls),
    )


def _usd(price: Price | None, usage: Usage, calls: int) -> float | None:
    return None if price is None else Spend(micros=calls * cost_micros(price, usage)).usd


def _request(template: PromptTemplate, sample: Sample, endpoint: Endpoint) -> Request:
    return Request(endpoint=endpoint, messages=render(template, sample.inputs))


def _demos(job: Job) -> list[FewShotExample]:
    return [example_of(job.template, sample) for sample in job.data.train if sample.ground_truth is not None]


def _usual_answer(samples: Sequence[Sample]) -> int:
    answers = [tokens_of(str(sample.ground_truth)) for sample in samples if sample.ground_truth is not None]
    return round(_mean(answers)) + 2 if answers else 100


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
