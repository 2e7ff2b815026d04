"""The proposer that everybody asks, and its pools of instructions."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mipro_comparison.scripted import NEUTRAL, answer, form, instruction, load_pool, uses_up
from benchmarks.mipro_comparison.tasks import TASKS
from hypothesis import given
from hypothesis import strategies as st

from rollouts.datasets import describe
from rollouts.dtypes import Endpoint, PromptTemplate, Request, Response, Sample, Usage
from rollouts.llm.tokens import estimate
from rollouts.prompt_optimization.proposers import LLMProposer, ProposalContext
from rollouts.prompt_optimization.reflection import LLMReflector, Record, Reflection

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
POOL = tuple(f"Instruction number {i}, which says what to do." for i in range(5))
ENDPOINT = Endpoint(provider="fake", model="proposer")
MOST_TOKENS = 500
LEAST_COPIED = 20


def chat(*texts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


def context(refused: Sequence[str] = ()) -> ProposalContext:
    samples = [Sample(inputs={"text": f"text {i}"}, ground_truth=label, id=str(i)) for i, label in enumerate("abab")]
    return ProposalContext(
        template=PromptTemplate("Sort it.", "Text: {text}"),
        summary=describe(samples),
        examples=(),
        check=lambda text: "it is refused here" if text in refused else None,
    )


class Asked:
    """Answers as the scripted proposer does; counts what it gave."""

    def __init__(self) -> None:
        self.given = 0

    async def __call__(self, request: Request) -> Response:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        text = answer(messages, POOL, "run", self.given)
        self.given += uses_up(messages)
        return Response(text=text, usage=Usage(), cost_micros=0, latency_s=0.0)


async def test_our_proposer_gets_the_next_instructions_whole() -> None:
    proposals = await LLMProposer(Asked(), ENDPOINT).propose(context(), 4)
    assert [proposal.text for proposal in proposals] == [instruction(POOL, "run", number) for number in range(4)]


async def test_a_second_try_gets_another_instruction() -> None:
    first, second = (instruction(POOL, "run", number) for number in range(2))
    proposals = await LLMProposer(Asked(), ENDPOINT).propose(context([first]), 1)
    assert [proposal.text for proposal in proposals] == [second]


async def test_our_reflector_gets_an_instruction_in_the_form_that_it_asks_for() -> None:
    record = Record(given="Text: one", said="b", score=0.0, feedback="")
    asked = Reflection(context=context(), records=[record], rejected=[], check=lambda text: None, number=0)
    rewrite = await LLMReflector(Asked(), ENDPOINT).reflect(asked)
    assert (rewrite.text, rewrite.remark) == (instruction(POOL, "run", 0), "")


def test_field_markers_are_answered_field_by_field() -> None:
    tail = "Respond with the corresponding output fields, starting with the field "
    asked = chat(
        "Your input fields are: `[[ ## examples ## ]]`",
        f"[[ ## tip ## ]]\nBe brief.\n\n{tail}`[[ ## reasoning ## ]]`, then `[[ ## proposed_instruction ## ]]`, "
        "and then ending with the marker for `[[ ## completed ## ]]`.",
    )
    assert answer(asked, POOL, "run", 1) == (
        f"[[ ## reasoning ## ]]\n{NEUTRAL}\n\n[[ ## proposed_instruction ## ]]\n{instruction(POOL, 'run', 1)}\n\n"
        "[[ ## completed ## ]]"
    )


@pytest.mark.parametrize("name", ["observations", "summary", "program_description", "module_description", "tip"])
def test_what_is_said_beside_an_instruction_uses_none_up(name: str) -> None:
    marked = chat(
        f"Respond with the corresponding output fields, starting with the field `[[ ## {name} ## ]]`, and so on"
    )
    as_json = chat(f"Respond with a JSON object in the following order of fields: `{name}`.")
    assert answer(marked, POOL, "run", 0) == f"[[ ## {name} ## ]]\n{NEUTRAL}\n\n[[ ## completed ## ]]"
    assert json.loads(answer(as_json, POOL, "run", 0)) == {name: NEUTRAL}
    assert not uses_up(marked)
    assert not uses_up(as_json)


def test_json_is_answered_as_json() -> None:
    asked = chat(
        "Respond with a JSON object in the following order of fields: `reasoning`, then `proposed_instruction`."
    )
    said = json.loads(answer(asked, POOL, "run", 2))
    assert said == {"reasoning": NEUTRAL, "proposed_instruction": instruction(POOL, "run", 2)}
    assert uses_up(asked)


def test_a_fenced_block_is_answered_as_one() -> None:
    asked = chat("Instructions now:\n```\nSort it.\n```\n\nProvide the new instructions within ``` blocks.")
    assert answer(asked, POOL, "run", 0) == f"```\n{instruction(POOL, 'run', 0)}\n```"


def test_unknown_forms_and_texts_in_parts() -> None:
    parts = [
        {"type": "text", "text": "Write it between <instruction> and "},
        {"type": "text", "text": "</instruction>"},
    ]
    assert answer(chat(parts), POOL, "run", 0) == f"<instruction>{instruction(POOL, 'run', 0)}</instruction>"
    assert answer(chat("A better prompt, please."), POOL, "run", 0) == instruction(POOL, "run", 0)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "text"]), inner),
    max_leaves=12,
)
_TAILS = st.sampled_from(
    [
        "Respond with the corresponding output fields, starting with the field ",
        "Respond with a JSON object in the following order of fields: ",
        "within ``` blocks",
        "`[[ ## instruction ## ]]`",
        "`a`, `instruction`",
    ]
)


@given(messages=_JSON | st.lists(_TAILS | st.text(max_size=9), max_size=4).map(lambda texts: chat("".join(texts))))
def test_every_request_has_an_answer(messages: Any) -> None:
    said = answer(messages, POOL, "run", 3)
    assert uses_up(messages) == (instruction(POOL, "run", 3) in said)
    assert uses_up(messages) == form(messages).instructs


def test_every_run_has_its_order_of_the_whole_pool() -> None:
    orders = {run: [instruction(POOL, run, number) for number in range(2 * len(POOL))] for run in "abcdef"}
    for order in orders.values():
        assert sorted(order[: len(POOL)]) == sorted(POOL)
        assert order[: len(POOL)] == order[len(POOL) :]
    assert len({tuple(order) for order in orders.values()}) > 1
    assert instruction((), "run", 0) == ""


@pytest.fixture(scope="module", params=TASKS)
def pool(request: pytest.FixtureRequest) -> tuple[str, tuple[str, ...]]:
    return request.param, load_pool(request.param)


def words(text: str) -> set[str]:
    """The words of an instruction without labels, so that lists of them do not make texts alike."""
    return {word for word in re.findall(r"\w+", text.lower()) if "_" not in word}


def test_a_pool_has_forty_different_instructions(pool: tuple[str, tuple[str, ...]]) -> None:
    _, texts = pool
    assert len(texts) == 40
    assert len({" ".join(text.lower().split()) for text in texts}) == 40
    alike = [
        (a, b)
        for index, a in enumerate(texts)
        for b in texts[:index]
        if len(words(a) & words(b)) > 0.6 * len(words(a) | words(b))
    ]
    assert not alike


def test_the_instructions_are_of_many_lengths_within_the_limit(pool: tuple[str, tuple[str, ...]]) -> None:
    _, texts = pool
    lengths = sorted(map(estimate, texts))
    assert lengths[0] < 15
    assert 4 * lengths[0] < lengths[20] < lengths[-1] <= MOST_TOKENS


def test_no_form_of_a_request_harms_an_instruction(pool: tuple[str, tuple[str, ...]]) -> None:
    """Placeholders, fences, tags, field marks and outer quotes are taken for something else by one optimizer or
    another, and so is a heading: a colon after at most five words."""
    _, texts = pool
    for text in texts:
        assert text == text.strip().strip("\"'")
        assert not re.search(r"[{}`<\[\]]", text)
        assert not re.match(r"[*\s]*([\w'-]+\s+){0,4}[\w'-]+:", text)


def test_labels_in_a_pool_are_labels_of_the_task(pool: tuple[str, tuple[str, ...]]) -> None:
    name, texts = pool
    known = labels(name)
    if name != "sst2":
        assert any(all(label in text for label in known) for text in texts)
        assert any(not any(label in text for label in known) for text in texts)
    if name == "banking77":
        return  # parts of its labels are words of their own there
    named = {word for text in texts for word in re.findall(r"[A-Za-z]+(?:_[A-Za-z]+)+", text)} - {"snake_case"}
    assert named <= set(known)


def labels(name: str) -> Sequence[str]:
    from benchmarks.mipro_comparison.tasks import load_task

    if name != "tickets" and not SHARED.is_dir():
        pytest.skip("needs ../shared/data")
    return load_task(name, seed=0, data=SHARED)[0].labels


def test_no_row_of_the_data_is_in_a_pool(pool: tuple[str, tuple[str, ...]]) -> None:
    name, texts = pool
    rows = [text for text in inputs(name) if len(text) >= LEAST_COPIED]
    assert len(rows) > 200
    written = "\n".join(texts).lower()
    assert not [text for text in rows if text.lower() in written]


def inputs(name: str) -> list[str]:
    """The texts of a task's data, as they are in its files."""
    if name == "tickets":
        return [str(sample.inputs["ticket"]) for sample in tickets()]
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data")
    if name == "sst2":
        lines = (SHARED / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()
        return [line.partition("\t")[0] for line in lines]
    with (SHARED / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def tickets() -> list[Sample]:
    from rollouts.datasets import DatasetSpec, load

    return load(DatasetSpec(path="tickets", inputs={"ticket": "ticket"}))
