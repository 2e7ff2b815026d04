"""A store in this process's memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from rollouts.errors import RunLocked, RunNotFound, StoreError
from rollouts.store.base import EventRow, GenerationRow, ProgramRow, RolloutRow, Row, RunRow, SampleRow, UseRow
from rollouts.store.rules import check, check_changes, key_of, pick_run, replaces


class MemoryStore:
    """A `Store` whose rows end with the process. Each row costs the same however many there are.

    Rows are kept as they are, so what they hold must not be changed after it was recorded.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._runs: dict[str, RunRow] = {}
        self._rollouts: dict[str, RolloutRow] = {}
        self._generations: dict[str, GenerationRow] = {}
        self._programs: dict[str, ProgramRow] = {}
        self._samples: dict[str, SampleRow] = {}
        self._events: dict[str, dict[int, EventRow]] = {}
        self._paid: dict[str, dict[str, None]] = {}
        self._used: dict[str, dict[str, str]] = {}
        self._generated: dict[str, list[GenerationRow]] = {}
        self._locked: set[str] = set()
        self._closed = False

    def record(self, *rows: Row) -> None:
        if self._closed:
            raise StoreError("the store is closed; open it again to record more")
        for row in rows:
            check(row)
            key_of(row)
        with self._guard:
            for row in rows:
                self._add(row)

    def _add(self, row: Row) -> None:
        match row:
            case RolloutRow():
                self._add_rollout(row)
            case GenerationRow():
                if self._generations.setdefault(row.key, row) is row:
                    self._generated.setdefault(row.run_id, []).append(row)
            case ProgramRow():
                self._programs.setdefault(row.digest, row)
            case SampleRow():
                self._samples.setdefault(row.digest, row)
            case EventRow():
                self._events.setdefault(row.run_id, {}).setdefault(row.seq, row)
            case UseRow():
                self._used.setdefault(row.run_id, {}).setdefault(row.key, row.phase)

    def _add_rollout(self, row: RolloutRow) -> None:
        old = self._rollouts.get(row.key)
        if old is not None:
            if not replaces(row, old):
                return
            del self._paid[old.run_id][row.key]
        self._rollouts[row.key] = row
        self._paid.setdefault(row.run_id, {})[row.key] = None

    def flush(self) -> None:
        pass

    def rollouts(self, keys: Sequence[str]) -> Mapping[str, RolloutRow]:
        found = ((key, self._rollouts.get(key)) for key in keys)
        return {key: row for key, row in found if row is not None and row.failure is None}

    def generations(self, keys: Sequence[str]) -> Mapping[str, GenerationRow]:
        return {key: self._generations[key] for key in keys if key in self._generations}

    def programs(self, digests: Sequence[str]) -> Mapping[str, ProgramRow]:
        return {digest: self._programs[digest] for digest in digests if digest in self._programs}

    def samples(self, digests: Sequence[str]) -> Mapping[str, SampleRow]:
        return {digest: self._samples[digest] for digest in digests if digest in self._samples}

    def create_run(self, run: RunRow) -> None:
        with self._guard:
            if run.id in self._runs:
                raise StoreError(f"there is a run {run.id!r} already; choose another id, or resume it")
            self._runs[run.id] = run

    def update_run(self, run_id: str, **changes: Any) -> None:
        check_changes(changes)
        with self._guard:
            if run_id not in self._runs:
                raise RunNotFound(f"no run has the id {run_id!r}")
            self._runs[run_id] = replace(self._runs[run_id], **changes)

    def run(self, run_id: str) -> RunRow:
        return self._runs[pick_run(run_id, self._runs)]

    def runs(self, *, limit: int = 50, before: str | None = None, status: str | None = None) -> list[RunRow]:
        newest = sorted(self._runs.values(), key=lambda run: (run.created_at, run.id), reverse=True)
        if before is not None:
            if before not in self._runs:
                raise RunNotFound(f"no run has the id {before!r}")
            newest = newest[newest.index(self._runs[before]) + 1 :]
        return [run for run in newest if status is None or run.status == status][:limit]

    def scan_rollouts(
        self, run_id: str, *, program: str | None = None, failed: bool | None = None, page: int = 1000
    ) -> Iterator[RolloutRow]:
        with self._guard:
            paid, used = self._paid.get(run_id, {}), self._used.get(run_id, {})
            keys = [*paid, *(key for key in used if key not in paid)]
        for key in keys:
            row = self._rollouts.get(key)
            if row is None or program not in (None, row.program) or failed not in (None, row.failure is not None):
                continue
            yield row if row.run_id == run_id else replace(row, phase=used[key])

    def scan_generations(self, run_id: str, *, phase: str | None = None, page: int = 1000) -> Iterator[GenerationRow]:
        rows = self._generated.get(run_id, [])
        return (row for row in islice(rows, len(rows)) if phase in (None, row.phase))

    def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        with self._guard:
            known = self._events.get(run_id, {})
            return [known[seq] for seq in sorted(seq for seq in known if seq > after)[:limit]]

    def lock_run(self, run_id: str) -> None:
        with self._guard:
            if run_id in self._locked:
                raise RunLocked(f"run {run_id!r} is being worked on in this process; wait for it or stop it first")
            self._locked.add(run_id)

    def unlock_run(self, run_id: str) -> None:
        self._locked.discard(run_id)

    def close(self) -> None:
        self._closed = True
        self._locked.clear()
