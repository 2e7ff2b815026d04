"""Rows -> training, validation and test samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

from rollouts.datasets import PARTS, apart, auto_sizes, remarks_on, samples_from_dicts, split, usable_rows
from rollouts.datasets.spec import text_of
from rollouts.dtypes import (
    Program,
    PromptTemplate,
    Sample,
    as_program,
    check_placeholders,
    placeholder_name,
    run_single,
)
from rollouts.errors import ConfigError, DataError, TemplateError
from rollouts.prompt_optimization.selection.classes import Classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """train: demonstrations and proposals; val: the search; test: the final check, never seen before it.

    notes: what the user should know about them, in sentences.
    """

    train: Sequence[Sample]
    val: Sequence[Sample] = ()
    test: Sequence[Sample] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, Sequence[Sample]], notes: Sequence[str] = ()) -> Splits:
        """From `train`, `val` and `test`; what is not there is empty."""
        train, val, test = (parts.get(name, ()) for name in PARTS)
        return cls(train=train, val=val, test=test, notes=tuple(notes))

    @property
    def parts(self) -> dict[str, Sequence[Sample]]:
        """The splits by name."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def sizes(self) -> dict[str, int]:
        """How many samples each has."""
        return {name: len(samples) for name, samples in self.parts.items()}

    @property
    def remarks(self) -> tuple[str, ...]:
        """`notes`, and whether the splits leave a run without a verdict."""
        untested = "there are no test rows: a search on this data ends without a verdict"
        return self.notes if self.test else (*self.notes, untested)

    def apart(self, shown: Collection[str] = ()) -> Splits:
        """Without training rows whose inputs a validation or test row has, too, and validation rows whose inputs a test
        row has (`rollouts.datasets.apart`); a note says how many. Raises DataError when that leaves a split empty."""
        parts, left_out = apart(self.parts, shown)
        for name, count in left_out.items():
            if not parts[name]:
                raise DataError(
                    f"all {count} rows of the {name} split are in a later split, too; give it rows of its own"
                )
        notes = [f"{count} {name} rows were left out: a later split has the same" for name, count in left_out.items()]
        return replace(Splits.of(parts), notes=(*self.notes, *notes))

    def numbered(self) -> Splits:
        """With the number of its row, from 1, as the id of every sample that has none."""
        parts = {
            name: [
                sample if sample.id else replace(sample, id=str(number))
                for number, sample in enumerate(samples, start=1)
            ]
            for name, samples in self.parts.items()
        }
        return Splits.of(parts, self.notes)

    def cut(self, *, val: int, test: int) -> Splits:
        """With so many validation and test rows at most, every label having its part of them. What takes the first rows
        of them has its part, too."""
        return replace(self, val=evenly(self.val)[:val], test=evenly(self.test)[:test])

    def check(self, start: PromptTemplate | Program) -> None:
        """Raises when a split that is needed is empty, has different samples with the same id, or a template asks for
        what the rows lack (`check_inputs`)."""
        for name in ("train", "val"):
            if not getattr(self, name):
                raise DataError(f"the {name} split is empty; give it rows (dataset.{name}) or a larger data set")
        for name, samples in self.parts.items():
            known: dict[str, Sample] = {}
            for sample in samples:
                same = known.setdefault(sample.id, sample)
                if same is not sample and same.digest != sample.digest:
                    raise DataError(
                        f"different samples of the {name} split have the id {sample.id!r}; give each one of its own, "
                        "by which results name it"
                    )
        check_inputs(as_program(start), (*self.train, *self.val, *self.test))


def classes_of(samples: Sequence[Sample]) -> tuple[int, ...]:
    """The same number for samples with the same label; those whose ground truth is no label are one class."""
    numbers: dict[str | None, int] = {}
    return tuple(numbers.setdefault(text_of(sample.ground_truth), len(numbers)) for sample in samples)


