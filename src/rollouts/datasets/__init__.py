"""Data sets: from files, the Hugging Face hub or by name to samples, and samples to splits."""

from rollouts.datasets.columns import GROUND_TRUTH_NAMES, detect_ground_truth, samples_from_dicts
from rollouts.datasets.loading import load
from rollouts.datasets.spec import BUILT_IN, DatasetSpec, is_file_path
from rollouts.datasets.splits import (
    PARTS,
    apart,
    auto_sizes,
    cross_validation,
    fitted_sizes,
    remarks_on,
    split,
    usable_rows,
)
from rollouts.datasets.summary import DatasetSummary, Lengths, describe, label_counts, same_inputs

__all__ = [
    "BUILT_IN",
    "GROUND_TRUTH_NAMES",
    "PARTS",
    "DatasetSpec",
    "DatasetSummary",
    "Lengths",
    "apart",
    "auto_sizes",
    "cross_validation",
    "describe",
    "detect_ground_truth",
    "fitted_sizes",
    "is_file_path",
    "label_counts",
    "load",
    "remarks_on",
    "same_inputs",
    "samples_from_dicts",
    "split",
    "usable_rows",
]
