"""Rows -> training, validation and test samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.datasets import auto_sizes, samples_from_dicts, split
from rollouts.dtypes import PromptTemplate, Sample, check_placeholders
from rollouts.errors import ConfigError, DataError
from rollouts.prompt_optimization.types import MIPROConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """train: demonstrations and proposals; val: the search; test: the final check, never seen before it."""

    train: Sequence[Sample]
    val: Sequence[Sample] = ()
    test: Sequence[Sample] = ()

    def check(self, template: PromptTemplate) -> None:
        """Raises when a split that is needed is empty or the template asks for what the rows lack."""
        for name in ("train", "val"):
            if not getattr(self, name):
                raise DataError(f"the {name} split is empty; give it rows (dataset.{name}) or a larger data set")
        for sample in (*self.train, *self.val, *self.test):
            check_placeholders(template, list(sample.inputs))


def chosen_rows(samples: Sequence[Sample], seeds: Sequence[int]) -> list[Sample]:
    """The rows with the indices `seeds`; raises ConfigError for an index that there is not."""
    for index in seeds:
        if not 0 <= index < len(samples):
            raise ConfigError(f"there is no row {index}; the data set has rows 0 to {len(samples) - 1}")
    return [samples[index] for index in seeds]


def split_dataset(
    template: PromptTemplate, dataset: Sequence[Mapping[str, Any]], config: MIPROConfig, *, whole: bool = False
) -> Splits:
    """`dataset` by the config's indices, or split by its seed where it has none; `whole` puts all rows in train."""
    samples = samples_from_dicts(dataset, template.placeholders)
    if whole:
        return Splits(train=samples)
    named = {"train": config.train_seeds, "val": config.val_seeds, "test": config.test_seeds}
    if not any(named.values()):
        return Splits(**split(samples, auto_sizes(len(samples)), seed=config.seed))
    used: dict[int, str] = {}
    for name, seeds in named.items():
        for index in seeds:
            if not 0 <= index < len(samples):
                raise ConfigError(f"{name}_seeds has index {index}; the data set has rows 0 to {len(samples) - 1}")
            if used.setdefault(index, name) != name:
                raise ConfigError(f"row {index} is in {used[index]}_seeds and in {name}_seeds; splits must not overlap")
    free = [index for index in range(len(samples)) if index not in used]
    parts = {name: [samples[index] for index in seeds] for name, seeds in named.items()}
    if not named["train"] or not named["val"]:
        missing = "train_seeds" if not named["train"] else "val_seeds"
        raise ConfigError(f"{missing} is empty; give both train_seeds and val_seeds, or neither")
    if not named["test"]:
        parts["test"] = [samples[index] for index in free]
    return Splits(**parts)
