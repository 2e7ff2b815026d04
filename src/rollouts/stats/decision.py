"""The verdict on a winner: ship it, keep the start, or undecided."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, Interval, finite, mean_interval
from rollouts.stats.paired import adjusted_moments, paired_difference
from rollouts.stats.power import samples_to_settle
from rollouts.stats.significance import paired_test

Decision = Literal["ship", "keep", "undecided"]

_MANY = 100_000
_ENOUGH_TO_CALL_ALIKE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with the winner of a search, and why.

    `baseline` and `best` are the mean scores of the start and of the winner on the `n` samples scored for both,
    `difference` their paired difference, `p_value` that of the paired test of no difference. `failed` counts the
    samples that the winner alone failed on. `reason` is one or two sentences for a person. `more_samples` says, for
    `undecided`, about how many further samples would settle the matter; None when there is no sensible number.
    """

    decision: Decision
    baseline: Interval
    best: Interval
    difference: Interval
    p_value: float
    n: int
    reason: str
    more_samples: int | None = None
    failed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; numbers that are not finite become None."""
        return {
            "decision": self.decision,
            "baseline": self.baseline.to_json(),
            "best": self.best.to_json(),
            "difference": self.difference.to_json(),
            "p_value": self.p_value,
            "n": self.n,
            "reason": self.reason,
            "more_samples": self.more_samples,
            "failed": self.failed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_json`."""
        intervals = {name: Interval.from_json(data[name]) for name in ("baseline", "best", "difference")}
        return cls(**{**data, **intervals})


def verdict(
    baseline: Mapping[str, float],
    candidate: Mapping[str, float],
    *,
    failed: Collection[str] = (),
    confidence: float = 0.95,
    min_effect: float = 0.0,
    margin: float = 0.02,
    same: bool = False,
) -> Verdict:
    """Judges a winner against the start on samples that the search never saw.

    `baseline` and `candidate` map sample ids to scores; only samples scored for both count. `same` says that the
    winner is the start itself. With several winners or looks, raise `confidence` accordingly (Bonferroni:
    `1 - (1 - confidence) / looks`). `failed` are samples for which the winner came to no score by its own doing: an
    answer that the metric cannot read, an error of the program.

    - `ship`: the whole interval of the paired difference (`paired_difference`) lies above `min_effect`, and the paired
      test (`paired_test`) rejects "no difference" at `1 - confidence`. At 95 %, a prompt that is only as good on 0/1
      scores ships at most 2.5 % of the time when it agrees with the start on half of the samples or more, and never
      more than 4 % of the time, whatever the number of samples and of candidates it was chosen from, as long as none
      of these samples took part in the choice. And it must ship just as well when each sample of `failed` that the
      start was scored on counts as the lowest score there is (0, or less where scores are): to fail where answers are
      hard is no gain.
    - `keep`: there is no gain worth having: the winner is the start; or the interval ends at or below
      `max(min_effect, margin)`; or at least 20 samples were scored and not one scored differently. Only where it holds
      no gain above `margin` and does not lie above 0 is the start called as good.
    - `undecided`: anything else, and any comparison of fewer samples than an exact test needs to be able to
      reject (6 at 95 %). An undecided winner is no reason to ship.

    `min_effect` and `margin` are in the unit of the scores: 0.02 is two points of accuracy. Raises ConfigError for a
    confidence outside (0, 1), a negative `min_effect` or `margin`, or a score that is not finite.
    """
    if not min_effect >= 0 or not margin >= 0:
        raise ConfigError(f"min_effect = {min_effect!r} and margin = {margin!r} must be at least 0")
    shared = sorted(baseline.keys() & candidate.keys())
    before = finite([baseline[sample] for sample in shared])
    after = finite([candidate[sample] for sample in shared])
    difference = paired_difference(before, after, confidence)
    p_value = paired_test(after - before)
    rule = _Rule(confidence=confidence, min_effect=min_effect, margin=margin)
    decision, reason, more = (
        ("keep", "the search found nothing better than the start itself", None)
        if same
        else (rule.decide(after - before, difference, p_value))
    )
    lost = [] if same else sorted(baseline.keys() & set(failed) - candidate.keys())
    if lost:
        reason = f"where both were scored, {reason}; the winner failed on {len(lost)} of the "
        reason += f"{len(shared) + len(lost)} samples"
        if decision == "ship":
            lowest = min(0.0, *before, *after)
            all_before = np.append(before, [baseline[sample] for sample in lost])
            all_after = np.append(after, [lowest] * len(lost))
            moved, gap = all_after - all_before, paired_difference(all_before, all_after, confidence)
            decision, why, more = rule.decide(moved, gap, paired_test(moved))
            reason += f", and with a score of {lowest:g} for these {why}"
    dropped = len(baseline) + len(candidate) - 2 * len(shared) - len(lost)
    if dropped:
        reason += f"; {dropped} {_plural('score', dropped)} without a counterpart left out"
    return Verdict(
        decision=decision,
        baseline=mean_interval(before, confidence),
        best=mean_interval(after, confidence),
        difference=difference,
        p_value=p_value,
        n=len(shared),
        reason=reason,
        more_samples=more,
        failed=len(lost),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    confidence: float
    min_effect: float
    margin: float

    @property
    def ceiling(self) -> float:
        """The largest gain that is not worth having."""
        return max(self.min_effect, self.margin)

    def decide(self, moved: Floats, gap: Interval, p_value: float) -> tuple[Decision, str, int | None]:
        alpha = 1 - self.confidence
        needed = max(2, 1 + math.ceil(-math.log2(alpha) - 1e-9))
        if gap.n < needed:
            return (
                "undecided",
                f"{gap.n} {_plural('sample', gap.n)} scored for both are too few: no result could be told from "
                f"chance with fewer than {needed}",
                needed - gap.n,
            )
        found = (
            f"{gap.mean:+.3f} ({100 * self.confidence:g} % interval {gap.low:+.3f} to {gap.high:+.3f}, "
            f"n = {gap.n}, p = {p_value:.2g})"
        )
        if gap.low > self.min_effect and p_value < alpha:
            return "ship", f"the winner is better by {found}", None
        if gap.high <= self.ceiling:
            return "keep", f"{self._standing(gap)}: the winner's difference is {found}", None
        if gap.n >= _ENOUGH_TO_CALL_ALIKE and not np.any(moved):
            return "keep", f"the start is as good: all {gap.n} samples scored alike", None
        more = self._more_samples(moved, gap)
        advice = (
            "the two are too close to tell apart with a sensible number of samples"
            if more is None
            else f"about {more:,} more {_plural('sample', more)} would settle it if the difference stays as it is"
        )
        return "undecided", f"the difference may be chance: {found}; {advice}", more

    def _standing(self, gap: Interval) -> str:
        if gap.high < 0:
            return "the start is better"
        if gap.low <= 0 and gap.high <= self.margin:
            return "the start is as good"
        return f"the gain, if there is one, is too small to ship, {self.ceiling:g} at most"

    def _more_samples(self, moved: Floats, gap: Interval) -> int | None:
        """What is missing to the nearer of the two ends, `ship` or `keep`."""
        _, deviation = adjusted_moments(moved)
        distance = max(gap.mean - self.min_effect, self.ceiling - gap.mean)
        total = samples_to_settle(distance, deviation, self.confidence)
        return None if total - gap.n > _MANY else _rounded(max(1.0, total - gap.n))


def _rounded(count: float) -> int:
    """Upwards to two significant digits: the estimate carries no more."""
    unit = int(10 ** max(0, math.floor(math.log10(count)) - 1))
    return math.ceil(count / unit) * unit


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"
