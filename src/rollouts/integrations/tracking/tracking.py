"""One run, told to a tracker from a thread of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Literal

from rollouts.integrations.tracking.base import Begun, Ended, Tracker
from rollouts.prompt_optimization import OptimizationResult, Study, StudyOptions

log = logging.getLogger(__name__)

Work = Callable[[StudyOptions], Awaitable[OptimizationResult]]
Files = Callable[[OptimizationResult], Mapping[str, Any]]

_RESULT_TOLD_S, _ERROR_TOLD_S = 60.0, 10.0
"""How long a run waits at its end until the tracker knows."""


class Tracking:
    """Tells `tracker` of one run.

    A tracker that is slow holds nothing up. One that raises is told nothing more, and the result notes it as it notes
    listeners that raise; after the last event its error is logged.
    """

    def __init__(self, tracker: Tracker, *, name: str, project: str, settings: Mapping[str, Any]) -> None:
        self._tracker, self._name, self._project, self._settings = tracker, name, project, settings
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._error: Exception | None = None
        self._told_of_error = False
        self._done = threading.Event()
        self._study: Study | None = None

    async def around(self, work: Work, options: StudyOptions, files: Files = lambda result: {}) -> OptimizationResult:
        """The result of `work`, a run that is made with the options that it is given; raises what that raises. `files`
        makes of the result what the tracker keeps: JSON values by file name."""

        def attach(study: Study) -> None:
            self._begin(study)
            if options.on_start is not None:
                options.on_start(study)

        try:
            result = await work(replace(options, on_start=attach, listeners=(*options.listeners, self._listen)))
        except BaseException as error:
            await self._end(_by(error), _ERROR_TOLD_S)
            raise
        await self._end(await asyncio.to_thread(self._well, result, files), _RESULT_TOLD_S)
        return result

    def _begin(self, study: Study) -> None:
        self._study = study
        run = Begun(run_id=study.run_id, name=self._name, project=self._project, settings=self._settings)
        self._work.put(lambda: self._tracker.begin(run))
        threading.Thread(target=self._tell, name="rollouts-tracker", daemon=True).start()

    def _listen(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._error is not None:
            self._told_of_error = True
            raise self._error
        if kind == "trial":
            values = {name: data[name] for name in ("score", "best") if data[name] is not None} | self._spent()
            self._work.put(lambda: self._tracker.log(values, data["trial"]))

    async def _end(self, ended: Ended, within_s: float) -> None:
        if self._study is None:
            return
        ended = replace(ended, values={**ended.values, **self._spent()})
        self._work.put(lambda: self._tracker.end(ended))
        self._work.put(None)
        if not await asyncio.to_thread(self._done.wait, within_s):
            log.warning("run %s: the tracker is slow, and may not have all of it", self._study.run_id)
        elif self._error is not None and not self._told_of_error:
            log.warning("run %s: the tracker failed at the end (%s)", self._study.run_id, type(self._error).__name__)

    def _well(self, result: OptimizationResult, files: Files) -> Ended:
        assert self._study is not None
        if self._study.kept:
            return Ended(status="done")
        values = {"baseline_score": result.initial.score, "best_score": result.best.score}
        facts = {"stop_reason": result.stop_reason}
        if (verdict := result.verdict) is not None:
            facts |= {"verdict": verdict.decision, "reason": verdict.reason}
            values |= {
                "test_baseline": verdict.baseline.mean,
                "test_best": verdict.best.mean,
                "test_difference": verdict.difference.mean,
                "p_value": verdict.p_value,
            }
        return Ended(
            status="stopped" if self._study.stopping else "done",
            values={name: value for name, value in values.items() if value is not None and math.isfinite(value)},
            facts=facts,
            files={name: json.dumps(content, indent=2, ensure_ascii=False) for name, content in files(result).items()},
        )

    def _spent(self) -> dict[str, float]:
        assert self._study is not None
        spent = self._study.ledger.spent
        return {"usd": spent.micros / 1e6, "tokens": spent.tokens, "calls": spent.calls, "rollouts": spent.rollouts}

    def _tell(self) -> None:
        while (work := self._work.get()) is not None:
            if self._error is None:
                try:
                    work()
                except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the tracker's library raises
                    self._error = error if isinstance(error, Exception) else RuntimeError(str(error))
        self._done.set()


def _by(error: BaseException) -> Ended:
    status: Literal["failed", "stopped"] = "failed" if isinstance(error, Exception) else "stopped"
    return Ended(status=status, facts={"error": f"{type(error).__name__}: {error}"})
