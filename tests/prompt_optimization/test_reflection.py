"""What a reflecting model is shown, and what is made of its answer."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.datasets import describe
from rollouts.dtypes import (
    Endpoint,
    Evaluation,
    Failure,
    Message,
    Metric,
    PromptTemplate,
    Request,
    Response,
    Sample,
    Score,
    ToolCall,
    Trace,
    Usage,
)
from rollouts.errors import BudgetExhausted, ProviderUnavailable
from rollouts.prompt_optimization.proposers import ProposalContext
from rollouts.prompt_optimization.reflection import LLMReflector, Record, Reflection, Rejected, feedback_of, records_of

MODEL = Endpoint(provider="fake", model="m")
TEMPLATE = PromptTemplate("Be {tone}.", "Q: {q}")
SAMPLE = Sample(inputs={"q": "why?", "tone": "calm"}, ground_truth="because", id="s")


def evaluation(value: float = 0.0, **score: Any) -> Evaluation:
    return Evaluation(key="k", program="p", sample_id="s", score=Score(metrics=(Metric("m", value),), **score))


def failed(message: str) -> Evaluation:
    failure = Failure(kind="Boom", message=message, stage="call")
    return Evaluation(key="k", program="p", sample_id="s", failure=failure)


def reflection(**changes: Any) -> Reflection:
    context = ProposalContext(
        template=TEMPLATE,
        summary=describe([SAMPLE]),
        examples=(),
        check=lambda text: None if "{tone}" in text else "it lost the placeholder {tone}",
        frozen_spans=("Be",),
        max_tokens=55,
        module="answer",
        others={"search": "Find pages."},
    )
    fields: dict[str, Any] = {
        "context": context,
        "records": (Record(given="Q: why?", said="no idea", score=0.0, feedback="be bolder"),),
        "rejected": (Rejected(text="Be bad.", reason="a gap of -0.2"),),
        "check": context.check,
        "number": 3,
    }
    return Reflection(**{**fields, **changes})


def replying(*replies: Any) -> tuple[Any, list[Request]]:
    asked: list[Request] = []

    async def generate(request: Request) -> Response:
        reply = replies[len(asked)]
        asked.append(request)
        if isinstance(reply, Exception):
            raise reply
        return Response(text=reply, usage=Usage(), cost_micros=0, latency_s=0.0)

    return generate, asked


async def test_the_model_is_shown_all_that_matters() -> None:
    generate, asked = replying("<instruction>Be {tone} and bold.</instruction>")
    rewrite = await LLMReflector(generate, MODEL).reflect(reflection())
    assert (rewrite.text, rewrite.reason, rewrite.remark) == ("Be {tone} and bold.", "", "")
    text = "\n".join(message.content for message in asked[0].messages)
    for part in (
        "Q: why?", "no idea", "Score: 0", "be bolder", "a gap of -0.2: Be bad.", "- search: Find pages.", "'answer'",
        "at most 55 tokens", "do not copy the examples", "keep every {placeholder}", "word for word: 'Be'",
    ):  # fmt: skip
        assert part in text
    assert (asked[0].repeat, asked[0].phase) == (3, "propose")
    assert asked[0].endpoint.sampling.temperature >= 0.7


async def test_a_refused_text_goes_back_once() -> None:
    generate, asked = replying("<instruction>Be bold.</instruction>", "<instruction>Be {tone}, bold.</instruction>")
    assert (await LLMReflector(generate, MODEL).reflect(reflection())).text == "Be {tone}, bold."
    assert "lost the placeholder {tone}" in asked[1].messages[-1].content
    generate, asked = replying("<instruction>Be bold.</instruction>", "<instruction>Bold.</instruction>")
    rewrite = await LLMReflector(generate, MODEL).reflect(reflection())
    assert (rewrite.text, rewrite.refused) == (None, "Bold.")
    assert "lost the placeholder" in rewrite.reason
    assert len(asked) == 2


@pytest.mark.parametrize("error", [ProviderUnavailable("down"), BudgetExhausted("calls", cap=1, committed=1, wanted=1)])
async def test_an_error_is_a_reason(error: Exception) -> None:
    generate, _ = replying(error)
    rewrite = await LLMReflector(generate, MODEL).reflect(reflection())
    assert rewrite.text is None
    assert "gave no answer" in rewrite.reason


@pytest.mark.parametrize(
    ("reply", "text", "remark"),
    [
        ("Be {tone} now.", "Be {tone} now.", True),
        ("```\nBe {tone} now.\n```", "Be {tone} now.", False),
        ("Here: <INSTRUCTION> Be {tone} now. ", "Be {tone} now.", False),
    ],
)
async def test_answers_without_tags(reply: str, text: str, remark: bool) -> None:
    generate, _ = replying(reply)
    rewrite = await LLMReflector(generate, MODEL).reflect(reflection())
    assert rewrite.text == text
    assert bool(rewrite.remark) == remark


def trace(module: str, *steps: Message) -> Trace:
    return Trace(module=module, values=SAMPLE.inputs, steps=steps)


def test_records_show_what_the_module_did_tools_included() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall(id="1", name="add", arguments='{"a": 1}'),))
    steps = (call, Message("tool", "2", tool_call_id="1"), Message("assistant", "two"))
    runs = [(SAMPLE, evaluation(feedback="count again"), [trace("main", *steps), trace("other")])]
    (record,) = records_of(TEMPLATE, "main", runs)
    assert record.given == "Q: why?"
    assert record.said == '[calls add with {"a": 1}]\n[tool result: 2]\ntwo'
    assert (record.score, record.feedback) == (0.0, "count again")


def test_a_module_that_was_not_reached_is_shown_with_the_error() -> None:
    (record,) = records_of(TEMPLATE, "main", [(SAMPLE, failed("no route"), [])])
    assert (record.said, record.score) == ("", None)
    assert record.given == "q: why?\ntone: calm"
    assert "no route" in record.feedback


def test_long_texts_are_cut() -> None:
    runs = [(SAMPLE, evaluation(), [trace("main", Message("assistant", "x" * 9000))])]
    (record,) = records_of(TEMPLATE, "main", runs)
    assert len(record.said) < 1600
    assert "7500 more characters" in record.said


def test_what_is_no_text_is_shown_as_json() -> None:
    sample = Sample(inputs={"q": {"vip": True}, "tone": None}, ground_truth=["a", "b"], id="s")
    step = Trace(module="main", values=sample.inputs, steps=(Message("assistant", "x"),))
    (reached,) = records_of(TEMPLATE, "main", [(sample, evaluation(), [step])])
    (missed,) = records_of(TEMPLATE, "main", [(sample, evaluation(), [])])
    assert (reached.given, missed.given) == ('Q: {"vip": true}', 'q: {"vip": true}\ntone: null')
    assert reached.feedback == 'The right answer is: ["a", "b"]'


def test_feedback() -> None:
    assert feedback_of(SAMPLE, evaluation(), "main") == "The right answer is: because"
    assert feedback_of(SAMPLE, evaluation(feedback="so-so"), "main") == "so-so"
    scored = evaluation(feedback="so-so", modules={"main": 0.25})
    assert feedback_of(SAMPLE, scored, "main") == "so-so This step was scored 0.25."
    assert feedback_of(SAMPLE, failed("boom"), "main") == "The run failed: boom"
