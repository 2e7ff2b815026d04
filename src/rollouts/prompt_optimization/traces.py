"""What each module of a program did in a rollout. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rollouts.dtypes import Evaluation, FewShotExample, Message, Program, Sample, Trace, fill

Success = tuple[Sample, Evaluation]


def traces_of(program: Program, sample: Sample, evaluation: Evaluation) -> tuple[Trace, ...]:
    """The runs of the modules; empty when the rollout failed before any of them ended.

    A stored rollout of a one-module program that made a single call keeps sample and output only: they say it all.
    """
    trajectory = evaluation.trajectory
    if trajectory is not None and trajectory.traces:
        return trajectory.traces
    if evaluation.score is None or not program.filled_by(sample):
        return ()
    (module,) = program.modules
    steps: Sequence[Message] = (Message("assistant", evaluation.output),)
    if trajectory is not None and trajectory.messages:
        last = max(i for i, message in enumerate(trajectory.messages) if message.role == "user")
        steps = trajectory.messages[last + 1 :]
    return (Trace(module=module, values=sample.inputs, steps=tuple(steps)),)


def went_well(program: Program, evaluation: Evaluation, threshold: float) -> set[str]:
    """The modules whose runs in this rollout are examples to follow.

    A module goes by its own score where the metric gives one, also in a rollout that went wrong as a whole; others, and
    that of a one-module program, by the rollout's. A run has to end by itself: right in the end is not enough.
    """
    score, trajectory = evaluation.score, evaluation.trajectory
    if score is None or (trajectory is not None and trajectory.stop_reason != "answer"):
        return set()
    right = evaluation.value is not None and evaluation.value >= threshold and bool(evaluation.output.strip())
    if len(program.modules) == 1 and not right:
        return set()
    whole = threshold if right else -math.inf
    return {name for name in program.modules if score.modules.get(name, whole) >= threshold}


def demonstrations(program: Program, successes: Sequence[Success], threshold: float) -> dict[str, list[FewShotExample]]:
    """Module -> its runs that `went_well`, as demonstrations. Tool calls between question and answer are kept as
    messages."""
    out: dict[str, list[FewShotExample]] = {name: [] for name in program.modules}
    for sample, evaluation in successes:
        good = went_well(program, evaluation, threshold)
        for trace in traces_of(program, sample, evaluation):
            if trace.module in good and trace.output.strip():
                out[trace.module].append(_demonstration(program, trace))
    return out


def _demonstration(program: Program, trace: Trace) -> FewShotExample:
    asked = fill(program.modules[trace.module].user_template, trace.values)
    steps = trace.steps if len(trace.steps) > 1 else ()
    return FewShotExample(asked, trace.output.strip(), steps, values=trace.values)
