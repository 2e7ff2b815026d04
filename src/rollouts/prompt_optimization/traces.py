"""What each module of a program did in a rollout. Pure."""

from __future__ import annotations

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


def demonstrations(program: Program, successes: Sequence[Success], threshold: float) -> dict[str, list[FewShotExample]]:
    """Module -> its runs in rollouts that went well, as demonstrations.

    Where the metric scores modules, a module's run has to reach `threshold` by its own score. Tool calls between
    question and answer are kept as messages.
    """
    out: dict[str, list[FewShotExample]] = {name: [] for name in program.modules}
    for sample, evaluation in successes:
        if evaluation.trajectory is not None and evaluation.trajectory.stop_reason != "answer":
            continue  # right in the end, but a run that did not end by itself is no example to follow
        own = evaluation.score.modules if evaluation.score is not None else {}
        for trace in traces_of(program, sample, evaluation):
            if trace.output.strip() and own.get(trace.module, threshold) >= threshold:
                out[trace.module].append(_demonstration(program, trace))
    return out


def _demonstration(program: Program, trace: Trace) -> FewShotExample:
    asked = fill(program.modules[trace.module].user_template, trace.values)
    steps = trace.steps if len(trace.steps) > 1 else ()
    return FewShotExample(asked, trace.output.strip(), steps, values=trace.values)
