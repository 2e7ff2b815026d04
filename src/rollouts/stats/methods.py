"""Several methods against one, over tasks and seeds: who is better, by how much, and were there seeds enough."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rollouts.errors import ConfigError
from rollouts.stats.effects import bootstrap_difference, cohens_d, hodges_lehmann
from rollouts.stats.intervals import Floats, Interval, finite, quantile
from rollouts.stats.power import detectable_effect, seeds_needed
from rollouts.stats.significance import holm, sign_flip_test, wilcoxon_test

Run = tuple[Hashable, Hashable]
"""One run: (task, seed)."""

Unit = Literal["run", "task", "seed"]
Test = Literal["permutation", "wilcoxon"]
Finding = Literal["better", "worse", "no difference seen", "too few seeds"]

LEAST_PAIRS = 5
"""Fewer differences are never called better or worse."""

_POWER = 0.8
_LEAST_EFFECT = 0.01
_MOST_PAIRS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """One method against the baseline, on the runs (task and seed) that both have a score for.

    `baseline`, `mean`: plain means over these runs. `difference`: mean paired difference (`bootstrap_difference`), its
    interval in [-1, 1] where the scores are in [0, 1]. `shift`: the Hodges-Lehmann shift with its exact interval.
    `effect`: Cohen's d_z with its interval. Intervals are for one comparison alone. `p_value`: two-sided; `p_holm`:
    corrected for all methods of the table, which decides.
    `n`: independent differences that this rests on; `missing`: runs left out for want of a score on either side.
    `detectable`: the difference that as many would have shown with 80 % power; `needed`: how many it takes to show
    the difference that was met with 80 % power, None beyond 1,000 or when there is none. NaN and None where equal
    differences tell nothing of the noise.
    """

    method: str
    verdict: Finding
    baseline: float
    mean: float
    difference: Interval
    shift: Interval
    effect: Interval
    p_value: float
    p_holm: float
    n: int
    missing: int
    detectable: float
    needed: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; numbers that are not finite become None."""
        fields = {name: _plain(value) for name, value in asdict(self).items()}
        return {**fields, **{name: getattr(self, name).to_json() for name in ("difference", "shift", "effect")}}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A table of methods against `baseline`, in the order given."""

    baseline: str
    confidence: float
    unit: Unit
    test: Test
    rows: tuple[MethodRow, ...]

    def __getitem__(self, method: str) -> MethodRow:
        """The row of a method; raises KeyError."""
        for row in self.rows:
            if row.method == method:
                return row
        raise KeyError(method)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; numbers that are not finite become None."""
        fields = {name: getattr(self, name) for name in ("baseline", "confidence", "unit", "test")}
        return {**fields, "rows": [row.to_json() for row in self.rows]}

    def text(self) -> str:
        """The table for a person, in plain text with aligned columns."""
        heads = ("method", "mean", "difference", "interval", "effect", "p (Holm)", "n", "verdict")
        lines = [heads, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        out = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        out.insert(1, "  ".join("-" * width for width in widths))
        named = {"permutation": "paired permutation test", "wilcoxon": "Wilcoxon's signed-rank test"}[self.test]
        counted = f"{len(self.rows)} {'comparison' if len(self.rows) == 1 else 'comparisons'}"
        out.append(
            f"against {self.baseline}; n counts paired {self.unit}s; {named}, corrected by Holm for {counted}; "
            f"{100 * self.confidence:g} % intervals of single ones"
        )
        return "\n".join(out)


def compare_methods(
    scores: Mapping[str, Mapping[Run, float | None]],
    *,
    baseline: str,
    unit: Unit = "run",
    test: Test = "permutation",
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares every method with `baseline` on the runs that both have.

    `scores` maps a method to its score for every (task, seed); None and NaN are failed runs and are left out of the
    pairs. `unit` says what counts as one independent difference, and so what the answer is about: "run" each pair of
    runs (further seeds on these tasks), "task" the mean over a task's seeds (further tasks), "seed" the mean over a
    seed's tasks (further seeds, where the runs of one seed hang together, as with one split of the data).

    `test`: "permutation" of signs, on the mean (`sign_flip_test`), or "wilcoxon", on the ranks (`wilcoxon_test`).
    A method is `better` or `worse` when its p-value, corrected by Holm for all methods in the table, is below
    `1 - confidence`, and the differences within a task are not all equal: runs that repeat each other are no evidence.
    It is `too few seeds` with fewer than 5 differences, and when no result could have come below that level, however
    large the difference; else there is `no difference seen`, which is not evidence of equality: see `detectable`.

    Raises ConfigError for an unknown baseline, no other method, an unknown `unit` or `test`, or a confidence outside
    (0, 1).
    """
    quantile(confidence)
    others = [name for name in scores if name != baseline]
    if baseline not in scores or not others:
        raise ConfigError(f"baseline = {baseline!r}: name one of {sorted(scores)}, and give another method beside it")
    if unit not in ("run", "task", "seed") or test not in ("permutation", "wilcoxon"):
        raise ConfigError(f"unit = {unit!r}, test = {test!r}: use 'run', 'task' or 'seed', 'permutation' or 'wilcoxon'")
    pairs = [_Pairs.of(scores[baseline], scores[name], unit) for name in others]
    p_values = [
        wilcoxon_test(pair.moved) if test == "wilcoxon" else sign_flip_test(pair.moved, seed=seed) for pair in pairs
    ]
    corrected = holm(p_values)
    rows = []
    for name, pair, p_value, p_holm in zip(others, pairs, p_values, corrected, strict=True):
        shift = hodges_lehmann(pair.moved, confidence)
        alpha = 1 - confidence
        centre = shift.mean if test == "wilcoxon" else pair.mean
        gap = pair.possible(bootstrap_difference(pair.moved, strata=pair.strata, confidence=confidence, seed=seed))
        finding = _finding(centre, gap, p_holm, alpha, least=len(others) * 2.0 ** (1 - gap.n))
        rows.append(pair.row(name, finding, gap, shift, (p_value, p_holm), confidence))
    return Comparison(baseline=baseline, confidence=confidence, unit=unit, test=test, rows=tuple(rows))


def _finding(centre: float, gap: Interval, p_holm: float, alpha: float, *, least: float) -> Finding:
    """`least` is the smallest corrected p-value that so many differences can have."""
    if gap.n < LEAST_PAIRS or least >= alpha:
        return "too few seeds"
    if p_holm >= alpha or not math.isfinite(gap.low):
        return "no difference seen"
    return "better" if centre > 0 else "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """What two methods scored on the runs that both have; `moved` are the independent differences, by `strata`."""

    before: Floats
    after: Floats
    moved: Floats
    strata: Sequence[Hashable]
    missing: int

    @classmethod
    def of(cls, before: Mapping[Run, float | None], after: Mapping[Run, float | None], unit: Unit) -> _Pairs:
        known, every = _scored(before).keys() & _scored(after).keys(), before.keys() | after.keys()
        runs = sorted(known, key=lambda run: (str(run[0]), str(run[1])))
        left, right = (finite([float(side[run] or 0.0) for run in runs]) for side in (before, after))
        gaps = right - left
        groups: dict[Hashable, list[float]] = {}
        for run, gap in zip(runs, gaps, strict=True):
            groups.setdefault(run[0] if unit == "task" else run[1], []).append(float(gap))
        if unit == "run":
            moved, strata = gaps, [run[0] for run in runs]
        else:
            moved, strata = np.array([sum(values) / len(values) for values in groups.values()]), [None] * len(groups)
        return cls(before=left, after=right, moved=moved, strata=strata, missing=len(every) - len(runs))

    @property
    def mean(self) -> float:
        return float(self.moved.mean()) if len(self.moved) else math.nan

    def possible(self, gap: Interval) -> Interval:
        """`gap` without what scores in [0, 1] cannot differ by, where all are such. The whole line stays: it says that
        nothing is known."""
        known = np.concatenate([self.before, self.after])
        if not math.isfinite(gap.low) or known.min() < 0 or known.max() > 1:
            return gap
        return replace(gap, low=max(gap.low, -1.0), high=min(gap.high, 1.0))

    def row(
        self,
        method: str,
        finding: Finding,
        gap: Interval,
        shift: Interval,
        p_values: tuple[float, float],
        confidence: float,
    ) -> MethodRow:
        n, effect = len(self.moved), cohens_d(self.moved, confidence)
        deviation = float(self.moved.std(ddof=1)) if math.isfinite(gap.low) else math.nan
        return MethodRow(
            method=method,
            verdict=finding,
            baseline=float(self.before.mean()) if n else math.nan,
            mean=float(self.after.mean()) if n else math.nan,
            difference=gap,
            shift=shift,
            effect=effect,
            p_value=p_values[0],
            p_holm=p_values[1],
            n=n,
            missing=self.missing,
            detectable=detectable_effect(n, power=_POWER, confidence=confidence) * deviation,
            needed=_needed(self.mean, deviation, confidence),
        )


def _scored(runs: Mapping[Run, float | None]) -> dict[Run, float]:
    return {run: score for run, score in runs.items() if score is not None and not math.isnan(score)}


def _needed(mean: float, deviation: float, confidence: float) -> int | None:
    if not deviation > 0 or not abs(mean) / deviation >= _LEAST_EFFECT:
        return None
    needed = seeds_needed(mean / deviation, power=_POWER, confidence=confidence)
    return needed if needed <= _MOST_PAIRS else None


def _cells(row: MethodRow) -> tuple[str, ...]:
    gap = row.difference
    return (
        row.method,
        f"{row.mean:.3f}",
        f"{gap.mean:+.3f}",
        f"{gap.low:+.3f} to {gap.high:+.3f}",
        f"{row.effect.mean:+.2f}",
        f"{row.p_holm:.2g}",
        str(row.n),
        row.verdict,
    )
