"""Is there anything to gain? A start and a few variants on the same samples, and what a finished run can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, chndtr, rel_entr

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, Interval, finite, mean_interval
from rollouts.stats.paired import adjusted_moments
from rollouts.stats.power import detectable_difference, sample_size
from rollouts.stats.winner import Winner, winner

_RESAMPLES = 1_999
_BLOCK = 1 << 20
_TELLING = 10
_SEVERAL = 5
_CHANCE = 0.05
_REAL = 2.0
"""How many times the gain that one would like to see counts as real room, and as a real difference."""
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
    score passes it), `wanted` the gain that one would like to see, in the unit of the scores. Fewer than 10 samples
    find neither `constant`, `ceiling` nor `unmoved`. The `ceiling` is found where the start's mean is within `wanted`
    of it, and one with twice that room would score so high in at most 5 % of samples: by 29 right ones of 29 for
    `wanted` = 0.05. A start alone that is always right is judged by that too, and is not `constant`. Raises ConfigError
    for no score, rows of unequal length, numbers that are not finite, or `wanted` outside (0, 1).
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
    findings = _findings(table, ceiling if room is not None else None, wanted)
    spread, p_value = (_spread(table), spread_test(table, seed=seed)) if several else (None, None)
    if p_value is not None and p_value >= _CHANCE and not findings:
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
    baseline: npt.ArrayLike,
    trials: Sequence[tuple[float, int]],
    *,
    rows: Sequence[Mapping[Any, float]] = (),
    ceiling: float = 1.0,
    wanted: float = 0.05,
) -> tuple[str, ...]:
    """What the data of a run say about its head-room, one sentence each; mostly none. Costs no rollout.

    `baseline` are the start's scores, `trials` mean and number of scores of each trial, `rows` each candidate's scores
    by sample. Says when every rollout had the same score, when the start is at the `ceiling` (as `head_room` finds it),
    and when at least five candidates are alike on at least 10 samples that all of them have (`spread_test`; means over
    different samples tell nothing of it). That is said only where a candidate that is twice `wanted` better than the
    others would have been found with a chance of 95 %. Fewer than 10 scores of the start say nothing. Raises
    ConfigError for numbers that are not finite.
    """
    start = finite(baseline)
    means = finite([mean for mean, n in trials if n])
    if len(start) < _TELLING:
        return ()
    everything = np.concatenate([start, means])
    if np.ptp(everything) <= _SAME:
        return (_constant(float(start[0])),)
    out = []
    if everything.max() <= ceiling + _SAME and _is_full(start, ceiling, wanted):
        out.append(_at_ceiling(mean_interval(start)))
    scored = [row for row in rows if row]
    shared = sorted(set(scored[0]).intersection(*scored), key=str) if len(scored) >= _SEVERAL else []
    if len(shared) >= _TELLING:
        table, gain = np.stack([finite([row[sample] for sample in shared]) for row in scored]), _REAL * wanted
        if _chance_to_find(gain, table) >= 1 - _CHANCE and spread_test(table) >= _CHANCE:
            out.append(
                f"on the {len(shared)} rows that all {len(scored)} candidates have, their scores differ no more than "
                f"chance would make them, and one that is {gain:g} better would have shown: bolder changes are needed"
            )
    return tuple(out)


def _chance_to_find(gain: float, table: Floats) -> float:
    """The power of `spread_test` against one candidate that is better than the others, which are alike, by `gain`: the
    chance that a noncentral chi-squared variable passes the quantile of the central one (Cohen 1988, "Statistical power
    analysis", chapter 7)."""
    k, n = table.shape
    # So much it is at least with 0/1 scores, as a gain takes a change on that share of samples.
    noise = max(_noise(table), gain / k)
    centre = n * gain**2 * (1 - 1 / k) / noise
    return 1 - float(chndtr(chdtri(k - 1, _CHANCE), k - 1, centre))


def _table(rows: Sequence[Floats]) -> Floats:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(f"every candidate needs a score on each of the same samples, not {sorted(lengths)} scores")
    return np.stack(rows)


def _findings(table: Floats, ceiling: float | None, wanted: float) -> list[str]:
    n = table.shape[1]
    if n < _TELLING:
        return []
    alone = len(table) == 1 and ceiling is not None and table.min() >= ceiling - _SAME
    if np.ptp(table) <= _SAME and not alone:
        return ["constant"]
    if ceiling is not None and _is_full(table[0], ceiling, wanted):
        return ["ceiling"]
    if len(table) > 2 and np.ptp(table, axis=0).max() <= _SAME:
        return ["unmoved"]
    return []


def _is_full(start: Floats, ceiling: float, wanted: float) -> bool:
    """Whether the mean is within `wanted` of the ceiling and shown to be within `_REAL` times that: Hoeffding's bound
    (1963, "Probability inequalities for sums of bounded random variables", theorem 1) on the chance of such a mean
    with more room, which holds for all scores between 0, or the least one, and the ceiling."""
    least, mean = min(0.0, float(start.min())), float(start.mean())
    if ceiling - mean >= wanted:
        return False
    reached, real = (min(1.0, max(0.0, (x - least) / (ceiling - least))) for x in (mean, ceiling - _REAL * wanted))
    divergence = float(rel_entr(reached, real) + rel_entr(1 - reached, 1 - real))
    return len(start) * divergence >= -math.log(_CHANCE)


def _unequal(table: Floats, wanted: float) -> float:
    """The share of samples that a variant moves, as 0/1 scores would; what is usual where there are no variants."""
    share = float(np.mean((table[1:] - table[0]) ** 2)) if len(table) > 1 else 1 - _USUAL_AGREEMENT
    return min(1.0, max(wanted, share))


def _spread(table: Floats) -> float:
    """Standard deviation between the candidates' true means: that of their means, without the noise's share."""
    n = table.shape[1]
    if n < 2:
        return 0.0
    between = float(table.mean(axis=1).var(ddof=1))
    return math.sqrt(max(0.0, between - _noise(table) / n))


def _noise(table: Floats) -> float:
    """The variance of a score that neither its candidate nor its sample accounts for."""
    k, n = table.shape
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return float(np.sum(residual**2) / ((k - 1) * (n - 1)))


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
    elif found.room is not None and found.room < found.wanted:
        sentences = [f"the starting prompt scores {start.mean:.3f}, on {n} rows, too few to call that little to gain"]
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
