"""Training, validation and test sets that share nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence

from rollouts.datasets.rounding import controlled_rounding
from rollouts.datasets.spec import text_of
from rollouts.datasets.summary import contradictory, inputs_key, label_counts, same_inputs
from rollouts.dtypes import Sample
from rollouts.errors import ConfigError, DataError

PARTS = ("train", "val", "test")
_SHARES = {"train": 0.3, "val": 0.35, "test": 0.35}
_MOST = {"train": 200, "val": 300, "test": 500}
_LEAST_TESTED = 9
_SHOWN = 12
_IDS = 5


def usable_rows(samples: Sequence[Sample], shown: Collection[str] = ()) -> list[Sample]:
    """The rows that can go into a split (see `split`)."""
    return [group[0] for group in same_inputs(samples, shown) if not contradictory(group)]


def remarks_on(samples: Sequence[Sample], shown: Collection[str] = ()) -> list[str]:
    """What the user should know of rows before they are split, in sentences: which `split` leaves out, and which have
    an input without text. `shown` as there."""
    groups = same_inputs(samples, shown)
    contradictions = [sample.id for group in groups if contradictory(group) for sample in group]
    repeated = [sample.id for group in groups if not contradictory(group) for sample in group[1:]]
    blank = [sample.id for sample in samples if any(_is_blank(sample, name) for name in shown or sample.inputs)]
    found = (
        (repeated, "repeat the inputs of another one and were left out"),
        (contradictions, "have the inputs of another one and a different ground truth; all of them were left out"),
        (blank, "have an input without any text; they are used as they are"),
    )
    return [f"{len(ids)} of {len(samples)} rows {what} (id {_listed(ids)})" for ids, what in found if ids]


def _is_blank(sample: Sample, name: str) -> bool:
    value = sample.inputs.get(name)
    return isinstance(value, str) and not value.strip()


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_IDS]) + (", ..." if len(ids) > _IDS else "")


def split(
    samples: Sequence[Sample],
    sizes: Mapping[str, int | float],
    seed: int = 0,
    stratify: bool = True,
    shown: Collection[str] = (),
) -> dict[str, list[Sample]]:
    """Shuffles `samples` and deals them out: name -> that many samples, in the order of `sizes`.

    A size is a number of rows (int) or a share of the usable rows (float from 0 to 1, rounded down); what is left is
    not used. Of rows with equal inputs (see `same_inputs`) the first is kept, so that no text is on two sides; where
    their ground truths differ none is, because nobody can know the right one. `describe` reports both. `shown` are the
    inputs that the prompt shows (empty: all): rows that differ elsewhere are the same row to it.

    With `stratify`, and when the ground truths are labels (`label_counts`), each label's rows in each split are
    within 1 of its share, at the exact sizes. The result depends on `samples` in their order, `sizes` and `seed`
    alone. Raises ConfigError on a size that makes no sense, DataError when there are too few rows.
    """
    return _dealt(usable_rows(samples, shown), len(samples), sizes, seed, stratify)


def _dealt(
    usable: Sequence[Sample], rows: int, sizes: Mapping[str, int | float], seed: int, stratify: bool
) -> dict[str, list[Sample]]:
    """`split` of the rows that are usable out of so many."""
    counts = _row_counts(sizes, len(usable))
    labels = label_counts(usable) if stratify else None
    if sum(counts.values()) > len(usable):
        raise _too_few(counts, rows, len(usable), labels)
    rng = random.Random(seed)
    shuffled = list(usable)
    rng.shuffle(shuffled)
    if labels is None:
        parts = _blocks(shuffled, list(counts.values()))
    else:
        parts = _stratified(shuffled, labels, list(counts.values()), rng)
    return dict(zip(counts, parts, strict=True))


def cross_validation(
    samples: Sequence[Sample], folds: int, seed: int = 0, stratify: bool = True, shown: Collection[str] = ()
) -> tuple[list[Sample], list[Sample]]:
    """The test rows of one round of k-fold cross-validation, and the rows left for training and validation.

    The usable rows (see `split`) form `folds` parts of equal size, give or take one; seeds 0 to `folds` - 1 test one
    part each, so every row once, and the next `folds` seeds do so with another division. Raises ConfigError under 2
    folds, DataError when there are fewer rows than folds, or under 2 rows left.
    """
    usable = usable_rows(samples, shown)
    if folds < 2:
        raise ConfigError(f"folds = {folds}: cross-validation needs at least 2")
    needed = 4 if folds == 2 else folds
    if len(usable) < needed:
        fewer = "" if folds == 2 else ", or ask for fewer folds"
        raise DataError(f"{folds} folds need {needed} rows, the data set has {len(usable)}; add rows{fewer}")
    sizes = {str(fold): (len(usable) + fold) // folds for fold in range(folds)}
    test = _dealt(usable, len(usable), sizes, seed // folds, stratify)[str(seed % folds)]
    tested = {id(sample) for sample in test}
    return test, [sample for sample in usable if id(sample) not in tested]


def auto_sizes(n: int, parts: Sequence[str] = PARTS) -> dict[str, int]:
    """Sizes of `parts` for `n` usable rows, when the user states none.

    30 % for training, at most 200; 35 % each for validation, at most 300, and test, at most 500; more where not all of
    the three are wanted, in the same proportion. Under 9 rows there is no test set beside another, and validation gets
    the larger half. Raises DataError when there are fewer rows than parts that every run needs.
    """
    needed = [name for name in parts if name != "test"]
    if n < 2 == len(needed):
        raise DataError(f"the data set has {n} usable rows; at least 2 are needed, one to train on and one to validate")
    if needed and len(needed) < len(parts) and n < _LEAST_TESTED:
        return {**auto_sizes(n, needed), "test": 0}
    whole, left, sizes = math.fsum(_SHARES[name] for name in parts), n, {}
    for name in parts:
        share = round(_SHARES[name] / whole * n)
        sizes[name] = min(_MOST[name], left if name == parts[-1] else share)
        left -= share
    return sizes


def fitted_sizes(n: int, stated: Mapping[str, int | float], parts: Sequence[str] = PARTS) -> dict[str, int]:
    """Rows of all `parts` out of `n` usable ones: the `stated` sizes (see `split`), and for the others what these leave
    (see `auto_sizes`). Training rows that all other parts have a source beside are all there are."""
    counts = _row_counts({name: stated[name] for name in parts if name in stated}, n)
    missing = [name for name in parts if name not in counts]
    left = max(len(missing), n - sum(counts.values()))
    if list(parts) == missing == ["train"]:
        return {"train": left}
    return {name: counts.get(name, 0) for name in parts} | (auto_sizes(left, missing) if missing else {})


def _row_counts(sizes: Mapping[str, int | float], n: int) -> dict[str, int]:
    counts = {}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | float) or not math.isfinite(size) or size < 0:
            raise ConfigError(f"split {name!r} has size {size!r}; give a number of rows, or a share from 0.0 to 1.0")
        if isinstance(size, float) and size > 1:
            raise ConfigError(
                f"split {name!r} has share {size}; a share is at most 1.0 (write {size:g} rows as an int)"
            )
        # The small addend undoes 0.29 * 100 = 28.999999999999996.
        counts[name] = math.floor(size * n + 1e-9) if isinstance(size, float) else size
    shares = math.fsum(size for size in sizes.values() if isinstance(size, float))
    if shares > 1 + 1e-9:
        raise ConfigError(f"the shares of the splits add up to {shares:g}; at most 1.0 is possible")
    return counts


def _blocks(samples: Sequence[Sample], counts: Sequence[int]) -> list[list[Sample]]:
    parts, start = [], 0
    for count in counts:
        parts.append(list(samples[start : start + count]))
        start += count
    return parts


def _stratified(
    shuffled: Sequence[Sample], labels: Mapping[str, int], counts: Sequence[int], rng: random.Random
) -> list[list[Sample]]:
    by_label: dict[str, list[Sample]] = {label: [] for label in labels}
    for sample in shuffled:
        by_label[text_of(sample.ground_truth) or ""].append(sample)
    # Which labels are rounded up follows their order: it must not favour the frequent ones.
    order = sorted(labels)
    rng.shuffle(order)
    table = controlled_rounding([labels[label] for label in order], [*counts, len(shuffled) - sum(counts)])
    parts: list[list[Sample]] = [[] for _ in counts]
    for label, row in zip(order, table, strict=True):
        for part, block in zip(parts, _blocks(by_label[label], row[:-1]), strict=True):
            part.extend(block)
    for part in parts:
        rng.shuffle(part)
    return parts


def _too_few(counts: Mapping[str, int], rows: int, usable: int, labels: Mapping[str, int] | None) -> DataError:
    needed = sum(counts.values())
    wanted = " + ".join(f"{name} {count}" for name, count in counts.items())
    dropped = f" ({rows} less {rows - usable} duplicates or contradictions)" if rows > usable else ""
    message = f"the splits need {needed} rows ({wanted}), the data set has {usable}{dropped}"
    if labels:
        shown = [
            f"{label} {-(-count * needed // usable)} (has {count})" for label, count in list(labels.items())[:_SHOWN]
        ]
        more = f" and {len(labels) - _SHOWN} more labels" if len(labels) > _SHOWN else ""
        message += f"; per label that is {', '.join(shown)}{more}"
    return DataError(f"{message}; ask for smaller splits or add rows")


def apart(
    parts: Mapping[str, Sequence[Sample]], shown: Collection[str] = ()
) -> tuple[dict[str, list[Sample]], dict[str, int]]:
    """Parts of a data set without rows that a later part has, too, by their inputs (see `same_inputs`), and how many
    were left out of each. With training, validation and test rows in this order no search sees what it is judged by."""
    seen: set[str] = set()
    kept: dict[str, list[Sample]] = {}
    for name in reversed([*parts]):
        keyed = [(inputs_key(sample, shown), sample) for sample in parts[name]]
        kept[name] = [sample for key, sample in keyed if key not in seen]
        seen.update(key for key, _ in keyed)
    left_out = {name: len(rows) - len(kept[name]) for name, rows in parts.items() if len(rows) > len(kept[name])}
    return {name: kept[name] for name in parts}, left_out
