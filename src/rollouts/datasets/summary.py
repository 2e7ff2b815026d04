"""What a data set looks like: labels, lengths, kind of answers, duplicates."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rollouts.datasets.spec import text_of
from rollouts.dtypes import Sample, canonical_json, value_text

Answers = Literal["labels", "number", "json", "text", "none"]

_MAX_LABELS = 300
_MAX_LABEL_CHARS = 80
_MAX_NUMERIC_LABELS = 20
_NUMBER = re.compile(r"\s*[-+]?[$€£]?\s*(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][-+]?\d+)?\s*%?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Length of a sample's inputs, written as text and taken together, in characters."""

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """A data set at a glance.

    `columns` are the input names in order of first appearance. `labels` counts the rows of each label, most frequent
    first; None when the answers are no labels. `answers` says what the ground truths look like, `none` when there
    are none. `duplicates` counts the rows whose inputs repeat an earlier row's; `contradictions` holds the ids of
    each group of rows with equal inputs and different ground truths. `split` leaves both out.
    """

    n: int
    columns: tuple[str, ...]
    labels: Mapping[str, int] | None = field(hash=False)
    lengths: Lengths
    answers: Answers
    duplicates: int
    contradictions: tuple[tuple[str, ...], ...]


def describe(samples: Sequence[Sample]) -> DatasetSummary:
    """Counts and lengths over `samples`; no samples give zeros."""
    lengths = sorted(sum(len(value_text(value)) for value in sample.inputs.values()) for sample in samples) or [0]
    groups = same_inputs(samples)
    labels = label_counts(samples)
    return DatasetSummary(
        n=len(samples),
        columns=tuple(dict.fromkeys(name for sample in samples for name in sample.inputs)),
        labels=labels,
        lengths=Lengths(
            min=lengths[0],
            median=lengths[len(lengths) // 2],
            p95=lengths[min(len(lengths) - 1, len(lengths) * 95 // 100)],
            max=lengths[-1],
        ),
        answers="labels" if labels else _answers(samples),
        duplicates=len(samples) - len(groups),
        contradictions=tuple(tuple(sample.id for sample in group) for group in groups if contradictory(group)),
    )


def label_counts(samples: Sequence[Sample]) -> dict[str, int] | None:
    """Rows per label, most frequent first (ties by name), or None when the ground truths are no labels.

    They are labels when all are short one-line texts, numbers or truth values, at most 300 distinct ones (20
    when all are numbers), and each occurs twice on average.
    """
    counts: Counter[str] = Counter()
    for sample in samples:
        text = text_of(sample.ground_truth)
        if text is None or len(text) > _MAX_LABEL_CHARS or "\n" in text:
            return None
        counts[text] += 1
    most = _MAX_NUMERIC_LABELS if all(map(_is_number, counts)) else _MAX_LABELS
    if not counts or len(counts) > most or 2 * len(counts) > len(samples):
        return None
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def same_inputs(samples: Iterable[Sample], shown: Collection[str] = ()) -> list[list[Sample]]:
    """Samples grouped by equal inputs, in order of first appearance.

    Texts are compared without regard to case, Unicode form, and number of spaces. `shown` are the inputs that count,
    those that a prompt shows; empty means all.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(inputs_key(sample, shown), []).append(sample)
    return list(groups.values())


def inputs_key(sample: Sample, shown: Collection[str] = ()) -> str:
    """The same for samples of equal inputs, as `same_inputs` compares them."""
    names = sorted(sample.inputs.keys() & shown) or sorted(sample.inputs)
    return canonical_json([[name, _normal(sample.inputs[name])] for name in names])


def contradictory(group: Sequence[Sample]) -> bool:
    """Whether the samples, which have equal inputs, have different ground truths."""
    if len(group) == 1:
        return False
    return len({canonical_json(sample.ground_truth) for sample in group}) > 1


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    return value


def _answers(samples: Sequence[Sample]) -> Answers:
    truths = [sample.ground_truth for sample in samples]
    if all(truth is None for truth in truths):
        return "none"
    if all(_is_number(truth) for truth in truths):
        return "number"
    if all(_is_json(truth) for truth in truths):
        return "json"
    return "text"


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None and any(map(str.isdigit, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_json(value: Any) -> bool:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return isinstance(value, dict | list)
