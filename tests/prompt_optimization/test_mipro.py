"""MIPRO from end to end on a simulated model."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from rollouts.budget import Budget, Constraints
from rollouts.dtypes import FewShotExample, Price, PromptTemplate, Request, Response
from rollouts.errors import (
    ConfigError,
    DataError,
)
from rollouts.prompt_optimization import Splits, Study, run_mipro
from rollouts.prompt_optimization.selection import SELECTORS, Result
from rollouts.prompt_optimization.selection.racing import RacingSelector
from rollouts.store import MemoryStore, open_store
from rollouts.testing import FakeClock, SimulatedLLM
from rollouts.testing.latency import fixed, log_normal, pareto

from .worlds import ENDPOINT, FULL, SMALL, START, World, labels, splits, tickets, told

PRICE = Price(input=Decimal("0.1"), output=Decimal("0.4"))


async def test_it_improves_and_says_ship() -> None:
    world = World()
    result = await world.run(FULL)
    assert result.initial_template is not None
    assert result.best_template.score - result.initial_template.score >= 0.25
    assert result.verdict is not None
    assert result.verdict.decision == "ship"
    assert result.verdict.difference.mean >= 0.25
    assert result.verdict.n == 80
    assert result.best_template.user_template == START.user_template
    assert result.stop_reason == "all planned trials were made"
    assert [entry.generation for entry in result.history] == list(range(1, len(result.history) + 1))


async def test_every_call_is_accounted_for() -> None:
    world = World(price=PRICE)
    store = MemoryStore()
    result = await world.run(store=store, run_id="r")
    spend = result.spend
    assert spend.calls == world.llm.calls
    assert spend.tokens == world.llm.tokens
    assert spend.micros == world.llm.micros
    assert sum(s.calls for s in result.spend_by_phase.values()) == spend.calls
    assert sum(s.rollouts for s in result.spend_by_phase.values()) == spend.rollouts
    assert len(world.llm.keys) == len(set(world.llm.keys)), "no request is paid twice"
    run = store.run("r")
    assert run.status == "done"
    assert (run.authorised["calls"], run.authorised["micros"]) == (spend.calls, spend.micros)
    assert run.summary["stop_reason"] == result.stop_reason
    assert sum(1 for _ in store.scan_rollouts("r")) == spend.rollouts


@pytest.mark.parametrize("slots", [4, 32])
@pytest.mark.parametrize("cap", [{"max_tokens": 90_000}, {"max_cost_usd": "0.01"}], ids=lambda cap: next(iter(cap)))
async def test_a_cap_on_tokens_or_money_alone_is_used_and_pays_for_the_whole_check(
    cap: dict[str, Any], slots: int
) -> None:
    """The start's rollouts are cheaper than those of prompts with demonstrations."""
    world = World(price=PRICE, latency=log_normal(0.001, 0.5))
    budget = Budget(**cap)
    result = await world.run(FULL, budget=budget, slots=slots)
    used = max(result.spend.tokens / (budget.max_tokens or 10**9), result.spend.micros / (budget.max_micros or 10**9))
    assert 0.65 <= used <= 1
    assert result.verdict is not None
    assert result.verdict.n == world.of("plan")[0]["test"]


BUDGETS = [
    *({"max_rollouts": n} for n in (0, 1, 2, 3, 5, 10, 30, 60, 100, 250)),
    *({"max_calls": n} for n in (0, 1, 7, 40, 150)),
    *({"max_tokens": n} for n in (0, 500, 3000, 20_000)),
    *({"max_cost_usd": usd} for usd in ("0", "0.00001", "0.0005", "0.003")),
    {"max_rollouts": 120, "max_calls": 100, "max_tokens": 9000},
]


@pytest.mark.parametrize("caps", BUDGETS, ids=lambda caps: "-".join(f"{k}={v}" for k, v in caps.items()))
async def test_no_cap_is_passed_and_the_best_so_far_is_returned(caps: dict[str, Any]) -> None:
    world, budget = World(price=PRICE), Budget(**caps)
    result = await world.run(replace(SMALL, num_trials=20), budget=budget)
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
    assert result.verdict.decision in ("ship", "keep", "undecided")
    assert result.stop_reason
    start = [t.score for t in result.final_population if t.digest == START.digest]
    if start and result.best_template.score is not None:
        assert result.best_template.score >= start[0]


@pytest.mark.parametrize("calls", [0, 1, 7])
async def test_a_budget_that_pays_for_no_search_pays_for_no_proposals(calls: int) -> None:
    result = await World().run(budget=Budget(max_calls=calls))
    assert not any(phase.startswith("propose") for phase in result.spend_by_phase)


