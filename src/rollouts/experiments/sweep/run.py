"""Runs an experiment: its runs side by side, under one total budget, and again from where it was when it was killed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from rollouts.budget import Budget, Ledger, Reservation, Spend
from rollouts.errors import BudgetExhausted, ConfigError, RunNotFound
from rollouts.experiments.results import versions
from rollouts.experiments.sweep.cells import Cell, caps_of, grid
from rollouts.experiments.sweep.config import Experiment
from rollouts.experiments.sweep.records import (
    EVENTS,
    RECORD,
    RUNS,
    SETTINGS,
    EventLog,
    RunRecord,
    load_records,
    read_events,
    save_record,
)
from rollouts.experiments.sweep.single import RunLabels, run_single, spent_on
from rollouts.experiments.sweep.subject import Subject
from rollouts.prompt_optimization import Study
from rollouts.prompt_optimization.interrupts import GRACE_S, INTERRUPTED
from rollouts.prompt_optimization.saving import write_json
from rollouts.store import open_store
from rollouts.store.locks import FileLocks

STORE = "rollouts.db"
Told = Callable[[RunRecord, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What came of an experiment: the records in the order of the grid, what all runs spent, and how many are not done:
    they failed, did not fit in the total budget, or were interrupted."""

    records: tuple[RunRecord, ...]
    spend: Spend
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What earlier processes spent on a run, or may have spent, and the seconds they took."""

    spend: Spend = field(default_factory=Spend)
    elapsed_s: float = 0.0
    begun: bool = False


class Runner:
    """One experiment in one folder.

    `resume` goes on with what the folder holds: runs that are done stay as they are, others are continued and pay for
    nothing twice. More seeds, methods and budgets may have been added, and the total changed. `told` is called at the
    end of every run with its record, the number of runs that ended, and that of all. `studies` are the runs under way.
    """

    def __init__(self, experiment: Experiment, folder: Path, *, resume: bool = False, told: Told | None = None) -> None:
        self.experiment, self.folder, self.cells = experiment, folder, grid(experiment)
        self._resume, self._told = resume, told
        self._subject = Subject(experiment)
        self._log = EventLog(folder / EVENTS)
        self._ledger = Ledger(experiment.config.total.budget)
        self._before: dict[str, _Before] = {}
        self._records: dict[str, RunRecord] = {}
        self.studies: list[Study] = []
        self._stopped = False
        self._began = time.monotonic()

    def stop(self) -> None:
        """No further run starts; those under way stop where they are, and can be continued."""
        self._stopped = True
        for study in self.studies:
            study.stop(INTERRUPTED, grace_s=GRACE_S)

    def flush(self) -> None:
        """Writes what waits to be stored of the runs under way."""
        for study in tuple(self.studies):
            study.store.flush()

    async def run(self) -> Sweep:
        """All runs that are not done yet. A run that fails is recorded with its error, and the others go on.

        Raises ConfigError where the folder holds an experiment and none is to be resumed, or one of other settings;
        RunLocked where another process works in it; StoreError.
        """
        self._open_folder()
        locks = FileLocks(self.folder / SETTINGS)
        locks.take("lock")
        try:
            with self._log:
                self._take_up()
                await self._dispatch(deque(cell for cell in self.cells if cell.name not in self._records))
                self._log.write("", "closed", {"done": len(self._done())}, self._ledger.spent)
        finally:
            locks.give_all()
        ordered = [self._records[cell.name] for cell in self.cells if cell.name in self._records]
        return Sweep(records=tuple(ordered), spend=self._ledger.spent, left=len(self.cells) - len(self._done()))

    # ── before ──

    def _open_folder(self) -> None:
        if (self.folder / SETTINGS).exists() and not self._resume:
            raise ConfigError(f"{self.folder} holds an experiment already; go on with --resume, or name another --out")
        try:
            (self.folder / RUNS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be made ({error.strerror}); name another with --out") from None

    def _take_up(self) -> None:
        """What is done already, and what was spent on the rest."""
        experiment, total = self.experiment, self.experiment.config.total.budget
        elapsed = _elapsed(self.folder / EVENTS)
        for cell in self.cells:
            self._before[cell.name] = self._known(cell)
        spent = sum((before.spend for before in self._before.values()), Spend())
        self._ledger = Ledger(total, spent=spent, elapsed=elapsed)
        write_json(self.folder / SETTINGS, {"config": experiment.resolved, "versions": versions()})
        self._log.write("", "opened", {"runs": len(self.cells), "done": len(self._records)})

    def _known(self, cell: Cell) -> _Before:
        folder, identity = self.folder / RUNS / cell.name, self._subject.identity(cell)
        if (folder / RECORD).exists():
            (record,) = load_records(folder)
            if record.status == "done":
                self._check(cell, record.settings, identity)
                self._records[cell.name] = record
                return _Before(spend=Spend.from_json(record.spend), elapsed_s=record.elapsed_s, begun=True)
        if not (folder / STORE).exists():
            return _Before()
        store = open_store(folder / STORE)
        try:
            run = store.run(cell.name)
        except RunNotFound:  # killed before the run was begun
            return _Before()
        finally:
            store.close()
        self._check(cell, run.config, identity)
        return _Before(spend=Spend.from_json(run.authorised), elapsed_s=run.elapsed_s, begun=True)

    def _check(self, cell: Cell, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            raise ConfigError(
                f"{self.folder}: run {cell.name} was made with other settings ({', '.join(changed)}); put them "
                "back, or name another folder with --out"
            )

    # ── the runs ──

    async def _dispatch(self, waiting: deque[Cell]) -> None:
        """Starts runs in their order as far as the total budget goes; one that does not fit waits for what others give
        back, and is skipped when there is nothing to wait for."""
        running: set[asyncio.Task[None]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < self.experiment.config.jobs and not self._stopped:
                    started = self._start(waiting[0], alone=not running)
                    if started is None and running:
                        break
                    waiting.popleft()
                    running |= set() if started is None else {started}
                if not running:
                    return
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for error in filter(None, [task.exception() for task in ended]):
                    raise error
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _start(self, cell: Cell, *, alone: bool) -> asyncio.Task[None] | None:
        """The run, with the whole of what it may still spend set aside; None when that does not fit, which is the end
        of a run that waits for no other."""
        before = self._before[cell.name]
        caps = caps_of(self.experiment, cell, self.cells, self._subject.test_rows(cell.seed))
        try:
            left = self._ledger.check_time(time.monotonic() - self._began)
            held = self._ledger.reserve(_beyond(_most(caps), before.spend))
        except BudgetExhausted as error:
            if alone:
                self._keep(self._labels(cell).record(status="skipped", error=f"the total budget: {error}"))
            return None
        if left is not None:
            left += before.elapsed_s
            caps = replace(caps, max_seconds=left if caps.max_seconds is None else min(left, caps.max_seconds))
        return asyncio.create_task(self._one(cell, caps, held))

    async def _one(self, cell: Cell, caps: Budget, held: Reservation) -> None:
        before, folder = self._before[cell.name], self.folder / RUNS / cell.name
        folder.mkdir(exist_ok=True)
        store = open_store(folder / STORE)
        studies: list[Study] = []
        try:
            job = self._subject.job(cell, caps)
            options = replace(
                job.options,
                resume=before.begun,
                on_start=partial(self._attach, studies),
                listeners=(partial(self._listen, cell.name, studies),),
            )
            record = await run_single(self._labels(cell), job, store, options, self.folder)
            if record is not None:
                self._keep(record)
        finally:
            for study in studies:
                self.studies.remove(study)
            spent, _ = spent_on(store, cell.name)
            self._ledger.settle(held, _beyond(spent, before.spend))
            store.close()

    def _attach(self, studies: list[Study], study: Study) -> None:
        studies.append(study)
        self.studies.append(study)
        if self._stopped:
            study.stop(INTERRUPTED, grace_s=GRACE_S)

    def _listen(self, run: str, studies: list[Study], kind: str, data: Mapping[str, Any]) -> None:
        self._log.write(run, kind, data, studies[0].ledger.spent if studies else None)

    def _labels(self, cell: Cell) -> RunLabels:
        return RunLabels(
            experiment=self.experiment.config.name,
            run=cell.name,
            task=self._subject.name,
            model=self._subject.model,
            method=cell.method,
            algorithm=self.experiment.methods[cell.method].algorithm,
            budget=cell.budget,
            seed=cell.seed,
            settings=self._subject.identity(cell),
        )

    def _keep(self, record: RunRecord) -> None:
        folder = self.folder / RUNS / record.run
        folder.mkdir(exist_ok=True)
        save_record(record, folder)
        self._records[record.run] = record
        self._log.write(record.run, record.status, {"score": record.mean, "error": record.error})
        if self._told is not None:
            self._told(record, len(self._records), len(self.cells))

    def _done(self) -> list[RunRecord]:
        return [record for record in self._records.values() if record.status == "done"]


def _most(caps: Budget) -> Spend:
    """All that the caps allow; nothing of what they do not limit."""
    amounts = (caps.max_micros, caps.max_tokens, caps.max_calls, caps.max_rollouts)
    micros, tokens, calls, rollouts = (amount or 0 for amount in amounts)
    return Spend(micros=micros, tokens=tokens, calls=calls, rollouts=rollouts)


def _beyond(after: Spend, before: Spend) -> Spend:
    """What `after` holds more than `before`."""
    names = [entry.name for entry in fields(Spend)]
    return Spend(**{name: max(0, getattr(after, name) - getattr(before, name)) for name in names})


def _elapsed(path: Path) -> float:
    """Seconds that earlier processes worked on the experiment, up to the last event of each."""
    total, opened, last = 0.0, None, 0.0
    for event in read_events(path):
        if event["kind"] == "opened":
            total += 0.0 if opened is None else last - opened
            opened = event["time"]
        last = event["time"]
    return total if opened is None else total + last - opened
