"""r-MIPRO: a hard budget divided among the modules of a program that need it.

Every round a scheduler decides which module gets the next trials. A trial is a controlled swap: one candidate of one
module against the program of all incumbents, on the same samples. Candidates come from MIPRO's proposers, from GEPA's
reflection and from demonstration sets. `rmipro` is the optimizer: a loop over a `Study`. `run_rmipro` opens a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rollouts.budget import Spend, check_module_budgets
from rollouts.dtypes import (
    Endpoint,
    EnvironmentFactory,
    Program,
    PromptTemplate,
    Sample,
    ScoreFn,
)
from rollouts.errors import ConfigError
from rollouts.evaluation import Task
from rollouts.prompt_optimization.bootstrap import demo_sets_of
from rollouts.prompt_optimization.finish import final_check, finalists, result_of
from rollouts.prompt_optimization.gepa import default_reflector
from rollouts.prompt_optimization.mipro import default_proposers
from rollouts.prompt_optimization.module_limits import check_limits, usual_by_module
from rollouts.prompt_optimization.opening import closing, open_study
from rollouts.prompt_optimization.plan import Plan, affordable, make_plan, paid_plan
from rollouts.prompt_optimization.prepared import prepared
from rollouts.prompt_optimization.rmipro_config import RMIPROConfig
from rollouts.prompt_optimization.scheduling import Swaps, make_scheduler
from rollouts.prompt_optimization.scheduling.credit import bottleneck_table
from rollouts.prompt_optimization.scheduling.trials import Numbers
from rollouts.prompt_optimization.selection import Cell, Result, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.space import ListedSpace
from rollouts.prompt_optimization.splits import Splits, classes_of
from rollouts.prompt_optimization.study import Study, StudyOptions, cells_of
from rollouts.prompt_optimization.swap_costs import Costs
from rollouts.prompt_optimization.swap_search import SwapSearch, without_finals
from rollouts.prompt_optimization.targets import targets_of
from rollouts.prompt_optimization.types import OptimizationResult, ScoredProgram
from rollouts.prompt_optimization.usual import halfway, usual_candidate
from rollouts.prompt_optimization.workshop import Workshop, Writers

__all__ = ["RMIPROConfig", "rmipro", "run_rmipro"]

_FILLER = 9
_FINAL_SHARE = 0.2


async def rmipro(
    study: Study, start: Program, data: Splits, config: RMIPROConfig, writers: Writers
) -> OptimizationResult:
    """Improves `start` on `data` within the study's budgets and returns the best program with a verdict."""
    usual = usual_by_module(study, start, data.train[-1])
    remarks = check_limits(study, start, data.train[-1], usual)
    targets = await targets_of(study, start, data.train, config) if config.optimize_instructions else []
    changed = study.usual_rollout(usual_candidate(start, data.train, config), data.train[-1])
    plan = rmipro_plan(study.options, config, data, usual, changed)
    data = data.cut(val=plan.val, test=plan.test)
    study.follow(plan, start)

    study.enter("bootstrap")
    labels = classes_of(data.val)
    swaps = Swaps(list(start.modules), len(data.val), classes=labels, seed=config.seed, tie_break=config.tie_break)
    first = swaps.order[: plan.baseline]
    baseline = study.spawn(study.evaluate(cells_of(start, [data.val[i] for i in first]), phase="baseline"))
    workshop = Workshop(study, start, targets, writers, swaps, config)
    demo_sets, attempted = await demo_sets_of(study, start, data.train[: plan.bootstrap], data.train, config)
    await workshop.open(demo_sets if config.optimize_demos else {})
    plan = without_finals(plan.without_bootstrap(plan.bootstrap - attempted), _FINAL_SHARE)
    half = len(data.test) // 2
    check = [study.spawn(study.evaluate(cells_of(start, data.test[:half]), phase="test", priority=_FILLER))]
    search = SwapSearch(study, data.train, data.val, config, plan, swaps, workshop, Costs(study, usual))
    for sample, evaluation in zip(first, await baseline, strict=True):
        search.record(swaps.incumbent, sample, evaluation)

    study.enter("search", scheduler=config.scheduler, modules=len(start.modules))
    scheduler = make_scheduler(config.scheduler, swaps.names, samples=len(data.val), seed=config.seed)
    while not search.over():
        allocation = scheduler.allocate(search.state())
        results = await search.run(allocation)
        if not results:
            study.search_ended = study.search_ended or "no module has a candidate left that can be tried"
            break
        scheduler.update(results)
        search.report(allocation, results, swaps.adopt())

    study.enter("validate")
    check.append(study.spawn(study.evaluate(cells_of(start, data.test[half:]), phase="test", priority=_FILLER)))
    winner, population = await _last_race(study, swaps, workshop, data.val, plan, config)
    study.enter("test")
    tried = bool(search.history)
    checked = await final_check(study, start, winner.program, data.test, check, config, tried=tried)
    result = result_of(study, start, population, winner, search.history, checked, val=data.val)
    return _explained(result, config, search, remarks)


