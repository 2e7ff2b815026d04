"""Which column is the ground truth, and rows given as dicts."""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from rollouts.datasets.tables import did_you_mean, fail
from rollouts.dtypes import Sample

GROUND_TRUTH_NAMES = (
    "ground_truth",
    "label",
    "answer",
    "output",
    "target",
    "expected",
    "expected_output",
    "category",
    "intent",
    "sentiment",
    "class",
    "route",
)
_ID_NAMES = frozenset(
    {"", "id", "_id", "idx", "index", "uid", "uuid", "guid", "row", "row_id", "sample_id", "example_id"}
    | {"question_id", "__index_level_0__"}
)


def is_id_like(column: str) -> bool:
    """Whether the name says that the column numbers or names rows (the empty name is pandas' index)."""
    return column.strip().casefold() in _ID_NAMES


def detect_ground_truth(columns: Sequence[str], used: Collection[str], *, source: str = "the data set") -> str | None:
    """The column that holds the expected answers.

    `used` are the columns that the prompt is filled from. It is the only other column, id-like ones left aside; else
    the first of `GROUND_TRUTH_NAMES` among them. None when no other column is left: the data has no ground truth.
    Raises DataError that lists the candidates when several are left and none has a known name.
    """
    candidates = [column for column in columns if column not in used and not is_id_like(column)]
    if not candidates or (not used and len(candidates) == 1):
        return None
    if len(candidates) == 1:
        return candidates[0]
    by_name = {column.strip().casefold(): column for column in reversed(candidates)}
    for name in GROUND_TRUTH_NAMES:
        if name in by_name:
            return by_name[name]
    raise fail(
        source,
        f"cannot tell which column is the ground truth; the candidates are {', '.join(map(repr, candidates))}: "
        "state ground_truth",
    )


def _records(rows: Any) -> list[Any]:
    if hasattr(rows, "iloc"):  # pandas, which goes through the names of its columns
        return list(rows.to_dict("records"))
    return list(rows.to_dicts() if hasattr(rows, "to_dicts") else rows)


def samples_from_dicts(
    rows: Iterable[Mapping[str, Any]],
    placeholders: frozenset[str],
    ground_truth: str | None = None,
    *,
    source: str = "dataset",
) -> list[Sample]:
    """Rows as dicts, or a data frame of pandas or polars -> samples.

    `placeholders` are the names that the prompt uses; `ground_truth` is the column with the expected answer, detected
    when None (see `detect_ground_truth`). Inputs are all other columns, except `id`: it names the samples when no
    placeholder uses it and its values are unique; else rows are numbered from 1. `source` is what messages call the
    data. Raises DataError when there is no row, a row is no dict, or one lacks the ground truth.
    """
    table = _records(rows)
    if not table:
        raise fail(source, "has no rows")
    for number, row in enumerate(table, start=1):
        if not isinstance(row, Mapping):
            raise fail(source, f"must be a dict of column to value, not {type(row).__name__}", where=f"row {number}")
    columns = list(dict.fromkeys(column for row in table for column in row))
    truth = ground_truth or detect_ground_truth(columns, placeholders, source=source)
    if truth is not None and truth not in columns:
        raise fail(source, f"there is no such column; {did_you_mean(truth, columns)}", column=truth)
    if truth in placeholders:
        raise fail(source, "is both a placeholder and the ground truth: the prompt would hold the answer", column=truth)
    ids = None if {"id"} & (placeholders | {truth}) else _ids(table)
    hidden = {truth, "id"} if ids else {truth}
    return [
        Sample(
            inputs={
                column: plain(value, source, f"row {number}", column)
                for column, value in row.items()
                if column not in hidden
            },
            ground_truth=None if truth is None else answer_in(row, truth, source, f"row {number}"),
            id=ids[number - 1] if ids else str(number),
        )
        for number, row in enumerate(table, start=1)
    ]


def _ids(table: Sequence[Mapping[str, Any]]) -> list[str] | None:
    ids = [str(row["id"]) for row in table if not is_missing(row.get("id"))]
    return ids if len(set(ids)) == len(table) else None


def answer_in(row: Mapping[str, Any], column: str, source: str, where: str) -> Any:
    """The ground truth of a row as a JSON-like value; raises DataError when it is absent, null or NaN."""
    value = row.get(column)
    if is_missing(value):
        raise fail(source, "the ground truth is missing; fill it in or remove the row", where=where, column=column)
    return plain(value, source, where, column)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: Any, source: str, where: str, column: str) -> Any:
    """`value` as JSON can say it: dates as ISO text, NumPy scalars and arrays as numbers and lists.

    Samples must be JSON-like because their content is a key. Raises DataError for anything else.
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool or kind is float:
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, source, where, column) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, source, where, column) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if kind.__module__ == "numpy":
        return plain(value.tolist(), source, where, column)
    if isinstance(value, str | int | float):
        return next(base(value) for base in (str, int, float) if isinstance(value, base))
    raise fail(
        source,
        f"holds {kind.__name__}, which is no JSON value; map only the columns that are needed",
        where=where,
        column=column,
    )
