"""Is there anything to gain? A start and a few variants on the same samples, and what a finished run can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, Interval, finite, mean_interval
from rollouts.stats.paired import adjusted_moments
from rollouts.stats.power import detectable_difference, sample_size
from rollouts.stats.winner import Winner, winner

_RESAMPLES = 1_999
_BLOCK = 1 << 20
_TELLING = 10
_SAME = 1e-9
_USUAL_AGREEMENT = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRoom:
    """What a small sample says about a search before it is paid for.

    baseline: the start's mean. room: from there to the ceiling of the scores; None where that is not known. reached:
    the mean over samples of the best score that any candidate had, which no single candidate will pass by much.
    spread, spread_p: standard deviation of the variants' and the start's true means beyond noise, and the p-value of
    "all are alike" (`spread_test`). gain: of the best variant over the start, corrected for having chosen it. These are
    None without variants.
    wanted, needed: the gain to be seen by the final check, and the test samples that it takes (power 80 %); None where
    there is no room for it. findings: any of `constant`, `ceiling`, `unmoved`, `alike`, `few_test_rows`. worth: False
    when a search can't be expected to gain anything. advice: a sentence or two for a person.
    """

    baseline: Interval
    room: float | None
    reached: float | None
    spread: float | None
    spread_p: float | None
    gain: Winner | None
    wanted: float
    needed: int | None
    findings: tuple[str, ...]
    worth: bool
    advice: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        gain = self.gain
        return {
            "baseline": self.baseline.to_json(),
            "room": self.room,
            "reached": self.reached,
            "spread": self.spread,
            "spread_p": self.spread_p,
            "gain": None if gain is None else {"mean": gain.corrected, "low": gain.low, "high": gain.high},
            "wanted": self.wanted,
            "needed": self.needed,
            "findings": list(self.findings),
            "worth": self.worth,
            "advice": self.advice,
        }


def head_room(
    baseline: npt.ArrayLike,
    variants: Sequence[npt.ArrayLike] = (),
    *,
    test_samples: int | None = None,
    ceiling: float = 1.0,
    wanted: float = 0.05,
    seed: int = 0,
) -> HeadRoom:
    """Judges the scores of the start and of each variant on the same samples in one order.

    `test_samples` is how many samples the final check will have, `ceiling` the best possible score (not believed when a
    score passes it), `wanted` the gain that one would like to see, in the unit of the scores. Raises ConfigError for no
    score, rows of unequal length, numbers that are not finite, or `wanted` outside (0, 1).
    """
    start = finite(baseline)
    table = _table([start, *(finite(row) for row in variants)])
    if not 0 < wanted < 1:
        raise ConfigError(f"wanted = {wanted!r}: must be a gain between 0 and 1, for example 0.05")
    interval = mean_interval(start)
    room = None if table.max() > ceiling + _SAME else ceiling - interval.mean
    several = len(table) > 1
    visible = room is None or room >= wanted
    needed = sample_size(wanted, agreement=1 - _unequal(table, wanted)) if visible else None
    findings = _findings(table, room, wanted)
    spread, p_value = (_spread(table), spread_test(table, seed=seed)) if several else (None, None)
    if p_value is not None and p_value >= 0.05 and not findings:
        findings.append("alike")
    if needed is not None and test_samples is not None and needed > test_samples:
        findings.append("few_test_rows")
    worth = not {"constant", "ceiling", "unmoved"} & set(findings)
    found = HeadRoom(
        baseline=interval,
        room=room,
        reached=float(table.max(axis=0).mean()) if several else None,
        spread=spread,
        spread_p=p_value,
        gain=_gain(table) if several else None,
        wanted=wanted,
        needed=needed,
        findings=tuple(findings),
        worth=worth,
        advice="",
    )
    return _advised(found, table, test_samples)


def spread_test(table: npt.ArrayLike, *, seed: int = 0) -> float:
    """P-value of "all candidates are alike" from scores of shape (candidates, samples) on the same samples.

    The permutation version of Friedman's and Cochran's tests: if candidates are alike, a sample's scores may be
    exchanged among them; the statistic is the variance of the candidates' means. Resampled by `seed`, the observed
    table counted in. Neither the order of candidates nor the level of a sample matters to the statistic. 1.0 for fewer
    than two candidates. Raises ConfigError for a table that is not of two dimensions, without scores, or not finite.
    """
    rows = np.asarray(table, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise ConfigError(f"scores must be a table of candidates x samples, not of shape {rows.shape}")
    finite(rows)
    centred = rows - rows.mean(axis=0)
    if len(rows) < 2 or not np.abs(centred).max() > _SAME:
        return 1.0
    rng = np.random.default_rng(seed)
    reached = np.sum(centred.sum(axis=1) ** 2) * (1 - _SAME)
    extreme, left = 1, _RESAMPLES
    while left > 0:
        count = min(left, max(1, _BLOCK // centred.size))
        mixed = rng.permuted(np.broadcast_to(centred, (count, *centred.shape)), axis=1)
        extreme += int((np.sum(mixed.sum(axis=2) ** 2, axis=1) >= reached).sum())
        left -= count
    return extreme / (_RESAMPLES + 1)


def remarks(
    baseline: npt.ArrayLike, trials: Sequence[tuple[float, int]], *, ceiling: float = 1.0, wanted: float = 0.05
) -> tuple[str, ...]:
    """What the data of a run say about its head-room, one sentence each; mostly none. Costs no rollout.

    `baseline` are the start's scores, `trials` mean and number of scores of each trial. Says when every rollout had
    the same score, when the start is within `wanted` of the ceiling, and when the trials' means differ no more than
    samples of their size do (chi-squared test of equal means with the baseline's variance, or the largest that scores
    of the trials' mean can have). Fewer than 10 scores of the start say nothing. Raises ConfigError for numbers that
    are not finite.
    """
    start = finite(baseline)
    means = finite([mean for mean, n in trials if n])
    counts = np.array([n for _, n in trials if n], dtype=np.float64)
    if len(start) < _TELLING:
        return ()
    everything = np.concatenate([start, means])
    if np.ptp(everything) <= _SAME:
        return (_constant(float(start[0])),)
    out = []
    if everything.max() <= ceiling + _SAME and ceiling - start.mean() < wanted:
        out.append(_at_ceiling(mean_interval(start)))
    if len(means) >= 5 and everything.min() >= 0 and everything.max() <= 1:
        centre = float(np.average(means, weights=counts))
        graded = float(start.var()) if not np.isin(start, (0, 1)).all() else 0.0
        variance = graded or centre * (1 - centre)
        excess = float(np.sum(counts * (means - centre) ** 2)) / variance if variance > 0 else 0.0
        if chdtrc(len(means) - 1, excess) >= 0.05:
            out.append(
                "the candidates' scores differ no more than chance would make them: more rows per trial, or bolder "
                "changes, are needed to tell them apart"
            )
    return tuple(out)


def _table(rows: Sequence[Floats]) -> Floats:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(f"every candidate needs a score on each of the same samples, not {sorted(lengths)} scores")
    return np.stack(rows)


def _findings(table: Floats, room: float | None, wanted: float) -> list[str]:
    n = table.shape[1]
    if np.ptp(table) <= _SAME and n >= _TELLING:
        return ["constant"]
    if room is not None and room < wanted:
        return ["ceiling"]
    if len(table) > 2 and n >= _TELLING and np.ptp(table, axis=0).max() <= _SAME:
        return ["unmoved"]
    return []


def _unequal(table: Floats, wanted: float) -> float:
    """The share of samples that a variant moves, as 0/1 scores would; what is usual where there are no variants."""
    share = float(np.mean((table[1:] - table[0]) ** 2)) if len(table) > 1 else 1 - _USUAL_AGREEMENT
    return min(1.0, max(wanted, share))


def _spread(table: Floats) -> float:
    """Standard deviation between the candidates' true means: that of their means, without the noise's share."""
    k, n = table.shape
    if n < 2:
        return 0.0
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    noise = float(np.sum(residual**2)) / ((k - 1) * (n - 1)) / n
    return math.sqrt(max(0.0, float(table.mean(axis=1).var(ddof=1)) - noise))


def _gain(table: Floats) -> Winner:
    moved = table[1:] - table[0]
    deviations = np.array([adjusted_moments(row)[1] for row in moved])
    # All gains share the start's noise: their errors go together by a half.
    return winner(
        moved.mean(axis=1), deviations / math.sqrt(table.shape[1] + 2), correlation=0.5 if len(moved) > 1 else 0.0
    )


def _advised(found: HeadRoom, table: Floats, test_samples: int | None) -> HeadRoom:
    start, n = found.baseline, found.baseline.n
    if "constant" in found.findings:
        sentences = [_constant(start.mean)]
    elif "ceiling" in found.findings:
        sentences = [_at_ceiling(start)]
    elif "unmoved" in found.findings:
        sentences = [
            f"no variant changed the score of any of {n} rows: the prompt may not reach the model, or the metric looks "
            "at something else; check both before a search"
        ]
    elif "alike" in found.findings:
        sentences = [
            f"the variants cannot be told apart on {n} rows: there may be something to gain, but not easily by rules "
            "and demonstrations alone"
        ]
    else:
        room = "" if found.room is None else f": {found.room:.3f} below the best possible score"
        sentences = [f"there is room{room}" + (", and what the prompt says makes a difference" if found.spread else "")]
    if "few_test_rows" in found.findings and test_samples is not None:
        agreement = 1 - _unequal(table, found.wanted)
        visible = detectable_difference(test_samples, agreement=agreement) if test_samples else 1.0
        shown = f"enough for gains of {visible:.2f} or more" if visible < 1 else "too few to show any gain"
        sentences.append(
            f"a gain of {found.wanted:g} takes about {found.needed:,} test rows to be seen; the {test_samples:,} there "
            f"are {shown}"
        )
    return replace(found, advice="; ".join(sentences))


def _constant(score: float) -> str:
    return (
        f"the metric gave the same score ({score:g}) to every rollout: check the metric and the format of the answers; "
        "a search has nothing to go by"
    )


def _at_ceiling(start: Interval) -> str:
    return (
        f"the starting prompt already scores {start.mean:.3f} (95 % interval {start.low:.3f} to {start.high:.3f}, "
        f"{start.n} rows): little to gain"
    )
