"""A store that fails at a chosen moment, to show that a run survives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from rollouts.errors import StoreError
from rollouts.store.base import EventRow, GenerationRow, ProgramRow, RolloutRow, Row, RunRow, SampleRow, Store


class FaultyStore:
    """`inner` until `fail_after` rows are recorded (or, with `count="commits"`, that many calls of `flush`,
    `create_run` and `update_run` are done); every later write fails.

    The rows before the failure are durable. A failing write calls `kill`, say `os._exit`, when there is one; if that
    returns, or there is none, it raises `error`. Reads go on.
    """

    def __init__(
        self,
        inner: Store,
        *,
        fail_after: int,
        count: Literal["rows", "commits"] = "rows",
        error: StoreError | None = None,
        kill: Callable[[], object] | None = None,
    ) -> None:
        self.inner = inner
        self.done = 0
        self._fail_after, self._count, self._kill = fail_after, count, kill
        self._error = error or StoreError(f"this store fails after {fail_after} {count}")

    def _step(self, kind: Literal["rows", "commits"]) -> None:
        if self.done >= self._fail_after:
            self.inner.flush()
            if self._kill is not None:
                self._kill()
            raise self._error
        self.done += kind == self._count

    def record(self, *rows: Row) -> None:
        for row in rows:
            self._step("rows")
            self.inner.record(row)

    def flush(self) -> None:
        self._step("commits")
        self.inner.flush()

    def create_run(self, run: RunRow) -> None:
        self._step("commits")
        self.inner.create_run(run)

    def update_run(self, run_id: str, **changes: Any) -> None:
        self._step("commits")
        self.inner.update_run(run_id, **changes)

    def rollouts(self, keys: Sequence[str]) -> Mapping[str, RolloutRow]:
        return self.inner.rollouts(keys)

    def generations(self, keys: Sequence[str]) -> Mapping[str, GenerationRow]:
        return self.inner.generations(keys)

    def programs(self, digests: Sequence[str]) -> Mapping[str, ProgramRow]:
        return self.inner.programs(digests)

    def samples(self, digests: Sequence[str]) -> Mapping[str, SampleRow]:
        return self.inner.samples(digests)

    def run(self, run_id: str) -> RunRow:
        return self.inner.run(run_id)

    def runs(self, *, limit: int = 50, before: str | None = None, status: str | None = None) -> list[RunRow]:
        return self.inner.runs(limit=limit, before=before, status=status)

    def scan_rollouts(
        self, run_id: str, *, program: str | None = None, failed: bool | None = None, page: int = 1000
    ) -> Iterator[RolloutRow]:
        return self.inner.scan_rollouts(run_id, program=program, failed=failed, page=page)

    def scan_generations(self, run_id: str, *, phase: str | None = None, page: int = 1000) -> Iterator[GenerationRow]:
        return self.inner.scan_generations(run_id, phase=phase, page=page)

    def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        return self.inner.events(run_id, after=after, limit=limit)

    def lock_run(self, run_id: str) -> None:
        self.inner.lock_run(run_id)

    def unlock_run(self, run_id: str) -> None:
        self.inner.unlock_run(run_id)

    def close(self) -> None:
        self.inner.close()
