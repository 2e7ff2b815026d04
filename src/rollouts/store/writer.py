"""The one thread that writes queued rows: it takes all there are and commits them as one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from rollouts.errors import StoreError
from rollouts.store.base import RolloutRow, Row
from rollouts.store.rules import Key, replaces

LINGER_S = 0.005
"""How long the writer waits for more rows before it commits: a transaction costs as much as a dozen rows."""

Encoded = tuple[Row, Key, list[Any]]


class Batch:
    """Rows of one transaction, merged by the rule of equal keys, in the order of recording."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[type[Any], dict[Key, tuple[Row, list[Any]]]] = {}

    def add(self, row: Row, key: Key, values: list[Any]) -> bool:
        """Whether the row was taken: not when an equal key is in already and stays."""
        rows = self._kinds.setdefault(type(row), {})
        old = rows.get(key)
        if old is not None:
            if not replaces(row, old[0]):
                return False
            del rows[key]
        rows[key] = row, values
        return old is None

    def get(self, kind: type[Any], key: Key) -> Row | None:
        """The row of that kind and key, if it is in."""
        found = self._kinds.get(kind, {}).get(key)
        return None if found is None else found[0]

    def values(self, kind: type[Any]) -> list[list[Any]]:
        """The encoded rows of that kind."""
        return [values for _, values in self._kinds.get(kind, {}).values()]

    def successes(self) -> list[str]:
        """The keys of the successful rollouts."""
        rollouts = self._kinds.get(RolloutRow, {})
        return [row.key for row, _ in rollouts.values() if isinstance(row, RolloutRow) and row.failure is None]


class Writer:
    """Gives batches to `commit` on its own thread, one at a time, in order.

    At most `queue_rows` rows wait; then `put` blocks. The first error of `commit` stops the writer; `explain` turns it
    into the StoreError that every later call raises.
    """

    def __init__(
        self,
        commit: Callable[[Batch], None],
        explain: Callable[[BaseException], StoreError],
        *,
        queue_rows: int,
    ) -> None:
        self._commit, self._explain, self._queue_rows = commit, explain, queue_rows
        guard = threading.Lock()
        self._work, self._done = threading.Condition(guard), threading.Condition(guard)
        self._fresh, self._writing = Batch(), Batch()
        self._queued = self._taken = self._committed = 0
        self._rows = 0
        self._hurry = self._closing = False
        self._error: StoreError | None = None
        self._thread = threading.Thread(target=self._run, name="rollouts-store", daemon=True)
        self._thread.start()

    def put(self, rows: list[Encoded]) -> None:
        """Queues rows, waiting while the queue is full; raises the StoreError that stopped the writer."""
        with self._work:
            while self._rows >= self._queue_rows and self._error is None and not self._closing:
                self._hurry = True
                self._work.notify()
                self._done.wait()
            self._raise()
            if self._closing:
                raise StoreError("the store is closed; open it again to record more")
            if self._queued == self._taken:
                self._work.notify()
            for row, key, values in rows:
                self._rows += self._fresh.add(row, key, values)
            self._queued += 1

    def flush(self) -> None:
        """Returns when all rows queued before are committed; raises the StoreError that stopped the writer."""
        with self._work:
            self._raise()
            wanted = self._queued
            if self._committed < wanted:
                self._hurry = True
                self._work.notify()
            while self._committed < wanted and self._error is None:
                self._done.wait()
            self._raise()

    def close(self) -> None:
        """Flushes and ends the thread; does nothing the second time."""
        with self._work:
            self._closing = True
            self._work.notify()
            self._done.notify_all()
        self._thread.join()

    def waiting(self) -> Iterator[Batch]:
        """The batches that are not committed, the older first. Take it before reading the database, look into it
        after: then no row is missed in between."""
        with self._work:
            batches = self._writing, self._fresh
        return iter(batches)

    def error(self) -> StoreError | None:
        """What stopped the writer."""
        return self._error

    def _raise(self) -> None:
        if self._error is not None:
            raise StoreError(str(self._error)) from self._error
        if not (self._closing or self._thread.is_alive()):
            raise StoreError("the store was opened before this process was forked; open it in this process")

    def _run(self) -> None:
        while self._take():
            try:
                self._commit(self._writing)
            except Exception as error:  # noqa: BLE001 - kept, and raised to whoever records or flushes next
                with self._work:
                    self._error = self._explain(error)
                    self._done.notify_all()
                return
            with self._work:
                self._writing = Batch()
                self._committed = self._taken
                self._done.notify_all()

    def _take(self) -> bool:
        with self._work:
            while self._queued == self._taken and not self._closing:
                self._work.wait()
            if self._queued == self._taken:
                return False
            if not (self._hurry or self._closing):
                self._work.wait(LINGER_S)
            self._writing, self._fresh = self._fresh, Batch()
            self._taken, self._rows, self._hurry = self._queued, 0, False
            self._done.notify_all()
            return True
