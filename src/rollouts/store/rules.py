"""What every store agrees on, whatever it is made of: which rows are taken, which row stays, which run is meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from math import isfinite
from typing import Any

from rollouts.errors import ConfigError, RunNotFound, StoreError
from rollouts.store.base import EventRow, GenerationRow, ProgramRow, RolloutRow, Row, RunRow, SampleRow, UseRow

Key = str | tuple[str, int] | tuple[str, str]

RUN_FIELDS = frozenset(field.name for field in fields(RunRow)) - {"id"}
_NAMES_SHOWN = 5


def check(row: Row) -> None:
    """Raises StoreError for a score that no database can hold: NaN would silently become "no score"."""
    if type(row) is RolloutRow and row.score is not None and not isfinite(row.score):
        raise StoreError(
            f"the rollout of sample {row.sample_id!r} has the score {row.score}; "
            "record a finite number, or a failure with score None"
        )


def key_of(row: Row) -> Key:
    """What makes two rows of one kind the same."""
    match row:
        case RolloutRow() | GenerationRow():
            return row.key
        case ProgramRow() | SampleRow():
            return row.digest
        case EventRow():
            return row.run_id, row.seq
        case UseRow():
            return row.run_id, row.key
    raise StoreError(f"a {type(row).__name__} is no row of a store; record one of rollouts.store's row classes")


def replaces(new: Row, old: Row) -> bool:
    """Whether `new` takes the place of `old`, which has the same key: only a success that of a failure."""
    return (
        isinstance(new, RolloutRow) and isinstance(old, RolloutRow) and new.failure is None and old.failure is not None
    )


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raises ConfigError for a field that a run does not have or must not change."""
    wrong = sorted(set(changes) - RUN_FIELDS)
    if wrong:
        raise ConfigError(
            f"a run's {', '.join(wrong)} cannot be changed; its fields are {', '.join(sorted(RUN_FIELDS))}"
        )


def pick_run(wanted: str, ids: Collection[str]) -> str:
    """`wanted` itself or the only one of `ids` that starts so; raises RunNotFound, which names near ids."""
    if wanted in ids:
        return wanted
    same_start = sorted(name for name in ids if name.startswith(wanted))
    if wanted and len(same_start) == 1:
        return same_start[0]
    if wanted and same_start:
        shown = ", ".join(same_start[:_NAMES_SHOWN]) + (", ..." if len(same_start) > _NAMES_SHOWN else "")
        raise RunNotFound(f"{len(same_start)} runs start with {wanted!r}: {shown}; give more of the id")
    near = difflib.get_close_matches(wanted, ids, n=_NAMES_SHOWN, cutoff=0.4)
    hint = f"near ids: {', '.join(near)}" if near else "list the runs to see which there are"
    raise RunNotFound(f"no run has the id {wanted!r}; {hint}")