def rmipro_plan(
    options: StudyOptions, config: RMIPROConfig, data: Splits, usual: Mapping[str, Spend], changed: Spend
) -> Plan:
    """How the rollouts that all budgets pay for are divided; `usual` as in `usual_by_module`, `changed` is what a
    rollout of a candidate with demonstrations takes."""
    texts = config.num_candidates * len(usual) * len(config.optimize) if config.optimize_instructions else 0
    rollout = Spend(rollouts=1)
    for spend in usual.values():
        rollout = rollout + replace(spend, rollouts=0)
    modules = [affordable(budget, usual[name], 0) for name, budget in options.module_budgets.items()]

    def plan_of(rollouts: int | None) -> Plan:
        known = [count for count in (rollouts, *modules) if count is not None]
        return without_finals(make_plan(config, **data.sizes, rollouts=min(known, default=None)), _FINAL_SHARE)

    mean = halfway(rollout, changed)
    return paid_plan(options.budget, plan_of, rollout, mean, min(texts, _cheap(options, mean)))


def _cheap(options: StudyOptions, rollout: Spend) -> int:
    """So many texts that a tenth of the budget pays for them: they are written on demand."""
    rollouts = affordable(options.budget, rollout, 0)
    return 10**6 if rollouts is None else rollouts // 20