@pytest.mark.parametrize("rollouts", [120, 250, 400])
async def test_a_budget_that_is_given_is_used(rollouts: int) -> None:
    result = await World().run(replace(FULL, num_trials=40), budget=Budget(max_rollouts=rollouts))
    assert 0.75 * rollouts <= result.spend.rollouts <= rollouts
    assert result.verdict is not None
    assert result.verdict.n >= rollouts // 8


@pytest.mark.parametrize("seed", range(5))
async def test_the_winner_is_never_worse_than_the_start_on_validation(seed: int) -> None:
    world = World(seed=seed, law={"labels_named": -1.0, "demos": -1.0, "balance": 0.0, "nearness": 0.0, "chatty": 0.0})
    result = await world.run(replace(SMALL, seed=seed, num_trials=10))
    assert result.initial_template is not None
    assert result.best_template.score >= result.initial_template.score


async def test_a_start_that_is_best_already_is_kept_and_not_tested_twice() -> None:
    phrases = {"route the ticket.": 6.0}
    world = World(law={"phrases": phrases, "labels_named": -3.0, "demos": -6.0, "nearness": -3.0, "chatty": 0.0})
    start = PromptTemplate("Route the ticket.", START.user_template)
    result = await world.run(replace(SMALL, num_trials=8, optimize_instructions=True), start=start)
    assert result.best_template.digest == start.digest
    assert result.verdict is not None
    assert result.verdict.decision == "keep"
    assert result.spend_by_phase["test"].rollouts == 80


@pytest.mark.parametrize("caps", [{}, {"max_rollouts": 200}])
async def test_latency_and_arrival_order_change_nothing(caps: dict[str, Any]) -> None:
    outcomes = []
    for law, slots in (
        (None, 8),
        (log_normal(1.0, 1.5), 8),
        (pareto(0.2, 1.1), 8),
        (lambda unit: 5.0 * (1 - unit), 8),
    ):
        world = World(latency=law, clock=FakeClock(auto=True))
        result = await world.run(replace(SMALL, num_trials=15), slots=slots, budget=Budget(**caps))
        outcomes.append((told(result), [dict(e) for e in world.of("trial")]))
    assert all(outcome == outcomes[0] for outcome in outcomes)


_SCRIPT = """
import asyncio, json
from tests.prompt_optimization.worlds import *
result = asyncio.run(World().run())
print(json.dumps(repr(told(result))))
"""


@pytest.mark.slow
def test_the_hash_seed_changes_nothing() -> None:
    outs = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", _SCRIPT], env=env, capture_output=True, text=True, check=True)
        outs.add(json.loads(done.stdout))
    assert len(outs) == 1


async def test_another_seed_takes_other_decisions() -> None:
    worlds = [World(), World()]
    results = [await world.run(replace(SMALL, seed=seed)) for seed, world in enumerate(worlds)]
    assert told(results[0])["history"] != told(results[1])["history"]


@pytest.mark.parametrize("caps", [{}, {"max_rollouts": 200}])
async def test_a_replay_over_a_full_store_makes_no_call(tmp_path: Any, caps: dict[str, Any]) -> None:
    store = open_store(tmp_path / "s.db")
    first, again = World(), World()
    before = await first.run(store=store, budget=Budget(**caps))
    after = await again.run(store=store, budget=Budget(**caps))
    store.close()
    assert again.llm.calls == 0
    assert (after.spend.calls, after.spend.micros, after.spend.rollouts) == (0, 0, 0)
    assert told(after) == told(before)


@pytest.mark.parametrize("after", [1, 4])
async def test_a_stop_returns_the_best_so_far(after: int) -> None:
    world, store, seen = World(), MemoryStore(), 0
    studies: list[Study] = []

    def listen(kind: str, data: Any) -> None:
        nonlocal seen
        seen += kind == "trial"
        if kind == "trial" and seen == after:
            studies[0].stop("the user asked")

    result = await world.run(
        FULL, store=store, run_id="r", listeners=(listen,), on_start=studies.append, budget=Budget(max_rollouts=600)
    )
    assert result.stop_reason == "the user asked"
    assert store.run("r").status == "stopped"
    assert world.llm.calls < 400
    assert result.best_template.score is not None
    assert all(entry.num_evaluated for entry in result.history), "a round of which nothing ran is no trial"


async def test_a_stop_before_anything_keeps_the_start() -> None:
    world = World()
    result = await world.run(on_start=lambda study: study.stop("at once"))
    assert world.llm.calls == 0
    assert result.best_template.digest == START.digest
    assert result.stop_reason == "at once"


