"""Who is better, from paired runs: both sides of a pair have the same task, seed and test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.mipro_comparison.runs import DEFAULT, OURS, PEER, USUAL, Group, accuracy, calls
from rollouts.stats import LEAST_PAIRS, Interval, bootstrap_difference, compare_methods, holm, paired_test

ALL = "all tasks"
_LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """`ours` against `theirs` on the seeds that both have.

    `share`: our task calls in the search divided by theirs. `difference`: ours minus theirs with its interval over
    seeds (over all pairs of runs, within tasks, for `ALL`). `p_value`: McNemar's mid-p test over the test rows of all
    seeds (sign flips of the runs for `ALL`); `p_holm`: corrected for the tasks of the table.
    """

    task: str
    ours: str
    theirs: str
    caps: tuple[int, int]
    share: float
    means: tuple[float, float]
    difference: Interval
    p_value: float
    p_holm: float
    missing: int

    @property
    def finding(self) -> str:
        """Better or worse only where the rows and the seeds, five pairs of runs or more, both say so."""
        if self.difference.n < LEAST_PAIRS:
            return "too few seeds"
        if self.p_holm >= _LEVEL or self.difference.low <= 0 <= self.difference.high:
            return "no difference seen"
        return "better" if self.difference.mean > 0 else "worse"


def contrast(ours: Group, theirs: Group) -> Contrast | None:
    """One task; None where no seed has both. Holm's correction is left to `corrected`."""
    left, right = ours.scored, theirs.scored
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return None
    means = [[accuracy(side[seed]) for seed in seeds] for side in (left, right)]
    spent = [sum(calls(side[seed]) for seed in seeds) for side in (left, right)]
    rows = [(left[seed].test_scores, right[seed].test_scores) for seed in seeds]
    moved = [one[row] - other[row] for one, other in rows for row in sorted(one.keys() & other.keys())]
    p_value = paired_test(moved) if moved else 1.0
    every = {run.key.seed for group in (ours, theirs) for run in group.runs}
    return Contrast(
        task=ours.task,
        ours=ours.label,
        theirs=theirs.label,
        caps=(ours.cap, theirs.cap),
        share=spent[0] / spent[1] if spent[1] else math.inf,
        means=(fmean(means[0]), fmean(means[1])),
        difference=bootstrap_difference([one - other for one, other in zip(*means, strict=True)]),
        p_value=p_value,
        p_holm=p_value,
        missing=len(every) - len(seeds),
    )


Pairs = Sequence[tuple[Group, Group]]


def corrected(pairs: Pairs) -> list[Contrast]:
    """The contrasts of pairs of groups, one task each, with p-values corrected for the tasks; behind them one over all
    tasks where there are several."""
    known = [(pair, found) for pair in pairs if (found := contrast(*pair)) is not None]
    p_values = holm([found.p_value for _, found in known])
    table = [replace(found, p_holm=p_value) for (_, found), p_value in zip(known, p_values, strict=True)]
    return [*table, _overall([pair for pair, _ in known], table)] if len(table) > 1 else table


def _overall(pairs: Pairs, table: Sequence[Contrast]) -> Contrast:
    scores = [
        {(group.task, seed): accuracy(run) for group in side for seed, run in group.scored.items()}
        for side in zip(*pairs, strict=True)
    ]
    row = compare_methods({"theirs": scores[1], "ours": scores[0]}, baseline="theirs")["ours"]
    return replace(
        table[0],
        task=ALL,
        share=fmean(found.share for found in table),
        means=(row.mean, row.baseline),
        difference=row.difference,
        p_value=row.p_value,
        p_holm=row.p_value,
        missing=sum(found.missing for found in table),
    )


def at_equal_calls(groups: Sequence[Group]) -> list[list[Contrast]]:
    """Ours against the peer under the same cap, a table for each of the peer's settings and caps. What the peer calls
    with its defaults is measured: there ours is the largest cap within it, not below half."""
    return _tables(groups, lambda cap, limit, exact: cap == limit if exact else limit / 2 < cap <= limit)


def at_a_third(groups: Sequence[Group]) -> list[list[Contrast]]:
    """Ours with the largest cap within a third of the peer's."""
    return _tables(groups, lambda cap, limit, _: 0 < 3 * cap <= limit)


def ablations(groups: Sequence[Group]) -> list[list[Contrast]]:
    """Variants of ours, each against ours as it comes under the same cap, a table for each."""
    usual = {(group.task, group.cap): group for group in groups if (group.method, group.settings) == (OURS, USUAL)}
    variants: dict[tuple[str, int], list[tuple[Group, Group]]] = {}
    for group in groups:
        base = usual.get((group.task, group.cap))
        if group.method == OURS and group.settings != USUAL and base is not None:
            variants.setdefault((group.settings, group.cap), []).append((group, base))
    return [table for pairs in variants.values() if (table := corrected(pairs))]


def _tables(groups: Sequence[Group], fits: Callable[[int, float, bool], bool]) -> list[list[Contrast]]:
    families: dict[tuple[str, int], list[tuple[Group, Group]]] = {}
    for peer in groups:
        if peer.method != PEER or not peer.scored:
            continue
        exact = peer.settings != DEFAULT
        limit = float(peer.cap) if exact else peer.mean(calls)
        mine = [
            group
            for group in groups
            if (group.task, group.method, group.settings) == (peer.task, OURS, USUAL) and fits(group.cap, limit, exact)
        ]
        if mine:
            family = (peer.settings, peer.cap if exact else 0)
            families.setdefault(family, []).append((max(mine, key=lambda group: group.cap), peer))
    return [table for pairs in families.values() if (table := corrected(pairs))]
