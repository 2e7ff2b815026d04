"""A run that dies at any recorded step goes on where it was, pays again only for what was in flight, and ends alike."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import Request, Response
from rollouts.errors import ProviderUnavailable, StoreError, TooManyFailures
from rollouts.prompt_optimization import Study
from rollouts.store import MemoryStore, open_store
from rollouts.testing import FakeClock, FaultyStore
from rollouts.testing.latency import fixed

from .worlds import SMALL, CountingLLM, World, splits, task, told

SLOTS = 4
DATA = {"train": 12, "val": 12, "test": 14}
STEPS = 260


def alike(result: Any) -> Any:
    """What a resumed run must have in common with an undisturbed one."""
    return told(result)


def undisturbed(budget: Budget) -> tuple[Any, int]:
    world = World()
    return alike(world.run_sync(data=splits(**DATA), slots=SLOTS, budget=budget)), world.llm.calls


def interrupted(
    place: Path, fail_after: int, budget: Budget, count: str = "rows", seeds: tuple[int, int] = (0, 0)
) -> tuple[Any, int, int]:
    """Result, calls of the first process, calls of the second."""
    first, second = World(), World()
    inner = open_store(place)
    faulty = FaultyStore(inner, fail_after=fail_after, count=count)  # type: ignore[arg-type]
    resume = True
    try:
        first.run_sync(data=splits(**DATA), slots=SLOTS, budget=budget, store=faulty, run_id="r")
    except StoreError:
        pass
    else:
        pytest.skip("the run has fewer steps")
    finally:
        inner.close()
    store = open_store(place)
    try:
        resume = any(run.id == "r" for run in store.runs())
        result = second.run_sync(
            data=splits(**DATA), slots=SLOTS, budget=budget, store=store, run_id="r", resume=resume
        )
        assert store.run("r").status == "done"
    finally:
        store.close()
    return alike(result), first.llm.calls, second.llm.calls


class Away(CountingLLM):
    """A model that is away after `left` answers."""

    left = 0

    async def complete(self, request: Request) -> Response:
        self.left -= 1
        if self.left < 0:
            raise ProviderUnavailable("the server is down")
        return await super().complete(request)


@pytest.mark.parametrize("after", [0, 20, 40, 60, 80])
def test_an_outage_ends_a_run_and_costs_it_nothing(after: int) -> None:
    data, budget, store = splits(**DATA), Budget(max_rollouts=100), MemoryStore()
    undisturbed = World(clock=FakeClock(auto=True)).run_sync(data=data, slots=SLOTS, budget=budget)
    first = World(clock=FakeClock(auto=True))
    first.llm = Away(task())
    first.llm.left = after
    with pytest.raises(TooManyFailures, match="server is down"):
        first.run_sync(data=data, slots=SLOTS, budget=budget, store=store, run_id="r")
    assert store.run("r").status == "failed"
    again = World(clock=FakeClock(auto=True))
    result = again.run_sync(data=data, slots=SLOTS, budget=budget, store=store, run_id="r", resume=True)
    assert alike(result) == alike(undisturbed)
    assert first.llm.calls + again.llm.calls <= undisturbed.spend.calls + SMALL.num_candidates


@pytest.fixture(scope="module")
def whole() -> tuple[Any, int]:
    return undisturbed(Budget())


def steps(every: int, slow_every: int) -> list[Any]:
    """A few steps in the fast suite, more in the slow one."""
    return [
        step if step % every == 3 else pytest.param(step, marks=pytest.mark.slow)
        for step in range(3, STEPS, slow_every)
    ]


@pytest.mark.parametrize("fail_after", steps(60, 5))
def test_a_failing_store_at_any_row(tmp_path: Path, fail_after: int, whole: tuple[Any, int]) -> None:
    result, before, after = interrupted(tmp_path / "s.db", fail_after, Budget())
    assert result == whole[0]
    assert before + after <= whole[1] + SLOTS + SMALL.num_candidates


@pytest.mark.parametrize("fail_after", [0, 1, 2, 3, 5, 8])
def test_a_failing_store_at_any_commit(tmp_path: Path, fail_after: int, whole: tuple[Any, int]) -> None:
    result, before, after = interrupted(tmp_path / "s.db", fail_after, Budget(), "commits")
    assert result == whole[0]
    assert before + after <= whole[1] + SLOTS + SMALL.num_candidates


@pytest.mark.parametrize("later", [{}, {"max_tokens": 1_000_000}])
def test_what_had_no_cap_counts_as_what_is_stored(tmp_path: Path, later: dict[str, int]) -> None:
    """Its bound is far ahead of what a killed run spent."""
    first, second = World(), World()
    data, budget = splits(**DATA), Budget(max_rollouts=100)
    with closing(open_store(tmp_path / "s.db")) as inner, pytest.raises(StoreError):
        first.run_sync(data=data, slots=SLOTS, budget=budget, store=FaultyStore(inner, fail_after=83), run_id="r")
    with closing(open_store(tmp_path / "s.db")) as store:
        again = replace(budget, **later)
        result = second.run_sync(data=data, slots=SLOTS, budget=again, store=store, run_id="r", resume=True)
    billed, most = first.llm.calls + second.llm.calls, 2 * SLOTS * 400
    assert billed <= result.spend.calls <= billed + 2 * SLOTS
    assert result.spend.tokens <= first.llm.tokens + second.llm.tokens + most
    assert result.verdict is not None
    assert result.verdict.n > 0


@pytest.mark.parametrize("caps", [{"max_calls": 90}, {"max_rollouts": 80}, {"max_tokens": 12_000}])
@pytest.mark.parametrize("fail_after", steps(80, 40))
def test_a_cap_holds_over_both_processes(tmp_path: Path, fail_after: int, caps: dict[str, int]) -> None:
    budget = Budget(**caps)  # type: ignore[arg-type]
    first, second = World(), World()
    inner = open_store(tmp_path / "s.db")
    faulty = FaultyStore(inner, fail_after=fail_after)
    data = splits(**DATA)
    try:
        first.run_sync(data=data, slots=SLOTS, budget=budget, store=faulty, run_id="r")
    except StoreError:
        pass
    else:
        pytest.skip("the run has fewer steps")
    finally:
        inner.close()
    store = open_store(tmp_path / "s.db")
    result = second.run_sync(data=data, slots=SLOTS, budget=budget, store=store, run_id="r", resume=True)
    store.close()
    assert budget.max_calls is None or first.llm.calls + second.llm.calls <= budget.max_calls
    assert budget.max_tokens is None or first.llm.tokens + second.llm.tokens <= budget.max_tokens
    if budget.max_rollouts is not None:
        tasks = first.llm.calls + second.llm.calls - 2 * SMALL.num_candidates
        assert tasks <= budget.max_rollouts
    assert result.spend.calls >= first.llm.calls + second.llm.calls
    assert result.best_template is not None


@pytest.mark.parametrize("fail_after", [60, 120])
def test_the_plan_of_a_resumed_run_is_the_plan_of_the_whole_run(tmp_path: Path, fail_after: int) -> None:
    """What was paid for is not missing from the budget a second time."""
    budget = Budget(max_rollouts=100)
    whole = World()
    undisturbed = whole.run_sync(data=splits(**DATA), slots=SLOTS, budget=budget)
    first, second = World(), World()
    inner = open_store(tmp_path / "s.db")
    with pytest.raises(StoreError):
        first.run_sync(
            data=splits(**DATA),
            slots=SLOTS,
            budget=budget,
            store=FaultyStore(inner, fail_after=fail_after),
            run_id="r",
        )
    inner.close()
    store = open_store(tmp_path / "s.db")
    result = second.run_sync(data=splits(**DATA), slots=SLOTS, budget=budget, store=store, run_id="r", resume=True)
    store.close()
    assert second.of("plan") == whole.of("plan")
    # The authorised headroom of the process that died is lost, and nothing else.
    assert len(result.history) >= len(undisturbed.history) - 4
    # Estimates are refined when the next round is asked for: they are left out.
    rounds = [[(e.generation, e.mean_score, e.num_evaluated) for e in r.history] for r in (result, undisturbed)]
    assert rounds[0] == rounds[1][: len(rounds[0])]


@pytest.mark.parametrize("fail_after", [100, 160])
def test_a_resumed_run_knows_what_rollouts_cost(tmp_path: Path, fail_after: int) -> None:
    """The start's, which are the cheaper ones, are served from the store, and count in the mean all the same."""
    budget, data = Budget(max_tokens=40_000), splits(**DATA)
    whole = World()
    whole.run_sync(data=data, slots=SLOTS, budget=budget)
    inner = open_store(tmp_path / "s.db")
    with pytest.raises(StoreError):
        World().run_sync(
            data=data, slots=SLOTS, budget=budget, store=FaultyStore(inner, fail_after=fail_after), run_id="r"
        )
    inner.close()
    studies: list[Study] = []
    store, second = open_store(tmp_path / "s.db"), World()
    result = second.run_sync(
        data=data, slots=SLOTS, budget=budget, store=store, run_id="r", resume=True, on_start=studies.append
    )
    store.close()
    assert second.of("plan") == whole.of("plan")
    spent = studies[0].evaluator.progress.spent
    assert spent.rollouts > second.llm.calls, "those of the first process are among them"
    assert spent.tokens <= result.spend.tokens


