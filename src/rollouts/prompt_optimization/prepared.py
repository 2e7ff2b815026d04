"""What every optimizer checks before it opens a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from rollouts.dtypes import Program, PromptTemplate, as_program
from rollouts.prompt_optimization.constraints import check_modules
from rollouts.prompt_optimization.splits import Splits, SplitSettings, shown_inputs, split_dataset
from rollouts.prompt_optimization.study import StudyOptions


class RunSettings(SplitSettings, Protocol):
    """What of an optimizer's config counts before a run."""

    @property
    def max_concurrent(self) -> int: ...


def prepared(
    initial: PromptTemplate | Program,
    dataset: Sequence[dict[str, Any]] | Splits,
    config: RunSettings,
    options: StudyOptions,
) -> tuple[Program, Splits, StudyOptions]:
    """The program, its data and the options with their slots; ready splits are kept apart (`Splits.apart`), and their
    samples have ids. Raises ConfigError, DataError and TemplateError."""
    start = as_program(initial)
    if isinstance(dataset, Splits):
        data = dataset.numbered().apart(shown_inputs(start))
    else:
        data = split_dataset(start, dataset, config)
    data.check(start)
    check_modules(options.constraints, start)
    options = replace(options, notes=(*options.notes, *data.remarks))
    if options.slots is None:
        options = replace(options, slots=config.max_concurrent)
    return start, data, options
