"""Numbers in, numbers out: intervals, paired tests, sample sizes, and the verdict on a winner. No I/O, no clock."""

from rollouts.stats.decision import Verdict, verdict
from rollouts.stats.intervals import Interval, mean_interval, paired_difference
from rollouts.stats.power import detectable_difference, sample_size
from rollouts.stats.significance import mcnemar, sign_flip_test

__all__ = [
    "Interval",
    "Verdict",
    "detectable_difference",
    "mcnemar",
    "mean_interval",
    "paired_difference",
    "sample_size",
    "sign_flip_test",
    "verdict",
]