def test_a_finished_run_resumes_to_the_same_result_for_nothing(tmp_path: Path) -> None:
    first, second = World(), World()
    store = open_store(tmp_path / "s.db")
    before = first.run_sync(data=splits(**DATA), store=store, run_id="r")
    after = second.run_sync(data=splits(**DATA), store=store, run_id="r", resume=True)
    store.close()
    assert told(after) == told(before)
    assert second.llm.calls == 0
    assert after.spend.calls == first.llm.calls


_SCRIPT = """
import os, signal, sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from rollouts.budget import Budget
from rollouts.store import open_store
from rollouts.testing import FaultyStore
from tests.prompt_optimization.worlds import *

place, fail_after, log = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "ab", buffering=0)

class Logging(CountingLLM):
    async def complete(self, request):
        log.write(b"x")
        return await super().complete(request)

world = World()
world.llm = Logging(world.llm.task)
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
store = FaultyStore(open_store(place), fail_after=fail_after, kill=kill)
caps = {"max_calls": int(sys.argv[4])} if len(sys.argv) > 4 else {}
world.run_sync(data=splits(train=12, val=12, test=14), slots=4, budget=Budget(**caps), store=store, run_id="r")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("seed", range(4))
def test_kill_9(tmp_path: Path, seed: int, whole: tuple[Any, int]) -> None:
    fail_after = random.Random(seed).randrange(5, 180)
    cap = 110 if seed == 3 else None
    extra = [] if cap is None else [str(cap)]
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "s.db"), str(fail_after), str(tmp_path / "log"), *extra]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = len((tmp_path / "log").read_bytes())
    world, store = World(), open_store(tmp_path / "s.db")
    assert store.run("r").status == "running"
    budget = Budget(max_calls=cap)
    result = world.run_sync(data=splits(**DATA), slots=SLOTS, budget=budget, store=store, run_id="r", resume=True)
    store.close()
    if cap is None:
        assert told(result) == whole[0]
        assert before + world.llm.calls <= whole[1] + SLOTS + SMALL.num_candidates
    else:
        assert before + world.llm.calls <= cap


def test_time_before_the_first_rollout_is_no_rollouts_time() -> None:
    """A resumed run under a cap on seconds: what it is served took no time, and opening the model is not its pace."""
    budget, data = Budget(max_seconds=200, max_rollouts=400), splits()

    def world() -> World:
        return World(clock=FakeClock(auto=True), latency=fixed(1.0))

    undisturbed = world().run_sync(data=data, slots=SLOTS, budget=budget)
    store = MemoryStore()
    with pytest.raises(StoreError):
        world().run_sync(data=data, slots=SLOTS, budget=budget, store=FaultyStore(store, fail_after=350), run_id="r")
    store.unlock_run("r")
    second = world()

    def opened(_: Study) -> None:
        assert isinstance(second.clock, FakeClock)
        second.clock._now += 1.5

    result = second.run_sync(
        data=data, slots=SLOTS, budget=budget, store=store, run_id="r", resume=True, on_start=opened
    )
    assert len(result.history) >= 0.8 * len(undisturbed.history) > 10
