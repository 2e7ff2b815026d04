"""GEPA: reflective evolution of the texts of a program (Agrawal et al., arXiv 2507.19457).

`gepa` is the optimizer: a loop over a `Study`. `run_gepa` opens a study for it. What is different from the published
method is said in the page on GEPA in the documentation: children are compared with their parents on paired samples by
a sequential gate (`selection.gate`), and a whole validation pass is paid only in the race of the leaders at the end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rollouts.budget import Budget, Spend
from rollouts.dtypes import Endpoint, EnvironmentFactory, Program, PromptTemplate, Sample, ScoreFn
from rollouts.evaluation import Task
from rollouts.prompt_optimization.bootstrap import demo_sets_of
from rollouts.prompt_optimization.configs import GEPAConfig
from rollouts.prompt_optimization.evolution import Evolution
from rollouts.prompt_optimization.finish import final_check, finalists, result_of
from rollouts.prompt_optimization.objectives import with_objectives
from rollouts.prompt_optimization.offspring import Outcome, with_text
from rollouts.prompt_optimization.opening import closing, open_study
from rollouts.prompt_optimization.operations import crossover_templates, mutate_template, select_elites
from rollouts.prompt_optimization.plan import Plan, make_gepa_plan, paid_plan
from rollouts.prompt_optimization.pool import Member, Pool
from rollouts.prompt_optimization.prepared import prepared
from rollouts.prompt_optimization.proposers import RuleProposer
from rollouts.prompt_optimization.proposers.writing import repeatable
from rollouts.prompt_optimization.reflection import LLMReflector, Reflector
from rollouts.prompt_optimization.selection import Cell, Result, Selector, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.space import ListedSpace
from rollouts.prompt_optimization.splits import Splits
from rollouts.prompt_optimization.study import Study, StudyOptions, cells_of
from rollouts.prompt_optimization.targets import Target, targets_of
from rollouts.prompt_optimization.types import GenerationStats, OptimizationResult, ScoredProgram
from rollouts.prompt_optimization.usual import halfway, usual_candidate

__all__ = ["crossover_templates", "gepa", "mutate_template", "run_gepa", "select_elites"]

_EMBEDDED_TOKENS = 128
_FILLER = 9


async def gepa(
    study: Study, start: Program, data: Splits, config: GEPAConfig, reflector: Reflector
) -> OptimizationResult:
    """Improves `start` on `data` within the study's budget and returns the best program with a verdict."""
    targets = await targets_of(study, start, data.train, config)
    plan = planned(
        config,
        data,
        start,
        study.options.budget,
        usual=lambda program: study.usual_rollout(program, data.train[-1]),
        texts=len(targets),
    )
    data = data.cut(val=plan.val, test=plan.test)
    study.follow(plan, start)

    study.enter("bootstrap")
    half = len(data.test) // 2
    check = [study.spawn(study.evaluate(cells_of(start, data.test[:half]), phase="test", priority=_FILLER))]
    baseline = study.spawn(study.evaluate(cells_of(start, data.val[: plan.baseline]), phase="baseline"))
    demo_sets, attempted = await demo_sets_of(study, start, data.train[: plan.bootstrap], data.train, config)
    plan = plan.without_bootstrap(plan.bootstrap - attempted)
    study.violations.note(start, await baseline)
    evolution = Evolution(study, start, await baseline, targets, reflector, data, config)
    known = study.known(cells_of(start, data.train[:attempted]))
    evolution.seed(await _by_rule(start, targets, config), demo_sets if config.optimize_demos else {}, known)
    pool = evolution.pool

    study.enter("search", children=plan.children)
    history: list[GenerationStats] = []
    evolution.left = plan.trials * plan.minibatch
    while not _ended(study, evolution, config, plan, history):
        children = evolution.plan(plan.trials - len(history), most=plan.children)
        outcomes = await asyncio.gather(*(study.spawn(evolution.attempt(child)) for child in children))
        for outcome in outcomes:
            _tell(study, outcome, *evolution.settle(outcome, len(history) + 1))
        if await evolution.reached(config.target_score):
            study.search_ended = "the target score was reached"
        if not study.stopping or any(outcome.ran for outcome in outcomes):
            history.append(_stats(len(history) + 1, pool, outcomes))
            _report(study, pool, history[-1])

    study.enter("validate")
    check.append(study.spawn(study.evaluate(cells_of(start, data.test[half:]), phase="test", priority=_FILLER)))
    space = ListedSpace([_scored(pool, member) for member in pool.members])
    selector = _race(space, data.val, pool, config)
    winner = await finalists(study, selector, space, data.val, plan)
    study.enter("test")
    scored = any(member.scores for member in pool.members)
    checked = await final_check(study, start, winner.program, data.test, check, config, tried=scored and bool(history))
    population = [space.scored(entry.candidate, entry.mean, entry.n) for entry in selector.ranking()]
    population, front = with_objectives(study, population, data.val, config.objective)
    return result_of(study, start, population, winner, history, checked, val=data.val, front=front)


def planned(
    config: GEPAConfig,
    data: Splits,
    start: Program,
    budget: Budget,
    *,
    usual: Callable[[Program], Spend],
    texts: int,
) -> Plan:
    """The plan of a run from `start` under `budget`, which rewrites so many `texts`; `usual` tells what a rollout of a
    program takes."""
    first = usual(start)
    return paid_plan(
        budget,
        lambda rollouts: make_gepa_plan(config, **data.sizes, rollouts=rollouts),
        first,
        halfway(first, usual(usual_candidate(start, data.train, config))),
        config.generations * texts,
    )


