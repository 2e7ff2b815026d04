"""Prompts and rollouts of stored runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Literal

from rollouts.dtypes import PromptTemplate
from rollouts.errors import ConfigError
from rollouts.store.base import RunRow, Store

Which = Literal["start", "best"]
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDiff:
    """What became of a prompt. `instruction` is a unified diff by lines, empty when nothing changed."""

    instruction: tuple[str, ...]
    user: tuple[str, ...]
    demos_before: int
    demos_after: int
    demos_shared: int

    @property
    def same(self) -> bool:
        """Whether both are one prompt."""
        return not self.instruction and not self.user and self.demos_before == self.demos_after == self.demos_shared


def prompt_diff(before: PromptTemplate, after: PromptTemplate) -> PromptDiff:
    """How `after` differs from `before`."""
    return PromptDiff(
        instruction=_unified(before.system, after.system),
        user=_unified(before.user_template, after.user_template),
        demos_before=len(before.few_shot_examples),
        demos_after=len(after.few_shot_examples),
        demos_shared=len(set(before.few_shot_examples) & set(after.few_shot_examples)),
    )


def _unified(before: str, after: str) -> tuple[str, ...]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return tuple(line for line in lines if not line.startswith(("---", "+++")))


def stored_modules(store: Store, run: RunRow, which: Which = "best") -> dict[str, PromptTemplate]:
    """The modules of the program that a run started from or found. Raises ConfigError when it has not come so far."""
    digest = run.summary.get(f"{which}_program")
    program = store.programs([digest]).get(digest) if digest else None
    if program is None:
        raise ConfigError(
            f"run {run.id} has no {which} prompt stored (status: {run.status}); only a run that came to its end has "
            "one: continue it with rollouts optimize CONFIG --resume"
        )
    return {name: PromptTemplate.from_json(module) for name, module in program.modules.items()}


def rollouts_json(
    store: Store, run_id: str, *, program: str | None = None, failed: bool | None = None
) -> Iterator[dict[str, Any]]:
    """The run's rollouts as JSON objects with the `inputs` and `ground_truth` of their samples (None where they are not
    stored), read in pages. `program` is a digest or the beginning of one."""
    whole = program if program is not None and len(program) >= 32 else None
    rows = store.scan_rollouts(run_id, program=whole, failed=failed)
    chosen = (row for row in rows if program is None or row.program.startswith(program))
    while page := list(islice(chosen, _PAGE)):
        samples = store.samples(list(dict.fromkeys(row.sample for row in page)))
        for row in page:
            sample = samples.get(row.sample)
            told: dict[str, Any] = {"inputs": None, "ground_truth": None}
            if sample is not None:
                told = {"inputs": sample.inputs, "ground_truth": sample.ground_truth}
            yield {field.name: getattr(row, field.name) for field in fields(row)} | told


def config_differences(before: RunRow, after: RunRow) -> dict[str, tuple[Any, Any]]:
    """Dotted setting -> its value in both runs, where they differ; None where a run has none."""
    old, new = _flat(before.config), _flat(after.config)
    keys = sorted({*old, *new})
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and inner:
            out |= _flat(inner, f"{name}.")
        else:
            out[name.removeprefix("prompt_learning.")] = inner
    return out
