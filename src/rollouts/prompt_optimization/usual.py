"""What a rollout usually runs and takes, told before the first one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from rollouts.budget import Spend
from rollouts.dtypes import Program, Request, Sample, render, value_text
from rollouts.evaluation import Task
from rollouts.prompt_optimization.demos import example_of

_ANSWER_FRAME, _MESSAGE_FRAME = 8, 5


class DemoCounts(Protocol):
    """How many demonstrations candidates may have."""

    @property
    def optimize_demos(self) -> bool: ...
    @property
    def max_bootstrapped_demos(self) -> int: ...
    @property
    def max_labeled_demos(self) -> int: ...


def usual_candidate(start: Program, train: Sequence[Sample], config: DemoCounts) -> Program:
    """What a rollout of the search usually runs: the start with as many demonstrations as a set may have, labelled rows
    in the place of answers. The start itself where values are made inside the program."""
    if not config.optimize_demos:
        return start
    rows = [sample for sample in train if sample.ground_truth is not None and start.filled_by(sample)]
    if not rows:
        return start
    (name,) = start.modules
    most = max(config.max_labeled_demos, config.max_bootstrapped_demos)
    demos = tuple(example_of(start.template, sample) for sample in rows[:most])
    return start.with_modules({name: start.template.replace(few_shot_examples=demos)}) if demos else start


def halfway(start: Spend, candidate: Spend) -> Spend:
    """Between a rollout of the start and one of `candidate`: what a search takes on the mean in which some candidates
    have demonstrations and some have none."""
    tokens, micros = (start.tokens + candidate.tokens) // 2, (start.micros + candidate.micros) // 2
    return replace(candidate, tokens=tokens, micros=micros)


def usual_rollout(
    task: Task,
    program: Program,
    sample: Sample,
    *,
    count_tokens: Callable[[str], int],
    worst_case: Callable[[Request], Spend],
) -> Spend:
    """What one run of `program` on `sample` usually takes, each module called once: tokens as counted, answers as long
    as the ground truth, the price of the worst case for both. Values made inside the program count as empty; an agent
    calls one tool before it answers."""
    total = Spend(rollouts=1)
    turns = 1 if task.environment_factory is None else 2
    for name, template in program.modules.items():
        endpoint = task.endpoints.get(name, task.endpoint)
        messages = render(template, {**dict.fromkeys(template.placeholders, ""), **sample.inputs})
        answer = count_tokens(value_text(sample.ground_truth or "")) + _ANSWER_FRAME
        tokens = sum(count_tokens(message.content) + _MESSAGE_FRAME for message in messages)
        tokens += min(endpoint.sampling.max_tokens, answer)
        worst = worst_case(Request(endpoint=endpoint, messages=messages))
        micros = -(-worst.micros * tokens // worst.tokens) if worst.tokens else worst.micros
        total = total + Spend(tokens=turns * tokens, micros=turns * min(micros, worst.micros), calls=turns)
    return total
