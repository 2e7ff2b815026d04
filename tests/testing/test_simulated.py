from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from statistics import mean

import pytest

from rollouts.dtypes import (
    Choices,
    Endpoint,
    FewShotExample,
    JsonSchema,
    Message,
    PromptTemplate,
    Request,
    render,
)
from rollouts.errors import ConfigError
from rollouts.testing import FakeClock, SimulatedLLM, SimulatedTask, simulated
from rollouts.testing.latency import fixed, log_normal, pareto

LABELS = ("refund", "card lost", "top up", "exchange rate")
WORDS = {
    "refund": "money back",
    "card lost": "missing card",
    "top up": "add funds",
    "exchange rate": "foreign currency",
}
ANSWERS = {f"about {WORDS[LABELS[n % 4]]} case {n}": LABELS[n % 4] for n in range(400)}
TASK = SimulatedTask(labels=LABELS, answers=ANSWERS)
QUERIES = list(ANSWERS)
PLAIN = PromptTemplate("Classify the text.", "Text: {q}")
NAMED = PLAIN.replace(system=f"Answer with only the label, one of: {', '.join(LABELS)}.")
ENDPOINT = Endpoint.parse("simulated/llm")
READ = simulated._read


def requests(template: PromptTemplate, **changes: object) -> list[Request]:
    return [
        replace(Request(endpoint=ENDPOINT, messages=render(template, {"q": query})), **changes)
        for query in QUERIES[40:]
    ]


def chance(template: PromptTemplate, task: SimulatedTask = TASK) -> float:
    llm = SimulatedLLM(task)
    return mean(llm.chance(request) for request in requests(template))


def demos(queries: list[str], label: str | None = None) -> tuple[FewShotExample, ...]:
    return tuple(FewShotExample(f"Text: {query}", label or ANSWERS[query]) for query in queries)


async def answers(llm: SimulatedLLM, asked: list[Request]) -> list[str]:
    return [response.text for response in await asyncio.gather(*map(llm.complete, asked))]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (PLAIN, NAMED),
        (NAMED, NAMED.replace(system=f"{NAMED.system} {next(iter(TASK.phrases)).upper()}")),
        (NAMED, NAMED.replace(few_shot_examples=demos(QUERIES[:4]))),
        (NAMED.replace(few_shot_examples=demos(QUERIES[:4])), NAMED.replace(few_shot_examples=demos(QUERIES[:12]))),
        (NAMED.replace(few_shot_examples=demos(QUERIES[:32:4])), NAMED.replace(few_shot_examples=demos(QUERIES[:8]))),
        (NAMED.replace(few_shot_examples=demos(QUERIES[:8], "refund")), NAMED),
        (NAMED.replace(system=NAMED.system + " blah" * 800), NAMED),
    ],
    ids=["labels", "phrase", "demos", "more demos", "balance", "wrong demos", "verbose"],
)
def test_a_better_prompt_has_a_better_chance(worse: PromptTemplate, better: PromptTemplate) -> None:
    assert chance(better) > chance(worse) + 0.01


async def test_accuracy_is_what_the_law_says() -> None:
    for template in (PLAIN, NAMED, NAMED.replace(few_shot_examples=demos(QUERIES[:12]))):
        llm, asked = SimulatedLLM(TASK, seed=3), requests(template)
        right = [text == ANSWERS[query] for text, query in zip(await answers(llm, asked), QUERIES[40:], strict=True)]
        assert mean(right) == pytest.approx(chance(template), abs=0.08)  # three standard errors of 360 answers


async def test_nearness_helps_the_samples_that_are_near() -> None:
    near = NAMED.replace(few_shot_examples=demos(QUERIES[:1]))
    llm, asked = SimulatedLLM(TASK), requests(near)
    flat = SimulatedLLM(SimulatedTask(labels=LABELS, answers=ANSWERS, nearness=0))
    gains = [(llm.chance(request) - flat.chance(request), request) for request in asked]
    same = mean(gain for gain, r in gains if ANSWERS[r.messages[-1].content[6:]] == ANSWERS[QUERIES[0]])
    other = mean(gain for gain, r in gains if ANSWERS[r.messages[-1].content[6:]] != ANSWERS[QUERIES[0]])
    assert same > 0.05 > 0 > other


