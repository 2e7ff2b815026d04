"""What a rollout usually takes, told before the first one."""

from __future__ import annotations

from collections.abc import Callable

from rollouts.budget import Spend
from rollouts.dtypes import Program, Request, Sample, render
from rollouts.evaluation import Task

_ANSWER_FRAME, _MESSAGE_FRAME = 8, 5


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
        answer = count_tokens(str(sample.ground_truth or "")) + _ANSWER_FRAME
        tokens = sum(count_tokens(message.content) + _MESSAGE_FRAME for message in messages)
        tokens += min(endpoint.sampling.max_tokens, answer)
        worst = worst_case(Request(endpoint=endpoint, messages=messages))
        micros = -(-worst.micros * tokens // worst.tokens) if worst.tokens else worst.micros
        total = total + Spend(tokens=turns * tokens, micros=turns * min(micros, worst.micros), calls=turns)
    return total
