"""MIPRO: joint Bayesian search over instructions and demonstrations (Opsahl-Ong et al., arXiv 2406.11695).

`mipro` is the optimizer: a loop over a `Study`. `run_mipro` opens a study for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rollouts.budget import Spend
from rollouts.datasets import describe
from rollouts.dtypes import (
    Endpoint,
    EnvironmentFactory,
    Program,
    PromptTemplate,
    Sample,
    ScoreFn,
    fill,
)
from rollouts.evaluation import Cell, Task
from rollouts.prompt_optimization.bootstrap import bootstrap_demos, collect_successes
from rollouts.prompt_optimization.demos import DemoLimits, DemoSet, build_demo_sets, example_of
from rollouts.prompt_optimization.finish import final_check, finalists, result_of
from rollouts.prompt_optimization.plan import Plan, affordable, make_plan
from rollouts.prompt_optimization.proposers import (
    InstructionGuard,
    LLMProposer,
    Proposal,
    ProposalContext,
    Proposer,
    RuleProposer,
    propose,
)
from rollouts.prompt_optimization.search import Reproposal, search
from rollouts.prompt_optimization.selection import make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.space import PromptSpace
from rollouts.prompt_optimization.splits import Splits, split_dataset
from rollouts.prompt_optimization.study import Study, StudyOptions, open_study, running
from rollouts.prompt_optimization.types import MIPROConfig, OptimizationResult

__all__ = ["bootstrap_demos", "mipro", "propose_instructions", "run_mipro"]

_EMBEDDED_TOKENS = 96
_FILLER = 9
"""Priority of certain work that nothing waits for: it fills slots that would be idle."""


async def mipro(
    study: Study, start: PromptTemplate, data: Splits, config: MIPROConfig, proposers: Sequence[Proposer]
) -> OptimizationResult:
    """Improves `start` on `data` within the study's budget and returns the best prompt with a verdict."""
    plan = make_plan(
        config,
        train=len(data.train),
        val=len(data.val),
        test=len(data.test),
        rollouts=affordable(study.options.budget, _usual(study, start, data.train, config), config.num_candidates),
    )
    data = replace(data, val=data.val[: plan.val], test=data.test[: plan.test])
    study.emit("plan", **plan.to_json())

    study.enter("bootstrap")
    baseline = study.spawn(study.evaluate(_cells(start, data.val[: plan.baseline]), phase="baseline"))
    guard, context = _grounding(study, start, data, config)
    (demo_sets, attempted), instructions = await asyncio.gather(
        study.spawn(_demo_sets(study, start, data.train[: plan.bootstrap], data.train, config)),
        study.spawn(_instructions(proposers, context, config, guard, first=True)),
    )

    plan = plan.without_bootstrap(plan.bootstrap - attempted)
    half = len(data.test) // 2
    check = [study.spawn(study.evaluate(_cells(start, data.test[:half]), phase="test", priority=_FILLER))]
    study.enter("search", instructions=len(instructions) + 1, demo_sets=len(demo_sets))
    space = PromptSpace(start, instructions, demo_sets, study.fits)
    selector = make_selector(config.selector, space.selection_space(len(data.val)), _settings(config, plan))
    reproposal = Reproposal(
        rounds=config.proposal_rounds - 1 if config.optimize_instructions else 0,
        trials=plan.trials,
        propose=lambda tried, number: _instructions(
            proposers, replace(context, tried=tried, round=number), config, guard, first=False
        ),
    )
    history = await search(study, selector, space, data.val, baseline, plan, reproposal)

    study.enter("validate")
    check.append(study.spawn(study.evaluate(_cells(start, data.test[half:]), phase="test", priority=_FILLER)))
    winner = await finalists(study, selector, space, data.val, plan)
    study.enter("test")
    report, decision = await final_check(study, start, winner, data.test, check, config, tried=bool(history))
    return result_of(study, space, selector, winner, history, report, decision)


def _cells(template: PromptTemplate, samples: Sequence[Sample]) -> list[Cell]:
    program = Program.single(template)
    return [Cell(program, sample) for sample in samples]


def _usual(study: Study, start: PromptTemplate, train: Sequence[Sample], config: MIPROConfig) -> Spend:
    """What a rollout of a typical candidate takes: the start with as many demonstrations as are allowed."""
    shown = [sample for sample in train if sample.ground_truth is not None] if config.optimize_demos else []
    demos = tuple(example_of(start, sample) for sample in shown[: config.max_labeled_demos])
    return study.usual_rollout(start.replace(few_shot_examples=demos or start.few_shot_examples), train[-1])


def _settings(config: MIPROConfig, plan: Plan) -> SelectorSettings:
    return SelectorSettings(
        seed=config.seed,
        trials=plan.trials,
        minibatch=plan.minibatch,
        full_every=config.full_eval_every,
        patience=config.patience,
        target=config.target_score,
    )


