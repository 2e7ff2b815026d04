"""What must hold for every optimizer, as a numbered list. MIPRO and GEPA both run through it.

 1  The spend in the ledger is what the provider counted, and what the result and the store say.
 2  No request is paid twice.
 3  No cap is passed, at any concurrency, and the best so far is returned.
 4  The winner is never worse than the start on validation.
 5  Lineage is acyclic: parents are known, and come earlier.
 6  Acceptance is as the gate says, and every rejection has a reason (GEPA).
 7  A replay over a full store makes no call and ends alike.
 8  A seed gives the same run, whatever the latencies, the order of arrival and the hash seed.
 9  A run that dies at any recorded step goes on, pays again only for what was in flight, and ends alike.
10  A stop returns the best so far.
11  No row of validation or test is shown to a model as an example.
12  A failed call is no score.
13  The result can be saved and read back.
14  No instruction copies a training row.
15  A demonstration shows one answer, as a model would write it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import Price, PromptTemplate, Request, Response
from rollouts.errors import ProviderUnavailable, StoreError
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    RMIPROConfig,
    StudyOptions,
    run_gepa,
    run_mipro,
    run_rmipro,
)
from rollouts.store import MemoryStore, open_store
from rollouts.testing import FakeClock, FaultyStore, ScriptedLLM, SimulatedLLM
from rollouts.testing.latency import log_normal, pareto

from .methods import METHODS, SMALL_GEPA, optimized, small
from .worlds import ENDPOINT, START, World, splits, told

PRICE = Price(input=Decimal("0.1"), output=Decimal("0.4"))
TINY = {"data": splits(12, 12, 14), "slots": 4}

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]

both = pytest.mark.parametrize("method", METHODS)


@both
@pytest.mark.parametrize("slots", [1, 32])
async def test_1_2_every_call_is_accounted_for_and_none_is_paid_twice(method: str, slots: int) -> None:
    world, store = World(price=PRICE), MemoryStore()
    result = await optimized(method, world, store=store, run_id="r", slots=slots)
    spend = result.spend
    assert (spend.calls, spend.tokens, spend.micros) == (world.llm.calls, world.llm.tokens, world.llm.micros)
    assert sum(part.calls for part in result.spend_by_phase.values()) == spend.calls
    assert sum(part.rollouts for part in result.spend_by_phase.values()) == spend.rollouts
    assert len(world.llm.keys) == len(set(world.llm.keys))
    run = store.run("r")
    assert (run.authorised["calls"], run.authorised["micros"]) == (spend.calls, spend.micros)
    assert sum(1 for _ in store.scan_rollouts("r")) == spend.rollouts


_MORE: list[dict[str, Any]] = [
    *({"max_rollouts": n} for n in (2, 3, 5, 12, 17, 23)),
    *({"max_calls": n} for n in (0, 1, 60)),
    *({"max_tokens": n} for n in (0, 9000)),
    *({"max_cost_usd": usd} for usd in ("0", "0.001")),
    {"max_rollouts": 200},
]
BUDGETS = [
    *({"max_rollouts": n} for n in (0, 1, 8, 30, 75)),
    *({"max_calls": 9}, {"max_tokens": 900}, {"max_cost_usd": "0.00003"}),
    {"max_rollouts": 120, "max_calls": 100, "max_tokens": 9000},
    *(pytest.param(caps, marks=pytest.mark.slow) for caps in _MORE),
]


@both
@pytest.mark.parametrize("caps", BUDGETS, ids=lambda caps: "-".join(f"{k}={v}" for k, v in caps.items()))
async def test_3_no_cap_is_passed_and_the_best_so_far_is_returned(method: str, caps: dict[str, Any]) -> None:
    world, budget = World(price=PRICE), Budget(**caps)
    result = await optimized(method, world, budget=budget, slots=16)
    spend = result.spend
    assert (spend.calls, spend.tokens, spend.micros) == (world.llm.calls, world.llm.tokens, world.llm.micros)
    for cap, taken in (
        (budget.max_rollouts, spend.rollouts),
        (budget.max_calls, spend.calls),
        (budget.max_tokens, spend.tokens),
        (budget.max_micros, spend.micros),
    ):
        assert cap is None or taken <= cap
    assert result.verdict is not None
    assert result.stop_reason
    assert result.best_template.user_template == START.user_template


@both
async def test_3_the_wall_clock_is_a_cap(method: str) -> None:
    clock = FakeClock(auto=True)
    world = World(latency=lambda unit: 1.0, clock=clock)
    result = await optimized(method, world, budget=Budget(max_seconds=20))
    assert clock.now() <= 21
    assert result.best_template is not None


@both
@pytest.mark.parametrize("seed", SEEDS)
async def test_4_the_winner_is_never_worse_than_the_start(method: str, seed: int) -> None:
    law = {"labels_named": -1.0, "demos": -1.0, "balance": 0.0, "nearness": 0.0, "chatty": 0.0, "phrase_rate": 0.0}
    world = World(seed=seed, law=law)
    result = await optimized(method, world, replace(small(method), seed=seed))
    assert result.best.score is not None
    assert result.initial.score is not None
    assert result.best.score >= result.initial.score


@both
@pytest.mark.parametrize("seed", SEEDS)
async def test_5_lineage_is_acyclic(method: str, seed: int) -> None:
    result = await optimized(method, World(seed=seed), replace(small(method), seed=seed))
    entries = {entry.id: entry for entry in result.population}
    assert len(entries) == len(result.population) > 1
    assert len({entry.program.digest for entry in result.population}) == len(entries)
    roots = [entry for entry in result.population if not entry.parents]
    assert [entry.program.digest for entry in roots] == [result.initial.program.digest]
    for entry in result.population:
        for parent in entry.parents:
            assert entries[parent].generation < entry.generation
    assert result.best.id in entries


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rollouts", [None, 250])
async def test_6_acceptance_is_as_the_gate_says(seed: int, rollouts: int | None) -> None:
    world = World(seed=seed)
    config = replace(SMALL_GEPA, seed=seed)
    result = await optimized("gepa", world, config, budget=Budget(max_rollouts=rollouts))
    events = world.of("child")
    assert [event["child"] for event in events] == list(range(1, len(events) + 1))
    names = {entry.id for entry in result.population}
    assert {event["id"] for event in events if event["accepted"]} | {"g0"} == names
    for event in events:
        assert event["accepted"] == (event["id"] is not None) == (not event["reason"])
        assert set(event["parents"]) <= names
        if event["accepted"]:
            assert event["gap"] > 0
            assert event["scored"] > 0
        if event["origin"] == "mutation" and event["accepted"] and event["minibatch"]:
            before, after = event["minibatch"]
            assert after > before
    assert sum(event["rollouts"] for event in events) == result.spend_by_phase["search"].rollouts


@both
@pytest.mark.parametrize("caps", [pytest.param({}, marks=pytest.mark.slow), {"max_rollouts": 150}])
async def test_7_a_replay_makes_no_call(tmp_path: Path, method: str, caps: dict[str, Any]) -> None:
    store = open_store(tmp_path / "s.db")
    first, again = World(), World()
    before = await optimized(method, first, store=store, budget=Budget(**caps))
    after = await optimized(method, again, store=store, budget=Budget(**caps))
    store.close()
    assert again.llm.calls == 0
    assert after.spend.rollouts == 0
    assert told(after) == told(before)


@both
@pytest.mark.parametrize("caps", [pytest.param({}, marks=pytest.mark.slow), {"max_rollouts": 150}])
async def test_8_latency_and_arrival_order_change_nothing(method: str, caps: dict[str, Any]) -> None:
    outcomes = []
    for law in (None, log_normal(1.0, 1.5), pareto(0.2, 1.1), lambda unit: 5.0 * (1 - unit)):
        world = World(latency=law, clock=FakeClock(auto=True))
        result = await optimized(method, world, budget=Budget(**caps))
        outcomes.append((told(result), [dict(event) for event in (*world.of("trial"), *world.of("child"))]))
    assert all(outcome == outcomes[0] for outcome in outcomes)


async def test_8_slots_change_nothing_for_gepa() -> None:
    results = [await optimized("gepa", World(), data=splits(12, 12, 14), slots=slots) for slots in (1, 7, 64)]
    assert told(results[0]) == told(results[1]) == told(results[2])


_SCRIPT = """
import asyncio, json, sys
from tests.prompt_optimization.methods import *
from tests.prompt_optimization.worlds import told
print(json.dumps([repr(told(asyncio.run(optimized(method, World())))) for method in METHODS]))
"""


@pytest.mark.slow
def test_8_the_hash_seed_changes_nothing() -> None:
    outs = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", _SCRIPT], env=env, capture_output=True, text=True, check=True)
        outs.add(done.stdout)
    assert len(outs) == 1


@both
async def test_8_another_seed_takes_other_decisions(method: str) -> None:
    results = [await optimized(method, World(), replace(small(method), seed=seed)) for seed in (0, 1)]
    assert told(results[0])["history"] != told(results[1])["history"]


@pytest.fixture(scope="module")
def whole() -> tuple[Any, int]:
    world = World()
    return told(asyncio.run(optimized("gepa", world, **TINY))), world.llm.calls


def interrupted(place: Path, fail_after: int, count: str, budget: Budget | None = None) -> tuple[Any, World, World]:
    """The result of a run whose first process died, and what both processes saw."""
    first, second = World(), World()
    inner = open_store(place)
    faulty = FaultyStore(inner, fail_after=fail_after, count=count)  # type: ignore[arg-type]
    settings = {**TINY, "budget": budget or Budget(), "run_id": "r"}
    try:
        asyncio.run(optimized("gepa", first, store=faulty, **settings))
    except StoreError:
        pass
    else:
        pytest.skip("the run has fewer steps")
    finally:
        inner.close()
    store = open_store(place)
    resume = any(run.id == "r" for run in store.runs())
    result = asyncio.run(optimized("gepa", second, store=store, resume=resume, **settings))
    store.close()
    return result, first, second


STEPS = [n if n in (3, 60, 150, 240) else pytest.param(n, marks=pytest.mark.slow) for n in range(3, 400, 3)]


@pytest.mark.parametrize("fail_after", STEPS)
def test_9_a_failing_store_at_any_row(tmp_path: Path, fail_after: int, whole: tuple[Any, int]) -> None:
    result, first, second = interrupted(tmp_path / "s.db", fail_after, "rows")
    assert told(result) == whole[0]
    assert first.llm.calls + second.llm.calls <= whole[1] + TINY["slots"] + SMALL_GEPA.population_size  # type: ignore[operator]


@pytest.mark.parametrize("fail_after", [0, 1, 2, 4, 7])
def test_9_a_failing_store_at_any_commit(tmp_path: Path, fail_after: int, whole: tuple[Any, int]) -> None:
    result, _, _ = interrupted(tmp_path / "s.db", fail_after, "commits")
    assert told(result) == whole[0]


@pytest.mark.parametrize("caps", [{"max_calls": 90}, {"max_rollouts": 80}, {"max_tokens": 12_000}])
@pytest.mark.parametrize("fail_after", [60, 130])
def test_9_a_cap_holds_over_both_processes(tmp_path: Path, fail_after: int, caps: dict[str, int]) -> None:
    budget = Budget(**caps)  # type: ignore[arg-type]
    result, first, second = interrupted(tmp_path / "s.db", fail_after, "rows", budget)
    calls, tokens = first.llm.calls + second.llm.calls, first.llm.tokens + second.llm.tokens
    assert budget.max_calls is None or calls <= budget.max_calls
    assert budget.max_tokens is None or tokens <= budget.max_tokens
    assert result.spend.calls >= calls


@both
def test_9_a_finished_run_resumes_for_nothing(tmp_path: Path, method: str) -> None:
    first, second = World(), World()
    store = open_store(tmp_path / "s.db")
    before = asyncio.run(optimized(method, first, store=store, run_id="r", **TINY))
    after = asyncio.run(optimized(method, second, store=store, run_id="r", resume=True, **TINY))
    store.close()
    assert told(after) == told(before)
    assert second.llm.calls == 0
    assert after.spend.calls == first.llm.calls


@both
@pytest.mark.parametrize("after", [0, 2])
async def test_10_a_stop_returns_the_best_so_far(method: str, after: int) -> None:
    world, store, studies = World(), MemoryStore(), []
    seen = 0

    def listen(kind: str, data: Any) -> None:
        nonlocal seen
        seen += kind == "trial"
        if seen == after and studies and not studies[0].stopping:
            studies[0].stop("the user asked")

    result = await optimized(method, world, store=store, run_id="r", listeners=(listen,), on_start=studies.append)
    assert result.stop_reason == "the user asked"
    assert store.run("r").status == "stopped"
    assert result.best_template is not None
    assert (world.llm.calls == 0) == (after == 0)


@both
async def test_11_no_row_of_validation_or_test_is_shown_as_an_example(method: str) -> None:
    data = splits(30, 30, 40)
    hidden = {f"Ticket: {sample.inputs['ticket']}\nRoute:" for sample in (*data.val, *data.test)}
    seen: set[str] = set()
    world = World()

    class Spy(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            seen.update(message.content for message in request.messages[:-1] if message.role == "user")
            if request.phase.startswith("propose"):
                text = "\n".join(message.content for message in request.messages)
                seen.update(asked for asked in hidden if asked in text)
            return await super().complete(request)

    await optimized(method, world, data=data, providers={ENDPOINT.name: Spy(world.llm.task)})
    assert seen
    assert not seen & hidden


@both
async def test_12_a_failed_call_is_no_score(method: str) -> None:
    world = World(law={"base": 9.0, "chatty": 0.0, "spread": 0.0})

    class Unsteady(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            response = await super().complete(request)
            if self.calls % 7 == 0:
                error = ProviderUnavailable("hiccup")
                error.retryable = False
                raise error
            return response

    result = await optimized(method, world, providers={ENDPOINT.name: Unsteady(world.llm.task)})
    assert result.initial.score == pytest.approx(1.0, abs=0.05)
    assert result.test is not None
    assert 25 <= len(result.test.baseline) < 40


@both
async def test_13_the_result_can_be_saved_and_read_back(method: str) -> None:
    result = await optimized(method, World())
    text = json.dumps(result.to_json())
    again = OptimizationResult.from_json(text)
    assert told(again) == told(result)
    assert [entry.parents for entry in again.population] == [entry.parents for entry in result.population]


@pytest.mark.parametrize("run", [run_mipro, run_gepa, run_rmipro])
async def test_14_no_instruction_copies_a_training_row(run: Any) -> None:
    """Whatever stands around the row's text in the user message."""
    copied = "I was charged twice for my plan in month number"
    rows = [{"text": f"{copied} {n}, refund me", "route": "billing" if n % 2 else "bugs"} for n in range(90)]
    refused: list[str] = []

    def reply(request: Request) -> str:
        shown = "\n".join(message.content for message in request.messages)
        if request.phase != "propose":
            assert copied not in request.messages[0].content
            return "billing"
        if "cannot be used" in shown:
            refused.append(shown)
        found = re.search(rf"{copied} \d+, refund me", shown)
        assert found
        return f"<instruction>Route it, v{request.repeat}. '{found[0]}' goes to bugs.</instruction>"

    config = {
        run_mipro: MIPROConfig(num_trials=3, num_candidates=4),
        run_gepa: GEPAConfig(generations=3, rule_candidates=0),
        run_rmipro: RMIPROConfig(num_candidates=4),
    }[run]
    start = PromptTemplate("Route.", "Ticket: {text}\nRoute:")
    options = StudyOptions(budget=Budget(max_rollouts=100), providers={ENDPOINT.name: ScriptedLLM(reply)})
    result = await run(start, config, rows, ENDPOINT, ENDPOINT, exact_match(), options=options)
    assert refused
    assert not any(copied in entry.system for entry in result.final_population)