async def _last_race(
    study: Study, swaps: Swaps, workshop: Workshop, val: Sequence[Sample], plan: Plan, config: RMIPROConfig
) -> tuple[ScoredProgram, list[ScoredProgram]]:
    """The start, the incumbents, and the most likely gains race on validation samples; and all that was tried, best
    first."""
    leaders = swaps.leaders(2 * config.top_k)
    look = min(len(val), max(1, plan.finals // (2 * len(leaders))))
    wanted = [(numbers, sample) for numbers in leaders for sample in swaps.order[:look]]
    wanted = [(numbers, sample) for numbers, sample in wanted if sample not in swaps.scores(numbers)]
    if not study.stopping and study.affords(len(wanted), plan, workshop.program(swaps.incumbent)):
        programs = [workshop.program(numbers) for numbers, _ in wanted]
        cells = [cells_of(program, [val[sample]])[0] for program, (_, sample) in zip(programs, wanted, strict=True)]
        plan = replace(plan, finals=max(0, plan.finals - len(cells)))
        scores = {numbers: dict(swaps.scores(numbers)) for numbers in leaders}
        for (numbers, sample), evaluation in zip(wanted, await study.evaluate(cells, phase="validate"), strict=True):
            if evaluation.value is not None:
                scores[numbers][sample] = evaluation.value
    else:
        scores = {}
    start = tuple(0 for _ in swaps.names)
    entrants = list(dict.fromkeys([start, *leaders, *swaps.programs()]))
    space = ListedSpace([_entry(numbers, swaps, workshop) for numbers in entrants])
    known = {numbers: {**swaps.scores(numbers), **scores.get(numbers, {})} for numbers in entrants}
    every = [score for found in known.values() for score in found.values()]
    settings = SelectorSettings(
        seed=config.seed, budget=0, epsilon=None, low=min([0.0, *every]), high=max([1.0, *every])
    )
    selector = make_selector("racing", space.selection_space(val), settings)
    for number, numbers in enumerate(entrants):
        selector.record([Result(Cell((number,), sample), score) for sample, score in sorted(known[numbers].items())])
    winner = await finalists(study, selector, space, val, plan)
    return winner, [space.scored(entry.candidate, entry.mean, entry.n) for entry in selector.ranking()]


def _entry(numbers: Numbers, swaps: Swaps, workshop: Workshop) -> ScoredProgram:
    changed = any(numbers)
    return ScoredProgram(
        program=workshop.program(numbers),
        id="s" + "-".join(map(str, numbers)),
        parents=("s" + "-".join("0" for _ in numbers),) if changed else (),
        generation=int(changed),
    )


def _explained(
    result: OptimizationResult, config: RMIPROConfig, search: SwapSearch, remarks: Sequence[str]
) -> OptimizationResult:
    """The result with what was found out about the modules, and the notes about them."""
    table = [line.to_json() for line in bottleneck_table(search.events)]
    summary: dict[str, Any] = dict(result.details["summary"])
    summary["notes"] = [*summary.get("notes", ()), *remarks, *search.notes()]
    bottleneck = {"scheduler": config.scheduler, "scarcest": search.scarcest, "modules": table}
    return replace(result, details={**result.details, "summary": summary, "bottleneck": bottleneck})


def default_writers(study: Study, endpoint: Endpoint, config: RMIPROConfig) -> Writers:
    """MIPRO's proposers and GEPA's reflection on `endpoint`, as far as `config.sources` names them."""
    return Writers(
        proposers=default_proposers(study, endpoint, config.seed) if "propose" in config.sources else (),
        reflector=default_reflector(study, endpoint, config.seed) if "reflect" in config.sources else None,
    )


async def run_rmipro(  # noqa: PLR0913 - one argument per decision of the caller
    initial: Program | PromptTemplate,
    config: RMIPROConfig,
    dataset: Sequence[dict[str, Any]] | Splits,
    endpoint: Endpoint,
    proposer_endpoint: Endpoint,
    score_fn: ScoreFn,
    environment_factory: EnvironmentFactory | None = None,
    *,
    endpoints: Mapping[str, Endpoint] | None = None,
    options: StudyOptions | None = None,
) -> OptimizationResult:
    """Runs r-MIPRO from `initial` and returns the best program found.

    `endpoints` are those of single modules, with their own prices and limits; `options.module_budgets` is what single
    modules may take. Everything else, and what is raised, as in `run_mipro`. A score with `modules` tells more about
    where the program loses than the swaps alone. `details["bottleneck"]` of the result holds the modules by head-room,
    and where the trials went.
    """
    opts = replace(options or StudyOptions(), method="rmipro")
    start, data, opts = prepared(initial, dataset, config, opts)
    check_module_budgets(opts.module_budgets, start.modules)
    own = dict(endpoints or {})
    unknown = sorted(set(own) - set(start.modules))
    if unknown:
        raise ConfigError(f"an endpoint is given for {unknown[0]!r}, which is no module ({', '.join(start.modules)})")
    make_scheduler(config.scheduler, list(start.modules), samples=len(data.val), seed=config.seed)
    task = Task(endpoint=endpoint, endpoints=own, score_fn=score_fn, environment_factory=environment_factory)
    study = open_study(task, [proposer_endpoint], opts)
    writers = default_writers(study, proposer_endpoint, config)
    return await closing(study, rmipro(study, start, data, config, writers))
