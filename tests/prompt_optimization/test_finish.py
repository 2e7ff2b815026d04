"""What a result says beside its verdict."""

from __future__ import annotations

import os
import signal
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from statistics import mean
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import Endpoint, Price, Sample, Trajectory
from rollouts.errors import ConfigError
from rollouts.evaluation import Task
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    RMIPROConfig,
    Study,
    StudyOptions,
    finish,
    open_study,
    run_gepa,
    run_mipro,
    run_rmipro,
)

from .worlds import ENDPOINT, FULL, START, World, splits


async def test_a_winner_that_breaks_the_form_does_not_ship() -> None:
    """A new instruction is right wherever the metric can read its answers, which it cannot on a third of the rows."""

    def read(trajectory: Trajectory, sample: Sample) -> float:
        if START.system not in str(trajectory.messages[0].content):
            if zlib.crc32(sample.id.encode()) % 3 == 0:
                raise ValueError("no JSON")
            return 1.0
        return float(zlib.crc32(sample.id.encode()) % 4 != 0)

    result = await World().run(replace(FULL, optimize_demos=False), score_fn=read)
    verdict = result.verdict
    assert verdict is not None
    assert verdict.best.mean == 1.0 > verdict.baseline.mean
    assert (verdict.decision, verdict.failed > 10) == ("undecided", True), verdict.reason
    assert "failed on" in verdict.reason


@pytest.mark.parametrize(("stopped", "notes"), [(False, ()), (True, ("alike",))])
async def test_no_remark_doubts_a_gain_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, stopped: bool, notes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(finish, "remarks", lambda *_, **__: ("alike",))
    world = World()
    result = await world.run(FULL, on_start=lambda study: study.stop("at once") if stopped else None)
    assert result.verdict is not None
    assert (result.verdict.decision == "ship") is (not notes)
    assert result.notes == notes
    assert [data["notes"] for data in world.of("headroom")] == [list(notes)]


async def test_what_is_known_of_the_data_beforehand_is_told_in_the_end() -> None:
    result = await World().run(data=replace(splits(), notes=("3 rows were left out",)))
    assert result.notes[0] == "3 rows were left out"


@pytest.mark.parametrize(("model", "said"), [("a-model-nobody-lists", True), ("gpt-4.1-nano", False)])
async def test_a_price_that_nobody_knows_is_no_price_of_nothing(
    monkeypatch: pytest.MonkeyPatch, model: str, said: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    task = Task(endpoint=Endpoint(provider="openai", model=model), score_fn=lambda *_: 0.0)
    study = open_study(task, [], StudyOptions(notes=("of the data",)))
    await study.close("done")
    told = [f"the price of openai/{model} is not known: its calls count as $0"] if said else []
    assert study.remarks == ["of the data", *told]


SEARCHES: dict[str, tuple[Any, Any]] = {
    "mipro": (run_mipro, MIPROConfig(num_candidates=10, num_demo_sets=8, max_labeled_demos=16)),
    "gepa": (run_gepa, GEPAConfig(optimize_demos=True, max_labeled_demos=16)),
    "rmipro": (run_rmipro, RMIPROConfig(num_candidates=4, max_labeled_demos=16)),
}


@pytest.mark.parametrize("usd", ["0.05", "0.1"])
@pytest.mark.parametrize("method", SEARCHES)
async def test_a_cap_on_money_pays_for_the_final_check(method: str, usd: str) -> None:
    """Demonstrations make a prompt ten times as long as the start; no search may take what the check needs."""
    run, config = SEARCHES[method]
    world = World(price=Price(input=Decimal(1), output=Decimal(4)))
    options = world.options(budget=Budget(max_cost_usd=Decimal(usd)))
    result = await run(START, config, splits(), ENDPOINT, ENDPOINT, exact_match(), options=options)
    (plan,) = world.of("plan")
    assert len(result.test.baseline) == plan["test"] >= 20
    assert len(result.test.best) >= 0.95 * plan["test"]
    assert result.best_template.few_shot_examples, "long prompts were tried"


async def test_a_final_check_that_did_not_run_is_not_told_as_one_of_no_samples() -> None:
    studies: list[Study] = []

    def listen(kind: str, data: Any) -> None:
        if kind == "phase" and data["phase"] == "test":
            studies[0].stop("the user asked")

    result = await World().run(FULL, listeners=(listen,), on_start=studies.append)
    assert result.best_template.digest != START.digest
    assert result.verdict is not None
    assert (result.verdict.decision, result.verdict.n) == ("undecided", 0)
    assert result.verdict.reason == "the final check did not run"


@pytest.mark.parametrize("selector", ["racing", "tpe"])
async def test_the_winner_was_seen_on_most_rows(selector: str) -> None:
    """On average over seeds: how far a race itself takes its leader differs."""
    seen = []
    for seed in range(16):
        world = World()
        result = await world.run(replace(FULL, selector=selector, seed=seed), budget=Budget(max_rollouts=700))
        (plan,) = world.of("plan")
        assert plan["finals"] > 0
        assert result.best.n >= 0.5 * plan["val"], "few rows may just have been lucky"
        assert result.spend.rollouts <= 700
        seen.append(result.best.n / plan["val"])
    assert mean(seen) >= 0.7


async def test_a_race_that_knows_enough_saves_the_race_of_its_leaders() -> None:
    world = World()
    result = await world.run(replace(FULL, target_score=0.3), budget=Budget(max_rollouts=2000))
    (plan,) = world.of("plan")
    assert "target" in result.stop_reason
    assert "validate" not in result.spend_by_phase
    assert result.spend.rollouts < plan["total"] - plan["finals"]


async def test_a_listener_that_raises_is_left_out_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def away(kind: str, data: Any) -> None:
        told.append(kind)
        if kind == "trial":
            raise ConnectionError("no server at http://me:secret@tracker")

    world, other = World(), World()
    options = world.options().listeners
    result = await world.run(listeners=(away, *options))
    assert result.notes == (
        "a listener failed and was not told the rest: ConnectionError: no server at http://tracker",
    )
    assert (told.count("trial"), told[-1]) == (1, "trial")
    assert len(world.of("trial")) > 1, "the others are told all"
    assert "secret" not in caplog.text
    assert "ConnectionError" in caplog.text
    quiet = await other.run()
    assert (result.best_template.digest, result.verdict) == (quiet.best_template.digest, quiet.verdict)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
async def test_ctrl_c_returns_the_best_so_far_where_that_is_asked_for() -> None:
    before = signal.getsignal(signal.SIGINT)

    def press(kind: str, data: Any) -> None:
        if kind == "trial" and data["trial"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    result = await World().run(FULL, listeners=(press,), stop_on_interrupt=True)
    assert result.stop_reason == "interrupted"
    assert 2 <= len(result.history) < FULL.num_trials
    assert signal.getsignal(signal.SIGINT) is before


def test_only_the_main_thread_is_told_of_ctrl_c() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigError, match="main thread"):
        pool.submit(World().run_sync, stop_on_interrupt=True).result()