def _ended(
    study: Study, evolution: Evolution, config: GEPAConfig, plan: Plan, history: Sequence[GenerationStats]
) -> bool:
    """Whether no further generation may start; the study is told why."""
    least = config.least_rollouts
    reasons = {
        "all generations were made": len(history) >= config.generations,
        "the rest of the budget is kept for validation and the final check": evolution.left < least
        or not study.affords(plan.finals + least, plan, evolution.pool.incumbent.program),
        "the limit of generations without a better candidate was reached": config.patience is not None
        and _since_better(history) >= config.patience,
    }
    if study.search_ended is None:
        study.search_ended = next((reason for reason, holds in reasons.items() if holds), None)
    return study.stopping or study.search_ended is not None


def _since_better(history: Sequence[GenerationStats]) -> int:
    """Generations since the best estimate last rose."""
    since, best = 0, -math.inf
    for entry in history:
        since = 0 if entry.best_score > best else since + 1
        best = max(best, entry.best_score)
    return since


async def _by_rule(start: Program, targets: Sequence[Target], config: GEPAConfig) -> list[Program]:
    """The first children: rewrites read off the data, which need no model."""
    return [
        with_text(start, target.module, target.part, proposal.text)
        for target in targets
        for proposal in await target.propose([RuleProposer()], config.rule_candidates)
    ]


def _scored(pool: Pool, member: Member) -> ScoredProgram:
    """The member as a candidate of the final race; templates that are new with it bear its name."""
    name, program = f"g{member.number}", member.program
    known = [pool.members[number].program.modules for number in member.parents]
    changed = {
        module: replace(template, id=name, generation=member.generation)
        for module, template in program.modules.items()
        if all(template.digest != modules[module].digest for modules in known)
    }
    return ScoredProgram(
        program=program.with_modules(changed) if member.parents else program,
        score=member.mean,
        n=len(member.scores),
        id=name,
        parents=tuple(f"g{number}" for number in member.parents),
        generation=member.generation,
    )


def _race(space: ListedSpace, val: Sequence[Sample], pool: Pool, config: GEPAConfig) -> Selector:
    """A selector that knows all validation scores so far, for the race of the leaders."""
    scores = [score for member in pool.members for score in member.scores.values()]
    low, high = min([0.0, *scores]), max([1.0, *scores])
    settings = SelectorSettings(seed=config.seed, budget=0, epsilon=None, low=low, high=high)
    selector = make_selector("racing", space.selection_space(val), settings)
    for member in pool.members:
        selector.record([Result(Cell((member.number,), n), score) for n, score in sorted(member.scores.items())])
    return selector


def _stats(number: int, pool: Pool, outcomes: Sequence[Outcome]) -> GenerationStats:
    scores = [score for outcome in outcomes for score in outcome.mine.val.values()]
    mean = sum(scores) / len(scores) if scores else math.nan
    return GenerationStats(number, pool.incumbent.estimate, mean, len(scores))


def _tell(study: Study, outcome: Outcome, member: Member | None, rollouts: int) -> None:
    child, verdict = outcome.child, outcome.verdict
    study.emit(
        "child",
        child=child.number,
        origin=child.kind,
        parents=[f"g{parent.number}" for parent in child.parents],
        parts=[f"{target.module}.{target.part}" for target in child.targets],
        accepted=member is not None,
        id=None if member is None else f"g{member.number}",
        reason=outcome.reason,
        remark=outcome.remark,
        minibatch=outcome.minibatch,
        gap=None if verdict is None else verdict.gap,
        chance=None if verdict is None else verdict.chance,
        scored=len(outcome.mine.val),
        rollouts=rollouts,
    )


def _report(study: Study, pool: Pool, stats: GenerationStats) -> None:
    study.best_score = stats.best_score
    study.emit(
        "trial",
        trial=stats.generation,
        score=None if math.isnan(stats.mean_score) else stats.mean_score,
        scored=stats.num_evaluated,
        best=stats.best_score,
        best_candidate=[pool.incumbent.number],
        members=len(pool.members),
        front=len(pool.front()),
    )


def default_reflector(study: Study, endpoint: Endpoint, seed: int) -> Reflector:
    """The model at `endpoint`; the embedded one rambles, so its answers are kept short, and it is asked with a seed."""
    max_tokens = _EMBEDDED_TOKENS if endpoint.provider == "local" else None
    return LLMReflector(study.generate, repeatable(endpoint, seed), max_tokens=max_tokens, tell=study.proposed)


async def run_gepa(
    initial_template: PromptTemplate | Program,
    config: GEPAConfig,
    dataset: Sequence[dict[str, Any]] | Splits,
    endpoint: Endpoint,
    mutation_endpoint: Endpoint,
    score_fn: ScoreFn,
    environment_factory: EnvironmentFactory | None = None,
    *,
    options: StudyOptions | None = None,
) -> OptimizationResult:
    """Runs GEPA from `initial_template`, a template or a program of several modules, and returns the best one found.

    `mutation_endpoint` is the model that reads what happened and rewrites texts. Everything else, and what is raised,
    as in `run_mipro`. A score with `feedback` tells the reflecting model more than a number does.
    """
    opts = replace(options or StudyOptions(), method="gepa")
    start, data, opts = prepared(initial_template, dataset, config, opts)
    task = Task(endpoint=endpoint, score_fn=score_fn, environment_factory=environment_factory)
    study = open_study(task, [mutation_endpoint], opts)
    reflector = default_reflector(study, mutation_endpoint, config.seed)
    return await closing(study, gepa(study, start, data, config, reflector))
