"""Drawing candidates from a space that may be too large to write down."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from rollouts.prompt_optimization.selection.base import Candidate, Space

ENUMERABLE = 20_000
_TRIES = 20


def unravel(index: int, levels: Sequence[int]) -> Candidate:
    """The candidate of that number when all are counted with the last factor running fastest."""
    out = []
    for n in reversed(levels):
        index, level = divmod(index, n)
        out.append(level)
    return tuple(reversed(out))


def scattered(levels: Sequence[int], rng: random.Random) -> Iterator[Candidate]:
    """Up to `ENUMERABLE` distinct candidates from all over the space: every so-many-th from a random one on."""
    total = math.prod(levels)
    index, stride = rng.randrange(total), 0
    while math.gcd(stride, total) > 1:
        stride = rng.randrange(1, total)
    for _ in range(min(total, ENUMERABLE)):
        yield unravel(index, levels)
        index = (index + stride) % total


def draw_candidates(space: Space, count: int, rng: random.Random) -> list[Candidate]:
    """Up to `count` distinct allowed candidates: the start, when it is allowed, then random ones.

    In a space of more than `ENUMERABLE` candidates there may be fewer although more exist, when few are allowed.
    """
    out = {space.start: None} if space.feasible(space.start) else {}
    for candidate in _random_order(space, count, rng):
        if len(out) >= count:
            break
        if candidate not in out and space.feasible(candidate):
            out[candidate] = None
    return list(out)


def _random_order(space: Space, count: int, rng: random.Random) -> Iterator[Candidate]:
    total = math.prod(space.levels)
    if total <= ENUMERABLE:
        for index in rng.sample(range(total), total):
            yield unravel(index, space.levels)
        return
    for _ in range(_TRIES * max(count, 100)):
        yield tuple(rng.randrange(n) for n in space.levels)
