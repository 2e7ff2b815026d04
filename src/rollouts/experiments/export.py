"""Prompts and rollouts of stored runs."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from rollouts.dtypes import PromptTemplate
from rollouts.errors import ConfigError
from rollouts.store.base import RunRow, Store

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


def stored_modules(store: Store, run: RunRow, which: str = "best") -> dict[str, PromptTemplate]:
    """The modules of a program of the run: of its `start`, of the `best` it found, or of one that it tried, by its
    digest or the beginning of it. Raises ConfigError when it has not come so far, or has tried no such program."""
    if which in ("start", "best"):
        digest = run.summary.get(f"{which}_program")
    else:
        tried = {row.program for row in store.scan_rollouts(run.id) if row.program.startswith(which)}
        if len(tried) != 1:
            raise ConfigError(
                f"run {run.id} has {len(tried) or 'no'} candidates {which!r}; name best, start, or one that "
                f"rollouts runs candidates {run.id} shows"
            )
        (digest,) = tried
    program = store.programs([digest]).get(digest) if digest else None
    if program is None:
        raise ConfigError(
            f"run {run.id} has no {which} prompt stored (status: {run.status}); only a run that came to its end has "
            "one: continue it with rollouts optimize CONFIG --resume"
        )
    return {name: PromptTemplate.from_json(module) for name, module in program.modules.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A program that a run has tried: the mean of its `n` scores beside the final check (None for none), how many of
    its rollouts failed there, and its prompts by module."""

    program: str
    score: float | None
    n: int
    failed: int
    modules: Mapping[str, PromptTemplate]


def candidates_of(store: Store, run: RunRow) -> list[Candidate]:
    """What a run has tried, at any time, the best mean first. Means over few rows are mostly luck: what wins is decided
    by estimates that know that. Programs that ran in the final check alone are left out."""
    scores: defaultdict[str, list[float | None]] = defaultdict(list)
    for row in store.scan_rollouts(run.id):
        if row.phase != "test":
            scores[row.program].append(row.score)
    programs = store.programs(list(scores))
    out = []
    for digest, values in scores.items():
        known = [value for value in values if value is not None]
        stored = programs[digest].modules if digest in programs else {}
        out.append(
            Candidate(
                program=digest,
                score=sum(known) / len(known) if known else None,
                n=len(known),
                failed=len(values) - len(known),
                modules={name: PromptTemplate.from_json(module) for name, module in stored.items()},
            )
        )
    return sorted(out, key=lambda one: (one.score is None, -(one.score or 0.0), -one.n, one.program))


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
