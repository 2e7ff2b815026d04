"""Which rows a run made better, and which worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.errors import ConfigError
from rollouts.store import RolloutRow, RunRow, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPair:
    """A row of the final check: what was asked (`inputs` is None where it is not stored), and the rollouts of the
    starting prompt and of the best one."""

    sample_id: str
    inputs: dict[str, Any] | None
    ground_truth: Any
    start: RolloutRow
    best: RolloutRow

    @property
    def change(self) -> float | None:
        """The best prompt's score less the start's; None where one of the two failed."""
        return None if self.start.score is None or self.best.score is None else self.best.score - self.start.score


def tested_rows(store: Store, run: RunRow) -> list[RowPair]:
    """The rows of the run's final check that both prompts answered, those that became worst first.

    Raises ConfigError when the run has no best prompt beside the one that it started from, or no such rows.
    """
    start, best = (run.summary.get(f"{which}_program") for which in ("start", "best"))
    if not start or not best:
        raise ConfigError(f"run {run.id} did not come to its final check; continue it with --resume")
    if start == best:
        raise ConfigError(f"run {run.id} kept the prompt that it started from: no row has changed")
    before = {(row.sample, row.repeat): row for row in store.scan_rollouts(run.id, program=start)}
    after = [row for row in store.scan_rollouts(run.id, program=best) if row.phase == "test"]
    after = [row for row in after if (row.sample, row.repeat) in before]
    if not after:
        raise ConfigError(f"run {run.id} has no test rows of both prompts, or an older version made it")
    samples = store.samples(list({row.sample for row in after}))

    def pair(row: RolloutRow) -> RowPair:
        sample = samples.get(row.sample)
        return RowPair(
            sample_id=row.sample_id,
            inputs=None if sample is None else sample.inputs,
            ground_truth=None if sample is None else sample.ground_truth,
            start=before[row.sample, row.repeat],
            best=row,
        )

    return sorted(map(pair, after), key=_worst_first)


def _worst_first(pair: RowPair) -> tuple[Any, ...]:
    """By the change, failures last; among equals by name, where 5 comes before 47."""
    return pair.change is None, pair.change, len(pair.sample_id), pair.sample_id


def counted(pairs: Sequence[RowPair]) -> dict[str, int]:
    """How many rows are `better`, `worse`, the `same`, or have no score of one of the two (`failed`)."""
    changes = [pair.change for pair in pairs]
    scored = [change for change in changes if change is not None]
    return {
        "better": sum(change > 0 for change in scored),
        "worse": sum(change < 0 for change in scored),
        "same": sum(change == 0 for change in scored),
        "failed": len(changes) - len(scored),
    }
