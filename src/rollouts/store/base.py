"""The store's rows and its one interface.

Writes are queued and committed in batches, in order, by one writer; `flush` waits for them. Reads see what is flushed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One optimization or evaluation run.

    `authorised` is a `Spend` as JSON: an upper bound of what the run may have spent, durable before any call leaves.
    `status` is `running`, `done`, `stopped` or `failed`. Times are seconds since the epoch.
    """

    id: str
    method: str
    status: str
    created_at: float
    config: JSON
    name: str = ""
    updated_at: float = 0.0
    elapsed_s: float = 0.0
    authorised: JSON = field(default_factory=dict)
    summary: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """One program on one sample. `key` is its content key; `run_id` the run that paid for it, `phase` that of the run
    in which it was first wanted (empty where older versions wrote it, like `sample`).

    `sample_id` names the row; its content is stored under the digest `sample`.
    `score` is None for a failure, and then `failure` is set. `output` is the final answer's text. `data` holds metrics,
    feedback, per-module scores, per-call usage and, for agents, the messages after the prompt.
    """

    key: str
    run_id: str
    program: str
    sample_id: str
    repeat: int
    score: float | None
    output: str
    failure: JSON | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_micros: int
    latency_s: float
    data: JSON
    created_at: float
    sample: str = ""
    phase: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRow:
    """One answered model request. `request` holds the messages of judge and proposer calls; None for task calls,
    whose prompt follows from program and sample."""

    key: str
    run_id: str
    phase: str
    model: str
    request: JSON | None
    response: JSON
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_micros: int
    latency_s: float
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRow:
    """The modules' templates behind a program digest, so that every rollout's prompt can be shown again."""

    digest: str
    modules: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """What a program was given, and what the answer should be (None: unknown), behind a sample's digest."""

    digest: str
    inputs: JSON
    ground_truth: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened in a run: `kind` and its data. `seq` counts up from 1 within a run."""

    run_id: str
    seq: int
    kind: str
    data: JSON
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRow:
    """A run used the rollout `key` that another run had paid for, first in `phase`."""

    run_id: str
    key: str
    phase: str = ""


Row = RolloutRow | GenerationRow | ProgramRow | SampleRow | EventRow | UseRow


class Store(Protocol):
    """Where runs are kept. Methods other than `record` may block for a short database round trip.

    All raise StoreError with what to change (disk full, file not writable, newer schema).
    """

    def record(self, *rows: Row) -> None:
        """Queues rows; returns at once. A row whose key is already stored by an equal key is left as it was, except
        that a success replaces a failure. Raises the StoreError that stopped the writer, if one did."""
        ...

    def flush(self) -> None:
        """Returns when everything queued before is committed; raises StoreError when it could not be."""
        ...

    def rollouts(self, keys: Sequence[str]) -> Mapping[str, RolloutRow]:
        """The successful rollouts stored under `keys`, queued ones included; failures are never served."""
        ...

    def generations(self, keys: Sequence[str]) -> Mapping[str, GenerationRow]:
        """The generations stored under `keys`, queued ones included."""
        ...

    def programs(self, digests: Sequence[str]) -> Mapping[str, ProgramRow]:
        """The programs stored under `digests`, queued ones included."""
        ...

    def samples(self, digests: Sequence[str]) -> Mapping[str, SampleRow]:
        """The samples stored under `digests`, queued ones included."""
        ...

    def create_run(self, run: RunRow) -> None:
        """Commits a new run at once."""
        ...

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Commits changes of a run's fields at once; a changed `status` or `summary` after everything queued before."""
        ...

    def run(self, run_id: str) -> RunRow:
        """The run with that id, or the only one whose id starts so; raises RunNotFound (which names near ids)."""
        ...

    def runs(self, *, limit: int = 50, before: str | None = None, status: str | None = None) -> list[RunRow]:
        """The newest runs first; `before` is the id after which to go on."""
        ...

    def scan_rollouts(
        self, run_id: str, *, program: str | None = None, failed: bool | None = None, page: int = 1000
    ) -> Iterator[RolloutRow]:
        """A run's rollouts in the order of recording, then those it only used, with the phases of this run; read in
        pages, so that a million of them never are in memory, up to the last one there was when the scan began.
        `program` is a digest; `failed` keeps only failures (True) or successes (False)."""
        ...

    def scan_generations(self, run_id: str, *, phase: str | None = None, page: int = 1000) -> Iterator[GenerationRow]:
        """A run's generations in the order of recording, up to the last one there was when the scan began."""
        ...

    def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """Events with `seq > after`, in order."""
        ...

    def lock_run(self, run_id: str) -> None:
        """Makes this process the only one that works on the run, until `unlock_run`, `close` or its end, however it
        ends. Raises RunLocked when another live process has it."""
        ...

    def unlock_run(self, run_id: str) -> None:
        """Gives the run free."""
        ...

    def close(self) -> None:
        """Flushes and closes."""
        ...


_ALL = 1_000_000


def events_of(store: Store, run_id: str, *kinds: str) -> list[EventRow]:
    """All events of a run in their order: those of `kinds`, or of any kind where none is named."""
    return [event for event in store.events(run_id, limit=_ALL) if not kinds or event.kind in kinds]


def chunks(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    """`keys` in lists of at most `size`."""
    batch: list[str] = []
    for key in keys:
        batch.append(key)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
