"""Letters to a town, and the office that deals with each: one module, four labels."""

from __future__ import annotations

from functools import partial

from rollouts.dtypes import Program, PromptTemplate
from rollouts.evaluation.metrics import exact_match
from rollouts.experiments.tasks.bundle import Row, TaskBundle, rows_of, samples_of
from rollouts.experiments.tasks.simulated import SimulatedModule, SimulatedProgram
from rollouts.testing import SimulatedTask

_NAME = "classification"


def bundle() -> TaskBundle:
    """The task."""
    rows = rows_of(_NAME)
    start = PromptTemplate("Name the office of the town that deals with the letter.", "Letter: {letter}\nOffice:")
    return TaskBundle(
        name=_NAME,
        program=Program.single(start),
        samples=samples_of(rows, "letter"),
        score_fn=exact_match(),
        description="Says which office of a town deals with a citizen's letter.",
        simulate=partial(_simulated, rows),
    )


def _simulated(rows: list[Row], seed: int) -> SimulatedProgram:
    task = SimulatedTask(
        labels=tuple(sorted({row["answer"] for row in rows})),
        answers={row["letter"]: row["answer"] for row in rows},
        base=-1.4,
    )
    return SimulatedProgram({"main": SimulatedModule(task=task)}, seed=seed)
