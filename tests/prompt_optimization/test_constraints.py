"""No constraint is broken by what ships; what breaks one costs little and is told; simulated laws of latency."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from rollouts.budget import Constraints
from rollouts.dtypes import (
    Call,
    Evaluation,
    Failure,
    FewShotExample,
    Metric,
    Price,
    Program,
    PromptTemplate,
    Request,
    Response,
    Score,
    Trajectory,
    Usage,
)
from rollouts.errors import CallTimeout, ConfigError
from rollouts.prompt_optimization import MIPROConfig, OptimizationResult
from rollouts.prompt_optimization.constraints import Observed, Violations, breaches, check_modules, unproven
from rollouts.prompt_optimization.selection.finals import Finals
from rollouts.store import MemoryStore
from rollouts.testing import FakeClock
from rollouts.testing.latency import LatencyLaw, log_normal, pareto

from .methods import METHODS, optimized
from .worlds import START, CountingLLM, World, splits, task

PRICE = Price(input=Decimal("0.1"), output=Decimal("0.4"))
SEARCH = MIPROConfig(num_trials=12, num_candidates=8, max_labeled_demos=12, minibatch_size=10)


def run_of(
    latency: float = 0.1, cost: int = 5, *, key: str = "", cut: str | None = None, calls: tuple[Call, ...] = ()
) -> Evaluation:
    failure = None if cut is None else Failure(kind="LatencyCapExceeded", message="", stage="latency", module=cut)
    return Evaluation(
        key=key or str(random.random()),
        program="p",
        sample_id="s",
        score=Score(metrics=(Metric("m", 1.0),)) if failure is None else None,
        failure=failure,
        cost_micros=cost,
        latency_s=latency,
        calls=max(1, len(calls)),
        trajectory=Trajectory(messages=(), output="", calls=calls) if calls else None,
    )


# What observations say.


def test_what_breaks_a_limit_is_told_with_its_numbers() -> None:
    limits = Constraints(max_p95_latency_s=1.0, max_cost_per_call_usd=1e-5)
    bad = Observed(latencies=[0.5] * 10 + [1.5] * 6, costs=[1e-5, 3e-5] * 8)
    assert breaches(limits, bad) == [
        "6 of 16 rollouts took more than 1 s, too many for a 95th percentile below it",
    ]
    dear = breaches(limits, Observed(costs=[2e-5, 3e-5] * 8))
    assert dear == ["$2.5e-05 a rollout (at least $1.91e-05, n = 16) is above $1e-05"]
    assert breaches(limits, Observed()) == []


def test_what_is_not_shown_is_told_with_what_it_takes() -> None:
    limits = Constraints(max_p95_latency_s=1.0)
    assert (
        "30 rollouts of the final check, and 95 % confidence takes 59"
        in unproven(limits, Observed(latencies=[0.1] * 30))[0]
    )
    assert unproven(limits, Observed(latencies=[0.1] * 59)) == []
    assert "up to 2 s" in unproven(limits, Observed(latencies=[0.1] * 58 + [2.0]))[0]
    assert "calls were cut" in unproven(limits, Observed(latencies=[0.1] * 60 + [math.inf]))[0]
    assert unproven(Constraints(max_latency_s=1.0), Observed(latencies=[0.1] * 3)) == [], (
        "cut calls keep that cap by themselves"
    )
    assert unproven(Constraints(max_latency_s=1.0), Observed(latencies=[0.1] + [math.inf] * 5)) != []


def test_a_rollout_counts_once_and_a_finding_is_told_once() -> None:
    violations, program = Violations(Constraints(max_latency_s=1.0)), Program.single(START)
    cut = [run_of(key="a", cut=""), run_of(key="b", cut="")]
    assert violations.note(program, cut[:1] * 9) == ()
    assert violations.note(program, cut) != ()
    assert violations.note(program, [run_of(cut="")]) == ()
    assert violations.cut == {program.digest: 3}
    assert set(violations.infeasible) == {program.digest}


def test_what_shares_every_part_with_slow_ones_is_presumed_slow() -> None:
    violations = Violations(Constraints(max_p95_latency_s=1.0))
    demo = FewShotExample(input="a", output="b")

    def made(system: str, demos: int) -> Program:
        return Program.single(PromptTemplate(system, START.user_template, few_shot_examples=(demo,) * demos))

    for system, demos, latency in (("x", 0, 0.1), ("x", 4, 2.0), ("y", 4, 2.0), ("y", 1, 0.1), ("y", 4, 2.0)):
        violations.note(made(system, demos), [run_of(latency) for _ in range(3)])
    assert violations.presumed(made("y", 4))
    assert not violations.presumed(made("y", 0)), "fast with another text"
    assert not violations.presumed(made("z", 4)), "a text that is not known"
    assert not Violations(Constraints()).presumed(made("y", 4))


def test_failures_of_other_kinds_say_nothing() -> None:
    violations, program = Violations(Constraints(max_p95_latency_s=1.0)), Program.single(START)
    broken = replace(run_of(9.0), score=None, failure=Failure(kind="X", message="", stage="call"))
    assert violations.note(program, [replace(broken, key=str(n)) for n in range(9)]) == ()


def test_modules_are_judged_by_their_own_runs() -> None:
    def call(module: str, latency: float, cost: int = 1, turn: int = 1) -> Call:
        return Call(module=module, usage=Usage(), cost_micros=cost, latency_s=latency, turn=turn)

    program = Program(modules={"a": START, "b": START}, version="1")
    slow = (call("a", 0.1), call("b", 0.4), call("b", 0.3, turn=2), call("a", 0.2))
    limits = Constraints(modules={"a": Constraints(max_p95_latency_s=0.25), "b": Constraints(max_p95_latency_s=0.5)})
    broken = Violations(limits).note(program, [run_of(1.0, calls=slow) for _ in range(5)])
    assert broken == ("module 'b': 5 of 5 rollouts took more than 0.5 s, too many for a 95th percentile below it",)
    dear = Constraints(modules={"a": Constraints(max_cost_per_call_usd=1e-6)})
    assert "module 'a': $2e-06" in Violations(dear).note(program, [run_of(1.0, calls=slow) for _ in range(9)])[0]
    cut = Violations(limits).note(program, [run_of(cut="b") for _ in range(3)])
    assert [text[:10] for text in cut] == ["module 'b'"]


def test_answers_that_were_known_cost_what_they_will_cost_in_use() -> None:
    """Shipped, the program is called where no answer is known: what the search had for nothing counts in full."""
    known = Call(module="a", usage=Usage(), cost_micros=0, saved_micros=9, latency_s=0.1, cached=True)
    fresh = Call(module="b", usage=Usage(), cost_micros=1, latency_s=0.1)
    program = Program(modules={"a": START, "b": START}, version="1")
    runs = [replace(run_of(0.2, calls=(known, fresh)), key=str(n), cost_micros=1) for n in range(9)]
    whole = Violations(Constraints(max_cost_per_call_usd=5e-6)).note(program, runs)
    assert "$1e-05 a rollout" in whole[0]
    module = Constraints(modules={"a": Constraints(max_cost_per_call_usd=5e-6)})
    assert "module 'a': $9e-06 a rollout" in Violations(module).note(program, runs)[0]


def test_an_unknown_module_is_refused_with_the_nearest_name() -> None:
    program = Program(modules={"router": START, "expert": START}, version="1")
    check_modules(Constraints(modules={"router": Constraints(max_latency_s=1)}), program)
    with pytest.raises(ConfigError, match="did you mean 'router'"):
        check_modules(Constraints(modules={"rooter": Constraints()}), program)


# A candidate at the edge, judged as a run does: watched while it is searched, then certified on fresh rollouts.


@pytest.mark.parametrize("law", [log_normal(1.0, 0.5), log_normal(0.3, 1.5), pareto(0.2, 1.2)])
def test_what_ships_keeps_its_cap_as_often_as_the_confidence_says(law: LatencyLaw) -> None:
    rng = random.Random(7)
    shipped_bad = shipped_good = dropped_good = 0
    program, runs = Program.single(START), 400
    for run in range(runs):
        # The cap is the 95th percentile itself, less a hair: none of these candidates may ship.
        share = 0.0505 if run % 2 else 0.005
        violations = Violations(Constraints(max_p95_latency_s=law(1 - share)))
        for _ in range(6):
            violations.note(program, [run_of(law(rng.random())) for _ in range(10)])
        dropped = bool(violations.infeasible)
        fresh = [run_of(law(rng.random())) for _ in range(80)]
        ships = not dropped and not violations.unproven(program, fresh)
        shipped_bad += ships and run % 2 == 1
        shipped_good += ships and run % 2 == 0
        dropped_good += dropped and run % 2 == 0
    assert shipped_bad / runs <= 0.05
    assert shipped_good / (runs / 2) > 0.5
    assert dropped_good / (runs / 2) <= 0.05


# Whole runs.


class Wordy(CountingLLM):
    """Takes longer the more demonstrations it is shown; cut at the cap, as providers do."""

    def __init__(self, clock: FakeClock, law: Callable[[int], LatencyLaw], seed: int = 0) -> None:
        super().__init__(task(), price=PRICE, clock=clock, seed=seed)
        self.clock, self.law, self.rng = clock, law, random.Random(seed)
        self.asked: list[int] = []

    async def complete(self, request: Request) -> Response:
        response = await super().complete(request)
        if request.phase == "propose":
            return response
        demos = len(request.messages) // 2 - 1
        self.asked.append(demos)
        seconds, limit = self.law(demos)(self.rng.random()), request.max_latency_s
        await self.clock.sleep(seconds if limit is None else min(seconds, limit))
        if limit is not None and seconds > limit:
            raise CallTimeout("cut")
        return replace(response, latency_s=seconds)


def heavy(demos: int) -> LatencyLaw:
    return log_normal(0.2 * (1 + demos / 2), 0.6)


def p95(demos: int) -> float:
    return heavy(demos)(0.95)


async def wordy(
    method: str,
    *,
    law: Callable[[int], LatencyLaw] = heavy,
    seed: int = 0,
    data: Any = None,
    config: Any = None,
    store: MemoryStore | None = None,
    **limits: Any,
) -> tuple[OptimizationResult, Wordy, World]:
    world = World(clock=FakeClock(auto=True))
    llm = Wordy(world.clock, law, seed)
    world.llm = llm
    config = config or (replace(SEARCH, seed=seed) if method == "mipro" else None)
    recorded: dict[str, Any] = {} if store is None else {"store": store, "run_id": "r"}
    data = data or splits(40, 60, 80)
    result = await optimized(method, world, config, data=data, constraints=Constraints(**limits), **recorded)
    return result, llm, world


@pytest.mark.parametrize("method", METHODS)
async def test_what_ships_keeps_the_cap_and_what_breaks_it_is_told(method: str) -> None:
    free, _, _ = await wordy(method)
    cap = p95(3)
    result, _, world = await wordy(method, max_p95_latency_s=cap)
    assert free.best_template.few_shot_examples, "the best prompt has many demonstrations"
    assert p95(len(result.best_template.few_shot_examples)) <= cap
    told = world.of("infeasible")
    assert told
    assert all(event["broken"] for event in told)
    assert {event["phase"] for event in told} <= {"search", "validate", "test"}
    violations = result.details["summary"]["violations"]
    assert result.best.program.digest not in violations["infeasible"]
    assert {entry.program.digest for entry in result.population} & set(violations["infeasible"])


@pytest.mark.parametrize("selector", ["racing", "tpe"])
async def test_a_dropped_candidate_takes_no_further_calls(selector: str) -> None:
    stores = MemoryStore(), MemoryStore()
    config = replace(SEARCH, selector=selector)
    free, _, _ = await wordy("mipro", config=config, store=stores[0])
    _, _, world = await wordy("mipro", config=config, store=stores[1], max_p95_latency_s=p95(1))
    dropped = [event["program"] for event in world.of("infeasible") if event["phase"] == "search"]
    assert dropped
    taken = {name: sum(1 for _ in stores[1].scan_rollouts("r", program=name)) for name in dropped}
    most = sum(1 for _ in stores[0].scan_rollouts("r", program=free.best.program.digest))
    under_way = 2 * SEARCH.minibatch_size + 20
    assert max(taken.values()) <= under_way < most


async def test_cut_calls_are_counted_by_candidate() -> None:
    result, _, _ = await wordy("mipro", max_latency_s=p95(0))
    cut = result.details["summary"]["violations"]["cut"]
    assert sum(cut.values()) > 0
    assert any("were cut at their latency cap" in note for note in result.notes)
    assert result.test is not None
    assert len(result.test.baseline) < 80, "a cut rollout has no score"


async def test_a_winner_that_is_not_proven_gives_way_to_the_start() -> None:
    result, _, world = await wordy("mipro", data=splits(40, 60, 40), max_p95_latency_s=1000.0)
    assert result.best_template.digest == START.digest
    assert result.verdict is not None
    assert result.verdict.decision == "keep"
    assert "95 % confidence takes 59" in result.verdict.reason
    assert "no candidate that keeps the constraints is better" in result.verdict.reason
    assert world.of("infeasible")[-1]["phase"] == "test"
    less = Constraints(max_p95_latency_s=1000.0, confidence=0.8)
    assert less.confidence == 0.8
    other, _, _ = await wordy("mipro", data=splits(40, 60, 40), max_p95_latency_s=1000.0, confidence=0.8)
    assert other.best_template.digest != START.digest


@pytest.mark.parametrize("method", METHODS)
async def test_a_start_that_breaks_the_cap_is_told_and_no_other_slow_one_ships(method: str) -> None:
    result, _, _ = await wordy(method, max_p95_latency_s=0.1)
    assert result.best_template.digest == START.digest
    assert result.verdict is not None
    assert result.verdict.decision != "ship"
    assert "the start itself is not shown to keep the constraints: p95 latency" in result.verdict.reason
    assert result.initial.program.digest in result.details["summary"]["violations"]["infeasible"]


async def test_the_front_holds_what_the_constraints_name() -> None:
    result, _, _ = await wordy("mipro", max_p95_latency_s=p95(4), max_cost_per_call_usd=1.0)
    assert result.front
    assert all(set(entry.objectives) == {"cost", "latency"} for entry in result.front)
    for one in result.front:
        for other in result.population:
            assert not (
                (other.score or 0) > (one.score or 0)
                and other.objectives["latency"] < one.objectives["latency"]
                and other.objectives["cost"] < one.objectives["cost"]
            )


async def test_the_length_of_a_modules_prompt_is_its_own() -> None:
    result, llm, _ = await wordy("mipro", modules={"main": Constraints(max_prompt_tokens=60)})
    for template in result.final_population:
        texts = [template.system, *(t for d in template.few_shot_examples for t in (d.input, d.output))]
        assert llm.count_tokens("\n".join(texts)) <= 60


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_module_costs_nothing(method: str) -> None:
    world = World()
    with pytest.raises(ConfigError, match="which is no module of the program"):
        await optimized(method, world, constraints=Constraints(modules={"mian": Constraints(max_latency_s=1)}))
    assert world.llm.calls == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "runs", "least"), [(log_normal, 40, 5), (lambda median, _: pareto(median / 2, 1.5), 120, 3)]
)
async def test_no_shipped_prompt_breaks_its_cap_in_whole_runs(law: Any, runs: int, least: int) -> None:
    broken = shipped = 0
    for seed in range(runs):
        cap = law(0.2 * (1 + seed % 8 / 2), 0.6)(0.95)
        result, _, _ = await wordy(
            "mipro", law=lambda demos: law(0.2 * (1 + demos / 2), 0.6), seed=seed, max_p95_latency_s=cap
        )
        demos = len(result.best_template.few_shot_examples)
        if result.best_template.digest != START.digest:
            shipped += 1
            broken += law(0.2 * (1 + demos / 2), 0.6)(0.95) > cap * (1 + 1e-9)
    assert shipped >= least
    assert broken / runs <= 0.05


def test_a_candidate_that_is_not_feasible_leaves_the_finals() -> None:
    from rollouts.prompt_optimization.selection import Cell, Result, Space, make_selector
    from rollouts.prompt_optimization.selection.settings import SelectorSettings

    selector = make_selector(
        "racing", Space(levels=(9,), samples=10, start=(0,)), SelectorSettings(seed=0, budget=0, epsilon=None)
    )
    selector.record([Result(Cell((n,), 0), 0.1 * n) for n in range(9)])
    barred: set[tuple[int, ...]] = {(8,)}
    finals = Finals(selector, top_k=2, budget=60, feasible=lambda c: c not in barred)
    assert (8,) not in finals.alive
    seen = finals.ask()
    barred.add((7,))
    selector.record([Result(cell, 0.5) for cell in seen])
    finals.halve()
    assert (7,) not in finals.alive
    assert all(cell.candidate not in barred for cell in finals.ask())
