"""Numbers that the benchmarks' commands take; others raise what argparse makes an error of the command line."""

from __future__ import annotations

from argparse import ArgumentTypeError


def count(text: str) -> int:
    """1 or more."""
    if (number := int(text)) < 1:
        raise ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def counts(text: str) -> tuple[int, ...]:
    """Counts between commas, each once, in order."""
    return tuple(sorted({count(part) for part in text.split(",")}))


def share(text: str) -> float:
    """Between 0 and 1, both excluded."""
    if not 0 < (number := float(text)) < 1:
        raise ArgumentTypeError(f"must be between 0 and 1, not {text}")
    return number