async def test_the_wall_clock_is_a_cap() -> None:
    clock = FakeClock(auto=True)
    world = World(latency=fixed(1.0), clock=clock)
    result = await world.run(FULL, budget=Budget(max_seconds=40))
    assert clock.now() <= 41
    assert world.llm.calls <= 8 * 41
    assert result.best_template is not None
    assert result.stop_reason != "all planned trials were made"


async def test_long_prompts_are_never_sent() -> None:
    limit = 60
    world = World()
    result = await world.run(FULL, constraints=Constraints(max_prompt_tokens=limit))
    for template in result.final_population:
        texts = [template.system, *(t for d in template.few_shot_examples for t in (d.input, d.output))]
        assert world.llm.count_tokens("\n".join(texts)) <= limit


async def test_a_prompt_that_is_too_dear_does_not_ship() -> None:
    start_cost = (await World(price=PRICE).run()).initial_template
    assert start_cost is not None
    limit = 8e-6
    world = World(price=PRICE)
    store = MemoryStore()
    result = await world.run(FULL, store=store, run_id="r", constraints=Constraints(max_cost_per_call_usd=limit))
    assert world.of("infeasible"), "demonstrations cost more than the limit"
    from rollouts.dtypes import Program

    digest = Program.single(result.best_template).digest
    costs = [row.cost_micros for row in store.scan_rollouts("r", program=digest)]
    assert result.best_template.digest == START.digest or sum(costs) / len(costs) <= limit * 1e6


