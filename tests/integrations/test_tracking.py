"""A run told to a tracker: the same figures as its own events and result, whatever the tracker does."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from rollouts.dtypes import Request
from rollouts.errors import AuthenticationFailed, ConfigError
from rollouts.evaluation.metrics import exact_match
from rollouts.integrations.tracking import Begun, Ended, Tracking, make_tracker
from rollouts.prompt_optimization import OptimizationResult, StudyOptions, run_mipro
from rollouts.testing import ScriptedLLM
from tests.prompt_optimization.worlds import ENDPOINT, SMALL, START, World, splits


class Noted:
    """A tracker that notes what it is told; `broken` is the method that raises, `hangs` the one that never ends."""

    def __init__(self, *, broken: str = "", hangs: str = "") -> None:
        self.broken, self.hangs = broken, hangs
        self.told: list[tuple[str, Any]] = []
        self.threads: set[str] = set()

    def begin(self, run: Begun) -> None:
        self._note("begin", run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._note("log", (step, values))

    def end(self, ended: Ended) -> None:
        self._note("end", ended)

    def _note(self, what: str, told: Any) -> None:
        self.threads.add(threading.current_thread().name)
        if what == self.broken:
            raise OSError("http://me:hunter2@tracker is away")
        if what == self.hangs:
            threading.Event().wait()
        self.told.append((what, told))

    def of(self, what: str) -> list[Any]:
        return [told for name, told in self.told if name == what]


async def tracked(tracker: Noted, world: World, **settings: Any) -> OptimizationResult:
    async def work(options: StudyOptions) -> OptimizationResult:
        return await run_mipro(START, SMALL, splits(), ENDPOINT, ENDPOINT, exact_match(), options=options)

    telling = Tracking(tracker, name="route", project="tickets", settings={"seed": 0})
    return await telling.around(work, world.options(run_id="r1", **settings), lambda result: {"a.json": {"x": "é"}})


async def test_a_tracker_is_told_what_the_run_tells() -> None:
    tracker, world = Noted(), World()
    result = await tracked(tracker, world)
    assert [what for what, _ in tracker.told] == ["begin", *["log"] * len(world.of("trial")), "end"]
    assert tracker.of("begin") == [Begun(run_id="r1", name="route", project="tickets", settings={"seed": 0})]
    trials = [(data["trial"], data["best"]) for data in world.of("trial")]
    assert [(step, values["best"]) for step, values in tracker.of("log")] == trials
    spent = [values["calls"] for _, values in tracker.of("log")]
    assert spent == sorted(spent)
    (ended,) = tracker.of("end")
    assert result.verdict is not None
    assert (ended.status, ended.facts["verdict"]) == ("done", result.verdict.decision)
    assert ended.values["test_best"] == result.verdict.best.mean
    assert ended.values["best_score"] == result.best.score
    assert (ended.values["calls"], ended.values["rollouts"]) == (result.spend.calls, result.spend.rollouts)
    assert json.loads(ended.files["a.json"]) == {"x": "é"}
    assert tracker.threads == {"rollouts-tracker"}, "a slow tracker holds no rollout up"


@pytest.mark.parametrize("broken", ["begin", "log", "end"])
async def test_a_tracker_that_fails_is_told_nothing_more_and_the_run_goes_on(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    world, tracker = World(), Noted(broken=broken)
    with caplog.at_level(logging.WARNING):
        result = await tracked(tracker, world)
    undisturbed = await World().run()
    assert result.best.program.digest == undisturbed.best.program.digest
    assert tracker.of("end") == []
    assert len(tracker.of("log")) == {"begin": 0, "log": 0, "end": len(world.of("trial"))}[broken]
    assert any("OSError" in note for note in result.notes) is (broken != "end")
    assert "OSError" in caplog.text
    assert "hunter2" not in caplog.text + str(result.notes)


async def test_a_tracker_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rollouts.integrations.tracking.tracking._RESULT_TOLD_S", 0.01)
    async with asyncio.timeout(60):
        result = await tracked(Noted(hangs="log"), World())
    assert result.best.score is not None
    assert "run r1: the tracker is slow" in caplog.text


async def test_a_run_that_fails_is_told_as_failed() -> None:
    def refuse(request: Request) -> str:
        raise AuthenticationFailed("wrong key")

    tracker = Noted()
    with pytest.raises(AuthenticationFailed):
        await tracked(tracker, World(), providers={ENDPOINT.name: ScriptedLLM(refuse)})
    (ended,) = tracker.of("end")
    assert (ended.status, ended.facts["error"]) == ("failed", "AuthenticationFailed: wrong key")


def test_a_tracker_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollouts.integrations.tracking.registry.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rollouts-optimizer\[mlflow\]'"):
        make_tracker("mlflow")
    unknown: Any = "comet"
    with pytest.raises(ConfigError, match="there are: mlflow, wandb"):
        make_tracker(unknown)
