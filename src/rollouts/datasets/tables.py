"""A source as a table: its columns, and its rows one by one with the place where each was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from rollouts.errors import DataError


class Row(NamedTuple):
    """`number` counts the data rows from 1; `where` is what a person looks for, such as `line 12`."""

    number: int
    where: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`columns` are the header's, or those of the first rows; `rows(columns)` reads the source from its start and may
    leave other columns out.

    `hint` is added to messages about a missing column.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    hint: str = ""


def fail(name: str, problem: str, *, where: str = "", column: str = "") -> DataError:
    """A DataError that says file, place and column before the problem."""
    place = [name, *([where] if where else []), *([f"column {column!r}"] if column else [])]
    return DataError(f"{', '.join(place)}: {problem}")


def did_you_mean(name: str, known: Sequence[str], shown: int = 20) -> str:
    """The nearest known name as a question, else the names there are (`shown` of them at most)."""
    near = get_close_matches(name, known, n=1, cutoff=0.6) or get_close_matches(
        name.strip().casefold(), {known_name.strip().casefold(): None for known_name in known}, n=1
    )
    if near:
        best = next(k for k in known if k == near[0] or k.strip().casefold() == near[0])
        return f"did you mean {best!r}?"
    more = f" and {len(known) - shown} more" if len(known) > shown else ""
    return f"there are: {', '.join(map(repr, known[:shown])) or 'none'}{more}"