def mixed(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The samples shuffled, and then `evenly`: rows that are named by their numbers are often sorted by label, and the
    first of them are bootstrapped and shown to proposers."""
    return evenly(Random(f"rollouts-train-{seed}").sample(list(samples), len(samples)))


def evenly(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in an order of which every beginning has its part of every label, where labels have a few samples
    each; else as they were."""
    return [samples[i] for i in Classes(classes_of(samples), len(samples)).in_turn(range(len(samples)))]


def check_inputs(program: Program, samples: Sequence[Sample]) -> None:
    """Raises TemplateError when the template of a one-module program asks for what a sample lacks.

    A run function of the user's own may fill templates from elsewhere: their placeholders cannot be checked here.
    """
    if _filled_by_rows(program):
        if not program.placeholders:
            raise TemplateError(_shows_nothing(program.template, samples))
        for sample in samples:
            check_placeholders(program.template, list(sample.inputs))


def _shows_nothing(template: PromptTemplate, samples: Sequence[Sample]) -> str:
    names = list(dict.fromkeys(name for sample in samples[:1] for name in sample.inputs))
    text = f"{template.system}\n{template.user_template}"
    odd = next((name for name in names if f"{{{name}}}" in text), None)
    if odd is None:
        shown = ", ".join(f"{{{name}}}" for name in names if name == placeholder_name(name)) or "{name}"
        return f"the prompt shows nothing of a row, so all would get one answer; put a placeholder into it: {shown}"
    name = placeholder_name(odd)
    key = name if name.isascii() else repr(name)
    return (
        f"{{{odd}}} is no placeholder: a name has letters, digits and _ alone, and begins with a letter from a to z or "
        f"_; write {{{name}}}, and inputs = {{ {key} = {odd!r} }}"
    )


def shown_inputs(program: PromptTemplate | Program) -> frozenset[str]:
    """The inputs that decide what is sent, as far as templates tell; empty where a run function of the user's own may
    read others."""
    program = as_program(program)
    return program.placeholders if _filled_by_rows(program) else frozenset()


def _filled_by_rows(program: Program) -> bool:
    return len(program.modules) == 1 and program.run is run_single


class SplitSettings(Protocol):
    """Which rows of a data set go where; see `MIPROConfig`."""

    @property
    def train_seeds(self) -> tuple[int, ...]: ...
    @property
    def val_seeds(self) -> tuple[int, ...]: ...
    @property
    def test_seeds(self) -> tuple[int, ...]: ...
    @property
    def seed(self) -> int: ...


def chosen_rows(samples: Sequence[Sample], seeds: Sequence[int], *, name: str = "seeds") -> list[Sample]:
    """The rows with the indices `seeds`; raises ConfigError for an index that there is not."""
    for index in seeds:
        if not 0 <= index < len(samples):
            raise ConfigError(f"{name} has index {index}; the data set has rows 0 to {len(samples) - 1}")
    return [samples[index] for index in seeds]


def split_dataset(
    start: PromptTemplate | Program, dataset: Sequence[Mapping[str, Any]], config: SplitSettings
) -> Splits:
    """`dataset` by the config's indices, or split by its seed where it has none."""
    samples, shown = samples_from_dicts(dataset, start.placeholders), shown_inputs(start)
    named = {"train": config.train_seeds, "val": config.val_seeds, "test": config.test_seeds}
    if not any(named.values()):
        parts = split(samples, auto_sizes(len(usable_rows(samples, shown))), seed=config.seed, shown=shown)
        return Splits.of(parts, remarks_on(samples, shown))
    if not named["train"] or not named["val"]:
        missing = "train_seeds" if not named["train"] else "val_seeds"
        raise ConfigError(f"{missing} is empty; give both train_seeds and val_seeds, or neither")
    parts = {name: chosen_rows(samples, seeds, name=f"{name}_seeds") for name, seeds in named.items()}
    used: dict[int, str] = {}
    for name, seeds in named.items():
        for index in seeds:
            if used.setdefault(index, name) != name:
                raise ConfigError(f"row {index} is in {used[index]}_seeds and in {name}_seeds; splits must not overlap")
    if not named["test"]:
        parts["test"] = [samples[index] for index in range(len(samples)) if index not in used]
    parts["train"] = mixed(parts["train"], config.seed)
    return Splits.of(parts).apart(shown)
