"""Numbers in, numbers out: intervals, paired tests, sample sizes, and the verdict on a winner. No I/O, no clock."""

from rollouts.stats.caps import Bounds, mean_bound, percentile_bound, samples_for_bound, share_exceeds
from rollouts.stats.decision import Verdict, verdict
from rollouts.stats.effects import bootstrap_difference, cohens_d, hodges_lehmann, rank_biserial
from rollouts.stats.headroom import HeadRoom, head_room, remarks, spread_test
from rollouts.stats.intervals import Interval, mean_interval
from rollouts.stats.methods import LEAST_PAIRS, Comparison, MethodRow, compare_methods
from rollouts.stats.paired import paired_difference
from rollouts.stats.power import (
    detectable_difference,
    detectable_effect,
    paired_power,
    sample_size,
    seeds_needed,
    unpaired_sample_size,
)
from rollouts.stats.sequential import ConfidenceSequence
from rollouts.stats.significance import holm, mcnemar, paired_test, sign_flip_test, wilcoxon_test
from rollouts.stats.winner import Winner, winner

__all__ = [
    "LEAST_PAIRS",
    "Bounds",
    "Comparison",
    "ConfidenceSequence",
    "HeadRoom",
    "Interval",
    "MethodRow",
    "Verdict",
    "Winner",
    "bootstrap_difference",
    "cohens_d",
    "compare_methods",
    "detectable_difference",
    "detectable_effect",
    "head_room",
    "hodges_lehmann",
    "holm",
    "mcnemar",
    "mean_bound",
    "mean_interval",
    "paired_difference",
    "paired_power",
    "paired_test",
    "percentile_bound",
    "rank_biserial",
    "remarks",
    "sample_size",
    "samples_for_bound",
    "seeds_needed",
    "share_exceeds",
    "sign_flip_test",
    "spread_test",
    "unpaired_sample_size",
    "verdict",
    "wilcoxon_test",
    "winner",
]