async def test_a_prompt_that_is_too_slow_does_not_ship() -> None:
    class SlowWithDemos(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            response = await super().complete(request)
            return replace(response, latency_s=5.0 if len(request.messages) > 3 else 0.1)

    world = World()
    slow = SlowWithDemos(world.llm.task)
    result = await world.run(FULL, providers={ENDPOINT.name: slow}, constraints=Constraints(max_p95_latency_s=1.0))
    assert result.best_template.few_shot_examples == ()
    assert world.of("infeasible")


async def test_a_rollout_that_outlives_its_limit_is_a_failure_not_a_zero() -> None:
    world = World(latency=lambda unit: 30.0 if unit < 0.1 else 0.0)
    result = await world.run(
        replace(SMALL, num_trials=2, num_candidates=0), constraints=Constraints(max_latency_s=0.5), slots=50
    )
    assert result.test is not None
    assert len(result.test.baseline) < 80
    assert result.initial_template is not None


async def test_cancelling_the_run_leaves_no_call_behind() -> None:
    world, store = World(latency=fixed(0.005)), MemoryStore()
    running = asyncio.create_task(world.run(FULL, store=store, run_id="r"))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    calls = world.llm.calls
    await asyncio.sleep(0.03)
    assert world.llm.calls == calls
    assert store.run("r").status == "stopped"
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("only", ["instructions", "demos"])
async def test_one_part_alone_can_be_optimized(only: str) -> None:
    demo = FewShotExample("Ticket: I want my money back\nRoute:", "refunds")
    start = replace(START, few_shot_examples=(demo,))
    config = replace(SMALL, optimize_instructions=only == "instructions", optimize_demos=only == "demos")
    result = await World().run(config, start=start)
    for template in result.final_population:
        if only == "demos":
            assert template.system == start.system
        else:
            assert template.few_shot_examples == (demo,)
    assert len({t.digest for t in result.final_population}) > 1


@pytest.mark.parametrize("selector", ["random", "tpe"])
async def test_every_selector_runs(selector: str) -> None:
    result = await World().run(replace(SMALL, selector=selector, full_eval_every=2, target_score=2.0, patience=50))
    assert result.best_template.score is not None


@pytest.mark.parametrize("selector", ["racing", "successive_halving", "successive_rejects"])
async def test_patience_ends_a_race(selector: str) -> None:
    config = replace(FULL, selector=selector, patience=2)
    whole, patient = World(), World()
    await whole.run(replace(config, patience=None))
    result = await patient.run(config)
    assert "rollouts brought no better candidate" in result.stop_reason
    assert patient.llm.calls < whole.llm.calls
    assert int(result.stop_reason.split()[0]) >= 2 * config.minibatch_size


async def test_the_target_ends_the_search() -> None:
    world = World()
    result = await world.run(replace(FULL, target_score=0.2, full_eval_every=1), budget=Budget(max_rollouts=3000))
    assert "target" in result.stop_reason
    (plan,) = world.of("plan")
    assert len(result.history) < plan["trials"]


async def test_later_rounds_of_proposals_see_what_was_tried() -> None:
    world, seen = World(), []

    class Spy(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            if request.phase.startswith("propose"):
                seen.append(request.messages[0].content)
            return await super().complete(request)

    await world.run(replace(FULL, proposal_rounds=3), providers={ENDPOINT.name: Spy(world.llm.task)})
    assert len(seen) >= 12
    assert any("Tried so far" in text for text in seen[4:])
    assert not any("Tried so far" in text for text in seen[:4])
    assert [e["added"] for e in world.of("proposals")]


@pytest.mark.parametrize("target", [None, 0.0])
async def test_a_selector_that_knows_enough_gets_the_candidates_to_come_before_it_stops(
    monkeypatch: pytest.MonkeyPatch, target: float | None
) -> None:
    """One that is at the target needs none."""

    class Content(RacingSelector):
        def why_stopped(self) -> str:
            return "content" if self.told and not self.joined else ""

        told = joined = False

        def tell(self, results: Sequence[Result]) -> None:
            self.told = True
            super().tell(results)

        def add_level(self, factor: int, like: int | None = None) -> int:
            self.joined = True
            return super().add_level(factor, like)

    monkeypatch.setattr(
        sys.modules[run_mipro.__module__], "make_selector", lambda name, space, settings: Content(space, settings)
    )
    world = World()
    result = await world.run(replace(FULL, target_score=target))
    if target is None:
        assert sum(event["added"] for event in world.of("proposals")) > 0
        assert result.stop_reason == "all planned trials were made"
    else:
        assert not world.of("proposals")
        assert result.stop_reason == "content"


@pytest.mark.parametrize("selector", sorted(SELECTORS))
async def test_candidates_to_come_join_when_all_that_there_are_ran_on_all_samples(selector: str) -> None:
    world = World()
    config = replace(FULL, selector=selector, num_candidates=6, optimize_demos=False, full_eval_every=0)
    result = await world.run(config, data=splits(val=12))
    (plan,) = world.of("plan")
    assert len(result.history) < plan["trials"]
    assert sum(event["added"] for event in world.of("proposals")) > 0
    later = {template.digest for template in result.final_population}
    assert len(later) > 4, "the start, the three texts of the first round, and later ones"
    assert "nothing was left to try" in result.stop_reason


async def test_calls_with_the_same_prompt_follow_each_other() -> None:
    prompts: list[object] = []
    world = World()

    class Spy(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            if request.phase == "task/search":
                prompts.append(request.messages[:-1])
            return await super().complete(request)

    await world.run(FULL, slots=1, providers={ENDPOINT.name: Spy(world.llm.task)})
    changes = sum(before != after for before, after in pairwise(prompts))
    assert len(prompts) > 200
    assert len(prompts) / (changes + 1) > 3


async def test_no_row_of_validation_or_test_is_shown_to_the_model_as_an_example() -> None:
    data = splits()
    hidden = {f"Ticket: {s.inputs['ticket']}\nRoute:" for s in (*data.val, *data.test)}
    seen: set[str] = set()
    world = World()

    class Spy(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            seen.update(m.content for m in request.messages[:-1] if m.role == "user")
            if request.phase.startswith("propose"):
                text = request.messages[0].content
                seen.update(asked for asked in hidden if asked in text)
            return await super().complete(request)

    await world.run(FULL, data=data, providers={ENDPOINT.name: Spy(world.llm.task)})
    assert seen
    assert not seen & hidden


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (Splits(train=(), val=tickets()[:3]), DataError, "train"),
        (Splits(train=tickets()[:3], val=()), DataError, "val"),
        ([{"text": str(i), "route": "b"} for i in range(12)], ConfigError, "ticket"),
    ],
)
async def test_what_is_wrong_with_the_data_is_said_before_any_call(data: Any, error: Any, words: str) -> None:
    world = World()
    with pytest.raises(error, match=words):
        await world.run(data=data)
    assert world.llm.calls == 0


async def test_an_unknown_price_under_a_money_cap_is_said_before_any_call() -> None:
    from rollouts.errors import PriceUnknown
    from rollouts.evaluation.metrics import exact_match
    from rollouts.prompt_optimization import StudyOptions, run_mipro

    endpoint = replace(ENDPOINT, provider="openai", model="no-such-model", api_key="k")
    store = MemoryStore()
    options = StudyOptions(budget=Budget(max_cost_usd=1), store=store, run_id="r")
    with pytest.raises(PriceUnknown):
        await run_mipro(START, SMALL, splits(), endpoint, endpoint, exact_match(), options=options)
    assert store.run("r").status == "failed"


def test_the_world_has_eight_labels() -> None:
    assert len(labels()) == 8