async def test_answers_depend_on_content_and_seed_alone() -> None:
    asked = requests(NAMED)
    forward = await answers(SimulatedLLM(TASK, seed=1), asked)
    backward = await answers(SimulatedLLM(TASK, seed=1), asked[::-1])
    assert forward == backward[::-1]
    assert forward != await answers(SimulatedLLM(TASK, seed=2), asked)
    assert forward == await answers(SimulatedLLM(TASK, seed=1), requests(NAMED, repeat=1)), "temperature 0"
    warm = ENDPOINT.with_sampling(temperature=1.0)
    first, second = (requests(NAMED, endpoint=warm, repeat=n) for n in (0, 1))
    assert await answers(SimulatedLLM(TASK), first) != await answers(SimulatedLLM(TASK), second)


def test_the_hash_seed_does_not_matter() -> None:
    code = (
        "import asyncio\n"
        "from tests.testing.test_simulated import *\n"
        "print(asyncio.run(answers(SimulatedLLM(TASK, seed=5), requests(NAMED))))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            cwd=os.path.dirname(__file__) + "/../..",
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


async def test_proposals_are_texts_or_fit_the_schema() -> None:
    llm = SimulatedLLM(TASK)
    schema = {"type": "object", "properties": {"texts": {"type": "array", "items": {"type": "string"}, "minItems": 2}}}
    plain = [
        Request(endpoint=ENDPOINT, messages=(Message("user", f"Write an instruction {n}"),), phase="propose")
        for n in range(40)
    ]
    texts = await answers(llm, plain)
    helpful = [any(phrase in text.lower() for phrase in TASK.phrases) for text in texts]
    assert len(set(texts)) > 20
    assert 0.2 < mean(helpful) < 0.9
    formatted = replace(plain[0], response_format=JsonSchema(name="texts", schema=schema))
    (text,) = await answers(llm, [formatted])
    assert text.startswith('{"texts": ["')


async def test_choices_are_kept_to() -> None:
    options = Choices(options=LABELS[:2])
    assert set(await answers(SimulatedLLM(TASK), requests(PLAIN, response_format=options))) == set(LABELS[:2])


def test_a_prompt_is_read_once_however_many_samples_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake must cost little beside what is measured with it."""
    read: list[int] = []
    monkeypatch.setattr(simulated, "_read", lambda task, messages: read.append(len(messages)) or READ(task, messages))
    llm, prompt = SimulatedLLM(TASK), NAMED.replace(few_shot_examples=(FewShotExample("about x", "refund"),))
    for query in QUERIES[:20]:
        llm.worst_case(Request(endpoint=ENDPOINT, messages=render(prompt, {"q": query})))
    assert read == [3]


async def test_latency_is_waited_and_reported() -> None:
    clock = FakeClock(auto=True)
    llm = SimulatedLLM(TASK, latency=pareto(0.1), clock=clock)
    responses = await asyncio.gather(*map(llm.complete, requests(NAMED)))
    assert clock.now() == max(response.latency_s for response in responses) > 0.5
    assert min(response.latency_s for response in responses) >= 0.1


def test_latency_laws() -> None:
    units = [(n + 0.5) / 1000 for n in range(1000)]
    assert {fixed(0.25)(unit) for unit in units} == {0.25}
    assert log_normal(0.2)(0.5) == pytest.approx(0.2)
    assert log_normal(0.2)(0.99) == pytest.approx(0.64, rel=0.02)
    assert log_normal(0.2)(0.0) > 0
    assert mean(pareto(1.0, 2.0)(unit) > 10 for unit in units) == pytest.approx(0.01, abs=0.002)
    with pytest.raises(ConfigError):
        pareto(1.0, 0.0)