@both
async def test_15_examples_show_one_accepted_answer_as_json(method: str) -> None:
    """A list of accepted answers is no answer, and its first items are the labels."""
    rows = [{"text": f"ticket {n}", "label": ["billing", "Billing dept"] if n % 2 else ["bugs"]} for n in range(60)]
    said, told = set(), []

    def reply(request: Request) -> str:
        if request.phase == "propose":
            told.append(request.messages[0].content)
        said.update(message.content for message in request.messages[:-1] if message.role == "assistant")
        return "<instruction>Route it.</instruction>" if request.phase == "propose" else "no idea"

    config = small(method)
    run: Any = run_gepa if method == "gepa" else run_mipro
    options = StudyOptions(budget=Budget(max_rollouts=120), providers={ENDPOINT.name: ScriptedLLM(reply)})
    await run(PromptTemplate("Route.", "{text}"), config, rows, ENDPOINT, ENDPOINT, exact_match(), options=options)
    assert {"billing", "bugs"} <= said
    assert not any("[" in text for text in said)
    assert all("one of billing, bugs" in text for text in told)


@both
async def test_a_search_that_is_stopped_before_anything_else_ran_has_no_verdict(method: str) -> None:
    world, studies = World(), []

    def listen(kind: str, data: Any) -> None:
        if kind == "phase" and data["phase"] == "search":
            asyncio.get_running_loop().call_soon(studies[0].stop, "the user asked")  # when the first round is planned

    result = await optimized(method, world, listeners=(listen,), on_start=studies.append)
    assert all(trial.num_evaluated for trial in result.history), "what the start's baseline knows may be a round"
    assert result.verdict is not None
    assert result.verdict.decision == "undecided"
