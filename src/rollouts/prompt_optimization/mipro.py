"""MIPRO: joint Bayesian search over the instructions and demonstrations of every module (Opsahl-Ong et al., arXiv
2406.11695).

`mipro` is the optimizer: a loop over a `Study`. `run_mipro` opens a study for it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rollouts.budget import Budget, Spend
from rollouts.datasets import samples_from_dicts
from rollouts.dtypes import (
    Endpoint,
    EnvironmentFactory,
    Program,
    PromptTemplate,
    ScoreFn,
)
from rollouts.evaluation import Task
from rollouts.prompt_optimization.bootstrap import bootstrap_demos, demo_sets_of, rows_to_show
from rollouts.prompt_optimization.configs import MIPROConfig
from rollouts.prompt_optimization.demos import Answers, DemoSet, demo_pool, varied
from rollouts.prompt_optimization.finish import final_check, finalists, result_of
from rollouts.prompt_optimization.objectives import with_objectives
from rollouts.prompt_optimization.opening import closing, open_study, running
from rollouts.prompt_optimization.plan import Plan, make_plan, paid_plan
from rollouts.prompt_optimization.prepared import prepared
from rollouts.prompt_optimization.proposers import LLMProposer, Proposal, Proposer, RuleProposer, Tried
from rollouts.prompt_optimization.proposers.writing import repeatable
from rollouts.prompt_optimization.search import Reproposal, search
from rollouts.prompt_optimization.selection import TRIAL_SELECTORS, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.space import Factor, ProgramSpace
from rollouts.prompt_optimization.splits import Splits
from rollouts.prompt_optimization.study import Study, StudyOptions, cells_of
from rollouts.prompt_optimization.targets import Target, targets_of
from rollouts.prompt_optimization.types import OptimizationResult
from rollouts.prompt_optimization.usual import usual_candidate

__all__ = ["bootstrap_demos", "mipro", "propose_instructions", "run_mipro"]

_EMBEDDED_TOKENS = 96
_TOGETHER = 4
"""Calls of a candidate that follow each other at least: the model has its prompt in its cache then."""
_LEADERS_SHARE = 0.25
"""Of a race among many candidates: for its leaders afterwards, who may have few rows each."""
_LEAST_ROUNDS = 6
_VARIED = 4
_FILLER = 9
"""Priority of certain work that nothing waits for: it fills slots that would be idle."""


async def mipro(
    study: Study, start: Program, data: Splits, config: MIPROConfig, proposers: Sequence[Proposer]
) -> OptimizationResult:
    """Improves `start` on `data` within the study's budget and returns the best program with a verdict."""
    targets = await targets_of(study, start, data.train, config) if config.optimize_instructions else []
    plan = planned(
        config,
        data,
        start,
        study.options.budget,
        slots=study.slots,
        usual=lambda program: study.usual_rollout(program, data.train[-1]),
        texts=len(targets),
    )
    if plan.raced and study.violations.watching:
        plan = plan.with_look()
    data = data.cut(val=plan.val, test=plan.test)
    study.follow(plan, start)

    study.enter("bootstrap")
    baseline = study.spawn(study.evaluate(cells_of(start, data.val[: plan.baseline]), phase="baseline"))
    first_sets = replace(config, num_demo_sets=-(-config.num_demo_sets // config.proposal_rounds))
    (demo_sets, attempted), texts = await asyncio.gather(
        study.spawn(demo_sets_of(study, start, data.train[: plan.bootstrap], data.train, first_sets)),
        study.spawn(_texts(targets, proposers if plan.searched else (), config)),
    )

    plan = plan.without_bootstrap(plan.bootstrap - attempted)
    half = len(data.test) // 2
    check = [study.spawn(study.evaluate(cells_of(start, data.test[:half]), phase="test", priority=_FILLER))]
    rows = rows_to_show(study, start, data.train)
    pools = {name: demo_pool(template, rows, demo_sets[name]) for name, template in start.modules.items()}
    space = ProgramSpace(start, _factors(start, targets, texts, demo_sets), study.fits, study.keeps)
    study.enter("search", instructions=space.levels("system"), demo_sets=space.levels("demos"))
    selector = make_selector(config.selector, space.selection_space(data.val), selector_settings(config, plan))
    reproposal = Reproposal(
        rounds=config.proposal_rounds - 1,
        trials=plan.joining,
        propose=lambda tried, number: _texts(targets, proposers, config, tried, number),
        vary=lambda tried, number: _variants(space, pools, config, tried, number),
        target=config.target_score,
    )
    patience = None if config.patience is None or not plan.raced else config.patience * config.minibatch_size
    history = await search(study, selector, space, data.val, baseline, plan, reproposal, patience)

    study.enter("validate")
    check.append(study.spawn(study.evaluate(cells_of(start, data.test[half:]), phase="test", priority=_FILLER)))
    winner = await finalists(study, selector, space, data.val, plan)
    study.enter("test")
    ranking = selector.ranking()
    tried = any(entry.candidate != space.start for entry in ranking)
    checked = await final_check(study, start, winner.program, data.test, check, config, tried=tried)
    population = [space.scored(entry.candidate, entry.mean, entry.n) for entry in ranking]
    population, front = with_objectives(study, population, data.val)
    return result_of(study, start, population, winner, history, checked, val=data.val, front=front)


def planned(
    config: MIPROConfig,
    data: Splits,
    start: Program,
    budget: Budget,
    *,
    slots: int,
    usual: Callable[[Program], Spend],
    texts: int,
) -> Plan:
    """The plan of a run from `start` under `budget`, which rewrites so many `texts`; `usual` tells what a rollout of a
    program takes."""
    return paid_plan(
        budget,
        partial(mipro_plan, config, data, slots=slots),
        usual(start),
        usual(usual_candidate(start, data.train, config)),
        config.num_candidates * texts,
    )


def mipro_plan(config: MIPROConfig, data: Splits, rollouts: int | None, slots: int) -> Plan:
    """The plan of a run under a cap of `rollouts` (None: no cap), with `slots` of them in flight at once."""
    plan = make_plan(config, **data.sizes, rollouts=rollouts)
    if config.selector in TRIAL_SELECTORS:
        return plan
    leaders = int(plan.searched * _LEADERS_SHARE) if config.selector == "racing" else 0
    return plan.in_rounds(max(_TOGETHER, min(slots // 2, (plan.searched - leaders) // _LEAST_ROUNDS)), leaders=leaders)


def selector_settings(config: MIPROConfig, plan: Plan) -> SelectorSettings:
    """What the selector of a run is told: its share of the plan, and when to end."""
    return SelectorSettings(
        seed=config.seed,
        trials=plan.trials,
        minibatch=plan.minibatch,
        full_every=config.full_eval_every,
        patience=config.patience,
        target=config.target_score,
        budget=None if config.selector in TRIAL_SELECTORS else plan.trials * plan.minibatch,
        together=_TOGETHER,
    )


async def _texts(
    targets: Sequence[Target],
    proposers: Sequence[Proposer],
    config: MIPROConfig,
    tried: Mapping[int, Sequence[Tried]] | None = None,
    number: int = 0,
) -> list[list[Proposal]]:
    """New texts for every target. The first round gets its share of the candidates, later rounds divide the rest."""
    rounds = config.proposal_rounds
    count = config.num_candidates // rounds if number else -(-config.num_candidates // rounds)
    return await asyncio.gather(
        *(
            target.propose(proposers, count, tried=(tried or {}).get(index, ()), number=number)
            for index, target in enumerate(targets)
        )
    )


def _variants(
    space: ProgramSpace,
    pools: Mapping[str, Answers],
    config: MIPROConfig,
    tried: Mapping[int, Sequence[int]],
    number: int,
) -> dict[int, list[tuple[DemoSet, int]]]:
    """More demonstration sets: the best ones so far, each with half of it exchanged, and the level of that one. The
    first round made its share of all sets; later rounds divide the rest."""
    if not config.optimize_demos:
        return {}
    rng = random.Random(f"rollouts-variants-{config.seed}-{number}")
    out: dict[int, list[tuple[DemoSet, int]]] = {}
    for factor, levels in tried.items():
        entries = [(entry, level) for level in levels if (entry := space.demo_set(factor, level)) and entry.examples]
        known = {entry.examples for entry in space.factors[factor].levels if isinstance(entry, DemoSet)}
        made = out[factor] = []
        for turn in range(config.num_demo_sets // config.proposal_rounds if entries else 0):
            best, level = entries[:_VARIED][turn % min(_VARIED, len(entries))]
            entry = varied(best, pools[space.factors[factor].module], rng)
            if entry is not None and entry.examples not in known:
                known.add(entry.examples)
                made.append((entry, level))
    return out


def _factors(
    start: Program,
    targets: Sequence[Target],
    texts: Sequence[Sequence[Proposal]],
    demo_sets: Mapping[str, list[DemoSet]],
) -> list[Factor]:
    """One factor per text, in the order of `targets`, then one per module's demonstrations."""
    out = [
        Factor(
            module=target.module,
            part=target.part,
            levels=[Proposal(text=target.context.text, source="start"), *proposals],
        )
        for target, proposals in zip(targets, texts, strict=True)
    ]
    return out + [Factor(module=name, part="demos", levels=list(demo_sets[name])) for name in start.modules]


def default_proposers(study: Study, endpoint: Endpoint, seed: int) -> list[Proposer]:
    """Rules read off the data, and the model at `endpoint`.

    The embedded model rambles, so its answers are kept short; and it is asked with a seed, so that a run repeats.
    """
    max_tokens = _EMBEDDED_TOKENS if endpoint.provider == "local" else None
    own = repeatable(endpoint, seed)
    return [
        RuleProposer(),
        LLMProposer(study.generate, own, seed=seed, max_tokens=max_tokens, tell=study.proposed),
    ]


async def propose_instructions(
    template: PromptTemplate,
    dataset: Sequence[dict[str, Any]],
    endpoint: Endpoint,
    num_candidates: int,
    *,
    options: StudyOptions | None = None,
) -> list[str]:
    """Up to `num_candidates` instruction variants, by rule and by the model at `endpoint`, all checked."""
    rows = samples_from_dicts(dataset, template.placeholders)
    opts = replace(options or StudyOptions(), method="propose")
    async with running(_unscored(endpoint), [endpoint], opts) as study:
        (target,) = await targets_of(study, Program.single(template), rows, MIPROConfig())
        proposals = await target.propose(default_proposers(study, endpoint, seed=0), num_candidates)
    return [proposal.text for proposal in proposals]


def _unscored(endpoint: Endpoint) -> Task:
    return Task(endpoint=endpoint, score_fn=lambda trajectory, sample: 0.0, metric_id="none")


async def run_mipro(
    initial_template: PromptTemplate | Program,
    config: MIPROConfig,
    dataset: Sequence[dict[str, Any]] | Splits,
    endpoint: Endpoint,
    proposer_endpoint: Endpoint,
    score_fn: ScoreFn,
    environment_factory: EnvironmentFactory | None = None,
    *,
    options: StudyOptions | None = None,
) -> OptimizationResult:
    """Runs MIPRO from `initial_template`, a template or a program of several modules, and returns the best one found.

    `dataset` is a sequence of dicts, split by the config's indices or by its seed, or ready `Splits`. The ground truth
    is the column that no placeholder uses (see `rollouts.datasets.samples_from_dicts`). `options` holds budget, store,
    slots and the rest. Whatever happens, what was paid for is in the store.

    Raises ConfigError, DataError and TemplateError before anything is spent; TooManyFailures and the final
    ProviderErrors when the run is broken; StoreError. An exhausted budget is no error: the best so far is returned.
    """
    start, data, opts = prepared(initial_template, dataset, config, options or StudyOptions())
    task = Task(endpoint=endpoint, score_fn=score_fn, environment_factory=environment_factory)
    study = open_study(task, [proposer_endpoint], opts)
    return await closing(
        study, mipro(study, start, data, config, default_proposers(study, proposer_endpoint, config.seed))
    )
