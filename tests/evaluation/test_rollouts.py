"""One rollout: its score, or why it has none; and the key it is known by."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from rollouts.dtypes import Choices, Endpoint, Message, Metric, Price, Program, PromptTemplate, Request, Sample, Score
from rollouts.errors import (
    AuthenticationFailed,
    ConfigError,
    InvalidRequest,
    ModelNotFound,
    StoreError,
)
from rollouts.evaluation import Task, evaluate_sample, rollout_key
from rollouts.testing import ScriptedLLM

from .kit import ENDPOINT, PROGRAM, TEMPLATE, one, right, samples

SAMPLE = samples(1)[0]


def clients(*replies: Any) -> dict[str, ScriptedLLM]:
    return {ENDPOINT.connection: ScriptedLLM(list(replies))}


def task(score_fn: Any = right, **settings: Any) -> Task:
    return Task(endpoint=ENDPOINT, score_fn=score_fn, **settings)


async def score_async(trajectory: Any, sample: Any) -> Score:
    await asyncio.sleep(0)
    return one(0.25)


class Callable_:
    def __call__(self, trajectory: Any, sample: Any) -> float:
        return 0.75


@pytest.mark.parametrize(
    ("score_fn", "value"),
    [
        (right, 1.0),
        (lambda t, s: True, 1.0),
        (lambda t, s: 0.5, 0.5),
        (lambda t, s: one(0.125), 0.125),
        (score_async, 0.25),
        (Callable_(), 0.75),
        (lambda t, s: Score(metrics=(Metric("a", 1.0, 3.0), Metric("b", 0.0, 1.0), Metric("seen", 9.0, 0.0))), 0.75),
    ],
)
async def test_score_functions_may_be_sync_async_objects_and_return_numbers_or_scores(
    score_fn: Any, value: float
) -> None:
    evaluation = await evaluate_sample(PROGRAM, SAMPLE, task(score_fn), clients("answer 0"))
    assert evaluation.value == value
    assert evaluation.failure is None


async def test_a_template_alone_is_a_program() -> None:
    evaluation = await evaluate_sample(TEMPLATE, SAMPLE, task(), clients("answer 0"))
    assert evaluation.value == 1.0
    assert evaluation.key == rollout_key(PROGRAM, SAMPLE, task())


def _raises(trajectory: Any, sample: Any) -> float:
    raise KeyError("label")


def _not_a_number(trajectory: Any, sample: Any) -> float:
    return float("nan")


def _text(trajectory: Any, sample: Any) -> Any:
    return "good"


def _nothing(trajectory: Any, sample: Any) -> Any:
    return None


def _no_weight(trajectory: Any, sample: Any) -> Score:
    return Score(metrics=(Metric("m", 1.0, 0.0),))


@pytest.mark.parametrize(
    ("score_fn", "kind", "words"),
    [
        (_raises, "KeyError", "label"),
        (_not_a_number, "EvaluationError", "finite"),
        (_no_weight, "EvaluationError", "weight"),
        (_text, "EvaluationError", ""),
        (_nothing, "EvaluationError", ""),
    ],
)
async def test_a_broken_metric_is_a_failure_and_no_score(score_fn: Any, kind: str, words: str) -> None:
    evaluation = await evaluate_sample(PROGRAM, SAMPLE, task(score_fn), clients("answer 0"))
    assert evaluation.value is None
    assert evaluation.failure is not None
    assert (evaluation.failure.stage, evaluation.failure.kind) == ("score", kind)
    assert words in evaluation.failure.message
    assert evaluation.output == "answer 0"
    assert evaluation.calls == 1


async def test_a_failed_call_is_a_failure_of_the_call() -> None:
    evaluation = await evaluate_sample(PROGRAM, SAMPLE, task(), clients(InvalidRequest("too long", status=400)))
    assert evaluation.failure is not None
    assert (evaluation.failure.stage, evaluation.failure.kind) == ("call", "InvalidRequest")
    assert "too long" in evaluation.failure.message
    assert evaluation.value is None


@pytest.mark.parametrize("where", ["program", "score"])
async def test_code_that_wants_to_end_the_process_fails_its_rollout_alone(where: str) -> None:
    def leave(*_: Any) -> float:
        sys.exit(3)

    async def run(sample: Sample, agents: Any) -> str:
        return str(leave()) if where == "program" else "x"

    program = replace(PROGRAM, run=run)
    evaluation = await evaluate_sample(program, SAMPLE, task(leave), clients("x"))
    assert evaluation.failure is not None
    assert (evaluation.failure.stage, evaluation.failure.kind) == (where, "SystemExit")
    assert "end the process" in evaluation.failure.message


async def test_an_exception_without_a_text_still_says_what_it_was() -> None:
    def empty(trajectory: Any, sample: Any) -> float:
        raise ValueError

    evaluation = await evaluate_sample(PROGRAM, SAMPLE, task(empty), clients("x"))
    assert evaluation.failure is not None
    assert "ValueError" in evaluation.failure.message


@pytest.mark.parametrize("where", ["call", "metric"])
async def test_the_time_limit_bounds_call_and_metric(where: str) -> None:
    async def slow(*_: Any) -> Any:
        await asyncio.sleep(30)

    class Slow(ScriptedLLM):
        async def complete(self, request: Request) -> Any:
            return await slow() if where == "call" else await super().complete(request)

    limited = task(slow if where == "metric" else right, timeout_s=0.02)
    evaluation = await evaluate_sample(PROGRAM, SAMPLE, limited, {ENDPOINT.connection: Slow(["answer 0"])})
    assert evaluation.failure is not None
    assert (evaluation.failure.stage, evaluation.failure.kind) == ("timeout", "RolloutTimeout")
    assert "0.02 s" in evaluation.failure.message


@pytest.mark.parametrize("timeout_s", [None, 30.0])
async def test_a_metric_that_times_out_by_itself_is_not_the_rollouts_limit(timeout_s: float | None) -> None:
    def impatient(trajectory: Any, sample: Any) -> float:
        raise TimeoutError("my judge is slow")

    evaluation = await evaluate_sample(PROGRAM, SAMPLE, task(impatient, timeout_s=timeout_s), clients("x"))
    assert evaluation.failure is not None
    assert (evaluation.failure.stage, evaluation.failure.kind) == ("score", "TimeoutError")


@pytest.mark.parametrize(
    "error",
    [AuthenticationFailed("no key"), ModelNotFound("no model"), ConfigError("no such thing"), StoreError("disk full")],
)
@pytest.mark.parametrize("where", ["call", "metric"])
async def test_errors_that_all_rollouts_share_are_raised(error: Exception, where: str) -> None:
    def metric(trajectory: Any, sample: Any) -> float:
        raise error

    reply = error if where == "call" else "x"
    with pytest.raises(type(error), match=str(error)):
        await evaluate_sample(PROGRAM, SAMPLE, task(metric), clients(reply))


async def test_an_input_that_the_template_lacks_ends_the_run() -> None:
    bad = Sample(inputs={"other": "x"}, id="1")
    with pytest.raises(ConfigError, match="q"):
        await evaluate_sample(PROGRAM, bad, task(), clients("x"))


async def test_a_program_of_two_modules_is_charged_for_both_calls() -> None:
    async def run(sample: Sample, agents: Any) -> str:
        draft = await agents["draft"]({"q": sample["q"]})
        final = await agents["final"]({"q": draft.output})
        return final.output.upper()

    program = Program(modules={"draft": TEMPLATE, "final": PromptTemplate("Finish.", "F: {q}")}, run=run)
    llm = clients("half", "answer")
    evaluation = await evaluate_sample(program, SAMPLE, task(lambda t, s: float(t.output == "ANSWER")), llm)
    assert evaluation.value == 1.0
    assert evaluation.calls == 2
    assert evaluation.trajectory is not None
    assert [call.module for call in evaluation.trajectory.calls] == ["draft", "final"]
    assert evaluation.usage.total_tokens == sum(c.usage.total_tokens for c in evaluation.trajectory.calls)
    assert llm[ENDPOINT.connection].requests[1].messages == (Message("system", "Finish."), Message("user", "F: half"))


BASE_KEY = rollout_key(PROGRAM, SAMPLE, Task(endpoint=ENDPOINT, score_fn=right))
_OTHER = Sample(inputs={"q": "question 0"}, ground_truth="another", id="0")


@pytest.mark.parametrize(
    ("program", "sample", "settings", "repeat"),
    [
        (Program.single(TEMPLATE.replace(system="Say it!")), SAMPLE, {}, 0),
        (Program.single(TEMPLATE.replace(user_template="Q: {q} ")), SAMPLE, {}, 0),
        (replace(PROGRAM, version="2"), SAMPLE, {}, 0),
        (PROGRAM, samples(2)[1], {}, 0),
        (PROGRAM, _OTHER, {}, 0),
        (PROGRAM, SAMPLE, {"endpoint": ENDPOINT.with_sampling(temperature=0.5)}, 0),
        (PROGRAM, SAMPLE, {"endpoint": replace(ENDPOINT, model="n")}, 0),
        (PROGRAM, SAMPLE, {"endpoint": replace(ENDPOINT, extra={"top_k": 1})}, 0),
        (PROGRAM, SAMPLE, {"endpoints": {"main": replace(ENDPOINT, model="n")}}, 0),
        (PROGRAM, SAMPLE, {"score_fn": _raises}, 0),
        (PROGRAM, SAMPLE, {"metric_id": "other"}, 0),
        (PROGRAM, SAMPLE, {"response_format": Choices(options=("a", "b"))}, 0),
        (PROGRAM, SAMPLE, {}, 1),
    ],
)
def test_the_key_changes_with_what_decides_the_score(
    program: Program, sample: Sample, settings: dict[str, Any], repeat: int
) -> None:
    settings = {"endpoint": ENDPOINT, "score_fn": right, **settings}
    assert rollout_key(program, sample, Task(**settings), repeat) != BASE_KEY


@pytest.mark.parametrize(
    ("program", "sample", "settings"),
    [
        (Program.single(TEMPLATE.replace(id="x", score=0.3, generation=4)), SAMPLE, {}),
        (PROGRAM, replace(SAMPLE, id="elsewhere"), {}),
        (PROGRAM, SAMPLE, {"endpoint": replace(ENDPOINT, timeout_s=1.0, api_key="secret", stream=True)}),
        (PROGRAM, SAMPLE, {"endpoint": replace(ENDPOINT, price=Price(input=Decimal(1), output=Decimal(2)))}),
        (PROGRAM, SAMPLE, {"timeout_s": 5.0}),
    ],
)
def test_the_key_does_not_change_with_names_and_limits(
    program: Program, sample: Sample, settings: dict[str, Any]
) -> None:
    settings = {"endpoint": ENDPOINT, "score_fn": right, **settings}
    assert rollout_key(program, sample, Task(**settings)) == BASE_KEY


def test_the_key_is_the_same_in_every_process() -> None:
    code = (
        "from rollouts.dtypes import *\nfrom rollouts.evaluation import Task, rollout_key\n"
        "s = Sample(inputs={'b': 1, 'a': {'y': 2, 'x': [1, None]}}, ground_truth='t', id='1')\n"
        "t = Task(endpoint=Endpoint(provider='p', model='m', extra={'k': 1, 'j': 2}), score_fn=len, metric_id='m')\n"
        "print(rollout_key(Program.single(PromptTemplate('s', '{a} {b}')), s, t))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


def test_an_endpoint_is_a_value() -> None:
    assert Endpoint.parse("fake/m").connection == ENDPOINT.connection


def test_endpoints_with_keys_of_their_own_share_no_connection_and_show_no_key() -> None:
    one, two = (replace(ENDPOINT, api_key=key) for key in ("KEY-ONE", "KEY-TWO"))
    assert len({one.connection, two.connection, ENDPOINT.connection}) == 3
    assert "KEY" not in one.connection
