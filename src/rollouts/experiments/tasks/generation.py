"""Notes in plain words, written as a line for a calendar: one module, scored by the share of right parts."""

from __future__ import annotations

from functools import partial

from rollouts.dtypes import Program, PromptTemplate, Sample, Score, Trajectory
from rollouts.evaluation.metrics import normalise_answer
from rollouts.experiments.tasks.bundle import Judged, Row, TaskBundle, rows_of, samples_of, score_of
from rollouts.experiments.tasks.simulated import SimulatedModule, SimulatedProgram
from rollouts.testing import SimulatedTask

_NAME = "generation"


def bundle() -> TaskBundle:
    """The task."""
    rows = rows_of(_NAME)
    return TaskBundle(
        name=_NAME,
        program=Program.single(PromptTemplate("Write the note as a line for the calendar.", "Note: {note}\nLine:")),
        samples=samples_of(rows, "note"),
        score_fn=score,
        description="Turns a note in plain words into a calendar line: what; weekday; time.",
        simulate=partial(_simulated, rows),
    )


def score(trajectory: Trajectory, sample: Sample) -> Score:
    """The share of the three parts, separated by semicolons, that are right; 0 for another number of parts."""
    said, wanted = _parts(trajectory.output), _parts(str(sample.ground_truth))
    right = sum(map(str.__eq__, said, wanted)) if len(said) == len(wanted) else 0
    return score_of(right / len(wanted), [Judged("main", trajectory.output, str(sample.ground_truth))])


def _parts(line: str) -> list[str]:
    return [normalise_answer(part) for part in line.strip().split(";")]


def _simulated(rows: list[Row], seed: int) -> SimulatedProgram:
    task = SimulatedTask(
        labels=tuple(sorted({row["answer"] for row in rows})),
        answers={row["note"]: row["answer"] for row in rows},
        base=-1.2,
        labels_named=0.0,
        demos=4.0,
        balance=1.0,
        phrases={
            "write the time with a colon": 0.8,
            "the weekday comes second": 0.6,
            "name the event in one word": 0.4,
        },
    )
    return SimulatedProgram({"main": SimulatedModule(task=task)}, seed=seed)
