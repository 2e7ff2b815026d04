"""What an experiment runs on: a program to improve, rows, a metric, and a model that can stand in for a real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from rollouts.dtypes import (
    EnvironmentFactory,
    FewShotExample,
    Metric,
    Program,
    PromptTemplate,
    Sample,
    Score,
    ScoreFn,
    fill,
)
from rollouts.evaluation.metrics import normalise_answer
from rollouts.llm.client import Provider

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBundle:
    """One task of the experiments.

    `program` is the start. `simulate(seed)` makes a model that solves the task as well as the prompts of its modules
    deserve, and writes instructions; a study takes it in `StudyOptions.providers`. `description` says in a sentence
    what the program is for.
    """

    name: str
    program: Program
    samples: Sequence[Sample]
    score_fn: ScoreFn
    description: str
    simulate: Callable[[int], Provider]
    environment_factory: EnvironmentFactory | None = None


def rows_of(name: str) -> list[Row]:
    """The rows that come with the package for the task `name`, in file order; all values are texts."""
    text = (files("rollouts.datasets") / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def samples_of(rows: Iterable[Row], *inputs: str) -> list[Sample]:
    """The rows as samples with the columns `inputs`; the ground truth is the column `answer`."""
    return [
        Sample(inputs={name: row[name] for name in inputs}, ground_truth=row["answer"], id=row["id"]) for row in rows
    ]


def with_examples(template: PromptTemplate, *examples: tuple[Row, str]) -> PromptTemplate:
    """The template with demonstrations: what it is filled with, and the answer."""
    demos = (FewShotExample(fill(template.user_template, given), said, values=given) for given, said in examples)
    return template.replace(few_shot_examples=tuple(demos))


@dataclass(frozen=True, slots=True)
class Judged:
    """What a module said, and what would have been right for what it was given."""

    module: str
    said: str
    wanted: str

    @property
    def right(self) -> bool:
        """Whether they are the same answer; case, quotes and the like aside."""
        return normalise_answer(self.said) == normalise_answer(self.wanted)


def score_of(value: float, judged: Iterable[Judged]) -> Score:
    """`value` for the whole; the modules that could be judged, with what each should have said."""
    runs = list(judged)
    wrong = [f"{run.module} said {run.said[:80]!r}, right is {run.wanted!r}" for run in runs if not run.right]
    return Score(
        metrics=(Metric("correct", value),),
        feedback="; ".join(wrong) or "Correct.",
        modules={run.module: float(run.right) for run in runs},
    )