def _grounding(
    study: Study, start: PromptTemplate, data: Splits, config: MIPROConfig
) -> tuple[InstructionGuard, ProposalContext]:
    """What proposals see, and what they must satisfy. Only training rows are ever shown."""
    inputs = [fill(start.user_template, sample.inputs) for sample in data.train]
    guard = InstructionGuard(
        start,
        frozen_spans=config.frozen_spans,
        max_tokens=config.max_instruction_tokens,
        count_tokens=study.count_tokens,
        inputs=inputs,
    )
    guard.remember(start.system)
    labelled = [sample for sample in data.train if sample.ground_truth is not None]
    context = ProposalContext(
        template=start,
        summary=describe(data.train),
        examples=[example_of(start, sample) for sample in labelled[:5]],
        check=guard,
        description=config.description,
        frozen_spans=config.frozen_spans,
        max_tokens=config.max_instruction_tokens,
    )
    return guard, context


async def _demo_sets(
    study: Study, start: PromptTemplate, attempts: Sequence[Sample], train: Sequence[Sample], config: MIPROConfig
) -> tuple[list[DemoSet], int]:
    if not config.optimize_demos:
        return [DemoSet(source="own" if start.few_shot_examples else "none", examples=start.few_shot_examples)], 0
    successes, attempted = await collect_successes(study, start, attempts, config.bootstrap_threshold)
    limits = DemoLimits(
        bootstrapped=config.max_bootstrapped_demos, labelled=config.max_labeled_demos, sets=config.num_demo_sets
    )
    sets = build_demo_sets(start, train, successes, limits, seed=config.seed)
    study.emit("demo_sets", sources=[entry.source for entry in sets], successes=len(successes))
    return sets, attempted


async def _instructions(
    proposers: Sequence[Proposer],
    context: ProposalContext,
    config: MIPROConfig,
    guard: InstructionGuard,
    *,
    first: bool,
) -> list[Proposal]:
    """The first round gets its share of the candidates, later rounds divide the rest."""
    if not config.optimize_instructions:
        return []
    rounds = config.proposal_rounds
    count = -(-config.num_candidates // rounds) if first else config.num_candidates // rounds
    return await propose(proposers, context, count, guard)


def default_proposers(study: Study, endpoint: Endpoint, seed: int) -> list[Proposer]:
    """Rules read off the data, and the model at `endpoint`.

    The embedded model rambles, so its answers are kept short; and it is asked with a seed, so that a run repeats.
    """
    max_tokens = None
    if endpoint.provider == "local":
        max_tokens = _EMBEDDED_TOKENS
        if endpoint.sampling.seed is None:
            endpoint = endpoint.with_sampling(seed=seed)
    return [RuleProposer(), LLMProposer(study.generate, endpoint, seed=seed, max_tokens=max_tokens)]


async def propose_instructions(
    template: PromptTemplate,
    dataset: Sequence[dict[str, Any]],
    endpoint: Endpoint,
    num_candidates: int,
    *,
    options: StudyOptions | None = None,
) -> list[str]:
    """Up to `num_candidates` instruction variants, by rule and by the model at `endpoint`, all checked."""
    config = MIPROConfig(num_candidates=num_candidates, proposal_rounds=1)
    data = Splits(train=split_dataset(template, dataset, config, whole=True).train)
    opts = replace(options or StudyOptions(), method="propose")
    async with running(_unscored(endpoint), [endpoint], opts) as study:
        guard, context = _grounding(study, template, data, config)
        proposals = await propose(default_proposers(study, endpoint, config.seed), context, num_candidates, guard)
    return [proposal.text for proposal in proposals]


def _unscored(endpoint: Endpoint) -> Task:
    return Task(endpoint=endpoint, score_fn=lambda trajectory, sample: 0.0, metric_id="none")


async def run_mipro(
    initial_template: PromptTemplate,
    config: MIPROConfig,
    dataset: Sequence[dict[str, Any]] | Splits,
    endpoint: Endpoint,
    proposer_endpoint: Endpoint,
    score_fn: ScoreFn,
    environment_factory: EnvironmentFactory | None = None,
    *,
    options: StudyOptions | None = None,
) -> OptimizationResult:
    """Runs MIPRO from `initial_template` on `dataset` and returns the best prompt found.

    `dataset` is a sequence of dicts, split by the config's indices or by its seed, or ready `Splits`. The ground truth
    is the column that no placeholder uses (see `rollouts.datasets.samples_from_dicts`). `options` holds budget, store,
    slots and the rest. Whatever happens, what was paid for is in the store.

    Raises ConfigError, DataError and TemplateError before anything is spent; TooManyFailures and the final
    ProviderErrors when the run is broken; StoreError. An exhausted budget is no error: the best so far is returned.
    """
    data = dataset if isinstance(dataset, Splits) else split_dataset(initial_template, dataset, config)
    data.check(initial_template)
    opts = options or StudyOptions()
    if opts.slots is None:
        opts = replace(opts, slots=config.max_concurrent)
    task = Task(endpoint=endpoint, score_fn=score_fn, environment_factory=environment_factory)
    study = open_study(task, [proposer_endpoint], opts)
    return await run_study(study, initial_template, data, config, proposer_endpoint)


async def run_study(
    study: Study, start: PromptTemplate, data: Splits, config: MIPROConfig, proposer_endpoint: Endpoint
) -> OptimizationResult:
    """`mipro` with the usual proposers on an open study, which it closes however it ends."""
    try:
        result = await mipro(study, start, data, config, default_proposers(study, proposer_endpoint, config.seed))
    except BaseException as error:
        await study.close_after(error)
        raise
    await study.close("stopped" if study.stopping else "done", result.details["summary"])
    return result
