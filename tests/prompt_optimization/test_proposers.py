"""Where instructions come from, and what they must keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rollouts.datasets import describe
from rollouts.dtypes import Endpoint, FewShotExample, PromptTemplate, Request, Response, Sample, Sampling, Tool
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    InvalidRequest,
    ModelNotFound,
    NoCredit,
    ProviderError,
    ProviderUnavailable,
)
from rollouts.prompt_optimization.proposers import (
    Copies,
    InstructionGuard,
    LLMProposer,
    Proposal,
    ProposalContext,
    RuleProposer,
    Tried,
    propose,
)
from rollouts.prompt_optimization.proposers.copies import squeeze
from rollouts.prompt_optimization.proposers.lost import Lost, Proposals
from rollouts.prompt_optimization.proposers.writing import extract_instruction
from rollouts.testing import FakeClock, ScriptedLLM

START = PromptTemplate("Classify for {company}. Never apologise.", "Text: {text}")
LONG = "a training text that is long enough to be recognised"
ENDPOINT = Endpoint(provider="fake", model="m", sampling=Sampling(max_tokens=64))


def guard(**settings: Any) -> InstructionGuard:
    made = InstructionGuard(START, **{"count_tokens": lambda text: len(text.split()), "max_tokens": 30, **settings})
    made.remember(START.system)
    return made


def context(
    answers: Sequence[Any] = ("spam", "ham") * 5, template: PromptTemplate = START, **settings: Any
) -> ProposalContext:
    samples = [Sample(inputs={"text": f"text {i}"}, ground_truth=a, id=str(i)) for i, a in enumerate(answers)]
    return ProposalContext(
        **{
            "template": template,
            "summary": describe(samples),
            "examples": [FewShotExample("Text: one", "spam")],
            "check": lambda text: None,
            **settings,
        }
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Classify well for {company}.", None),
        ("Classify well for {{ company }}, JSON like {} or {1}.", None),
        ("Classify.", "lost the placeholder {company}"),
        ("Classify for {firm}.", "lost the placeholder {company}"),
        ("Classify {text} for {company}.", "added the placeholder {text}"),
        ("", "empty"),
        ("  \n", "empty"),
        ("{company} " + "word " * 40, "more than the limit of 30"),
        (f"For {{company}}: {LONG.upper()}!", "copies a training example"),
        ("classify for {company}.  Never\napologise.", "same as an earlier"),
    ],
)
def test_the_guard(text: str, reason: str | None) -> None:
    said = guard(copies=Copies([[LONG], ["short"]]))(text)
    assert (said is None) if reason is None else (said is not None and reason in said)


def test_frozen_spans_stay_word_for_word() -> None:
    check = guard(frozen_spans=["Never apologise."])
    assert check("For {company}: Never apologise. Be kind.") is None
    assert "Never apologise." in str(check("For {company}: never apologise."))


def test_what_was_remembered_may_not_come_again() -> None:
    check = guard()
    assert check("New for {company}") is None
    check.remember("New  for {company}")
    assert "earlier" in str(check("new for {COMPANY}".replace("COMPANY", "company")))


STORY = (
    "Last Monday I sent a parcel to my sister in Leeds, and the driver left it with a neighbour whom nobody in the "
    "street has ever seen; since then your hotline has told me three times that it was delivered, which it was not."
)
FRAME = "Read the letter of the customer below with care, then decide which of the four desks has to answer it. Letter:"


def copied(text: str, *rows: Sequence[str], known: str = "") -> bool:
    return Copies(rows).copied(squeeze(text), squeeze(known))


@pytest.mark.parametrize(
    ("quoted", "refused"),
    [
        (STORY, True),
        (STORY.upper().replace(" ", "\n"), True),
        (STORY[20:141], True),
        (STORY[:79], False),
        (" ".join(reversed(STORY.split())), False),
        (f"{LONG}.", True),
        (LONG[:-2], False),
        ("lost card", False),
    ],
)
def test_whole_values_and_long_passages_are_copies_wherever_they_stand(quoted: str, refused: bool) -> None:
    rows = [[STORY, "lost card"], [f"  {LONG}!"], ["lost card"]]
    assert copied(f"Route it. For example '{quoted}' goes to bugs.", *rows) == refused


def test_what_the_prompt_has_already_is_no_copy() -> None:
    assert not copied(f"Be kind. {STORY}", [STORY], known=f"Example: {STORY}")
    assert not copied(STORY[10:150], [STORY], known=STORY[:160])


@pytest.mark.parametrize("n", [2, 400])
def test_what_many_rows_share_is_no_copy(n: int) -> None:
    rows = [[f"{'x' * (i % 7)} {FRAME} {i} {i * i}", STORY] for i in range(n)]
    assert not copied(f"Be kind. {FRAME} {STORY}", *rows)
    assert not copied(f"Be kind. {FRAME} 1 or so. {STORY}", *rows)
    own = [[f"{FRAME} {' '.join(f'{i}-{k}' for k in range(50))}", STORY] for i in range(n)]
    assert copied(f"Be kind. {own[1][0]}", *own)
    assert copied(f"Be kind. {own[1][0][-130:]}", *own)


def test_short_inputs_are_no_copies() -> None:
    assert guard(copies=Copies([["Classify"]]))("Classify for {company}, please.") is None


async def rules(answers: Sequence[Any], count: int = 20, **settings: Any) -> list[str]:
    return [p.text for p in await RuleProposer().propose(context(answers, **settings), count)]


async def test_rules_name_the_labels() -> None:
    texts = await rules(("spam", "ham") * 5)
    assert "ham, spam" in texts[0]
    assert texts[0].startswith(START.system)
    assert any("single word" in text for text in texts)
    assert any("answer only" in text for text in texts)
    assert len(texts) == len(set(texts))
    assert all("{company}" in text for text in texts)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (("card_lost", "card_stolen") * 5, "underscores"),
        ([str(i * 1.5) for i in range(30)], "number"),
        ([f'{{"a": {i}}}' for i in range(30)], "JSON"),
        ([f"A long free answer, number {i}, that nobody repeats." for i in range(30)], "style"),
        ([None] * 10, "answer only"),
    ],
)
async def test_rules_follow_the_answers(answers: Sequence[Any], words: str) -> None:
    assert any(words in text for text in await rules(answers))


async def test_rules_list_labels_as_they_are() -> None:
    texts = await rules(("Yes, at once", "No_never") * 5)
    assert "one of these:\n- No_never\n- Yes, at once\n" in texts[0]
    assert "as given, with underscores" in texts[0]
    assert "as given, in lower case with underscores" in (await rules(("a_b", "c_d") * 5))[0]


async def test_rules_keep_to_the_count_the_check_and_the_first_round() -> None:
    assert len(await rules(("a", "b") * 5, 2)) == 2
    assert await rules(("a", "b") * 5, check=lambda text: "no") == []
    assert await rules(("a", "b") * 5, round=1) == []


async def test_rules_without_placeholders_may_leave_the_old_text_out() -> None:
    bare = PromptTemplate("Do it.", "{text}")
    assert any("Do it." not in text for text in await rules(("a", "b") * 5, template=bare))
    assert all("Do it." in text for text in await rules(("a", "b") * 5, template=bare, frozen_spans=("Do it.",)))


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<instruction>Do it.</instruction>", "Do it."),
        ("Sure!\n<instruction>\nDo it.\n</instruction>\nHope it helps", "Do it."),
        ("<instruction>Do it.", "Do it."),
        ("<INSTRUCTION>Do it.</Instruction>", "Do it."),
        ("```\nDo it.\n```", "Do it."),
        ("<instruction>```text\nDo it.\nWell.\n```</instruction>", "Do it.\nWell."),
        ('"Do it."', "Do it."),
        ("Do it.", "Do it."),
        ("", ""),
    ],
)
def test_the_text_is_cut_out_of_the_reply(reply: str, text: str) -> None:
    assert extract_instruction(reply) == text


def llm(reply: Any) -> tuple[LLMProposer, ScriptedLLM]:
    fake = ScriptedLLM(reply)
    return LLMProposer(fake.complete, ENDPOINT), fake


async def test_each_proposal_is_asked_for_with_its_own_tip_after_a_shared_prefix() -> None:
    proposer, fake = llm(lambda request: f"<instruction>{request.repeat}</instruction>")
    proposals = await proposer.propose(context(tried=[Tried(text="old", score=0.4, n=7)], round=2), 5)
    assert [p.text for p in proposals] == [str(2000 + i) for i in range(5)]
    assert len({p.tip for p in proposals}) == 5
    assert {p.source for p in proposals} == {"llm"}
    assert len({request.messages[0].content for request in fake.requests}) == 1
    system = fake.requests[0].messages[0].content
    for words in (START.system, "Text: one", "ham", "40%", "old", "{text}"):
        assert words in system
    for request in fake.requests:
        assert request.phase == "propose"
        assert request.endpoint.sampling.temperature >= 0.7
        assert request.endpoint.sampling.max_tokens >= 512


async def test_proposals_know_the_tools() -> None:
    schema = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}
    search = Tool(name="search", description="Finds pages.\n  Best first.", parameters=schema)
    tools = [search, Tool(name="today", description="x" * 400, parameters={"type": "object"})]
    proposer, fake = llm(lambda request: "<instruction>better</instruction>")
    await proposer.propose(context(tools=tools), 1)
    await proposer.propose(context(tools=[search] * 50), 1)
    await proposer.propose(context(), 1)
    few, many, none = (request.messages[0].content for request in fake.requests)
    assert "- search(query, limit): Finds pages. Best first.\n- today(): " + "x" * 300 + "...\n\n" in few
    assert (many.count("search("), "and 10 more" in many) == (40, True)
    assert "tools" not in none


async def test_proposals_are_asked_for_in_parallel() -> None:
    clock = FakeClock(auto=True)
    fake = ScriptedLLM(lambda request: str(request.repeat), latency_s=10.0, clock=clock)
    assert len(await LLMProposer(fake.complete, ENDPOINT).propose(context(), 8)) == 8
    assert fake.max_in_flight == 8
    assert clock.now() == pytest.approx(10.0)


def mending(first: str, second: str | Exception) -> Callable[[Request], Any]:
    return lambda request: first if len(request.messages) == 2 else second


async def test_a_refused_proposal_goes_back_once_with_the_reason() -> None:
    proposer, fake = llm(mending("<instruction>bad</instruction>", "<instruction>good</instruction>"))
    check = lambda text: "it is bad" if text == "bad" else None  # noqa: E731
    (proposal,) = await proposer.propose(context(check=check), 1)
    assert proposal.text == "good"
    assert fake.calls == 2
    *_, answered, again = fake.requests[1].messages
    assert "bad" in answered.content
    assert "it is bad" in again.content


async def test_refused_twice_is_dropped() -> None:
    proposer, fake = llm(mending("bad", "bad again"))
    assert await proposer.propose(context(check=lambda text: "no"), 3) == []
    assert fake.calls == 6


@pytest.mark.parametrize("error", [ProviderError("no"), BudgetExhausted("calls", cap=1, committed=1, wanted=1)])
@pytest.mark.parametrize("when", ["first", "again"])
async def test_a_failed_call_costs_its_proposal_only(error: Exception, when: str) -> None:
    def reply(request: Request) -> Any:
        if request.repeat != 1:
            return f"ok {request.repeat}"
        return error if when == "first" or len(request.messages) > 2 else "bad"

    proposer, _ = llm(reply)
    check = lambda text: "no" if text == "bad" else None  # noqa: E731
    assert [p.text for p in await proposer.propose(context(check=check), 3)] == ["ok 0", "ok 2"]


@pytest.mark.parametrize("error", [AuthenticationFailed("no"), ModelNotFound("no"), NoCredit("no")])
async def test_what_every_other_call_would_meet_too_is_raised(error: ProviderError) -> None:
    with pytest.raises(type(error)):
        await llm(lambda request: error)[0].propose(context(), 3)


def cut(text: str) -> Response:
    return Response(text=text, finish_reason="length")


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        ("<instruction>fine", None, ""),
        (cut("<instruction>Sort the mess"), "the answer was cut at 512 tokens (raise proposer.max_comp", ""),
        (cut(""), "empty: the model spent its whole limit of 512 tokens on thinking (raise proposer.max_comp", ""),
        (cut("<instruction>fine</instruction> Here is wh"), None, ""),
        ("", "the text was refused", "it is empty"),
        ("bad", "the text was refused", "it is bad"),
        (InvalidRequest("temperature is not known"), "InvalidRequest", "temperature is not known"),
        (BudgetExhausted("calls", cap=1, committed=1, wanted=1), "BudgetExhausted", "the cap of 1 calls"),
    ],
)
async def test_it_tells_why_a_proposal_came_to_nothing(reply: Any, reason: str | None, detail: str) -> None:
    told: list[Lost | None] = []
    fake = ScriptedLLM(lambda request: reply)
    check = {"": "it is empty", "bad": "it is bad"}.get
    proposals = await LLMProposer(fake.complete, ENDPOINT, tell=told.append).propose(context(check=check), 2)
    if reason is None:
        assert told == [None, None]
        assert [p.text for p in proposals] == ["fine", "fine"]
        return
    assert proposals == []
    for lost in told:
        assert lost is not None
        assert reason in lost.reason
        assert detail in lost.detail


async def test_a_text_that_was_cut_goes_back_once_but_where_the_limit_is_the_proposers_own() -> None:
    replies = mending(cut("<instruction>Sort the"), "<instruction>Sort.</instruction>")  # type: ignore[arg-type]
    proposer, fake = llm(replies)
    assert [p.text for p in await proposer.propose(context(), 1)] == ["Sort."]
    assert "it was cut" in fake.requests[1].messages[-1].content
    kept_short = LLMProposer(fake.complete, ENDPOINT, max_tokens=96)
    assert [p.text for p in await kept_short.propose(context(), 1)] == ["Sort the"]


def test_the_note_is_of_more_than_half_of_the_proposals() -> None:
    proposals = Proposals()
    for lost in (None, Lost("cut at 512 tokens"), Lost("refused", "it is too long"), None):
        proposals.count(lost)
    assert proposals.notes() == ()
    proposals.count(Lost("refused", "it is empty"))
    assert proposals.notes() == (
        "3 of 5 proposals failed: 2 x refused (such as: it is too long), 1 x cut at 512 tokens; "
        "the search had only 2 texts that a model wrote",
    )


class Listed:
    """Says what it is told, after a while."""

    def __init__(self, *texts: str, delay: float = 0.0, clock: FakeClock | None = None) -> None:
        self.texts, self.delay, self.clock = texts, delay, clock

    async def propose(self, context: ProposalContext, count: int) -> list[Proposal]:
        if self.clock is not None:
            await self.clock.sleep(self.delay)
        return [Proposal(text=text, source="x") for text in self.texts[:count]]


@pytest.mark.parametrize("delays", [(0.0, 9.0), (9.0, 0.0)])
async def test_sources_take_turns_whatever_the_order_of_arrival(delays: tuple[float, float]) -> None:
    clock = FakeClock(auto=True)
    sources = [
        Listed("{company} a", "{company} b", "{company} c", delay=delays[0], clock=clock),
        Listed("{company} x", "{company}  A", "lost", delay=delays[1], clock=clock),
    ]
    out = await propose(sources, context(), 4, guard())
    assert [p.text for p in out] == ["{company} a", "{company} x", "{company} b", "{company} c"]


async def test_the_list_is_as_long_as_asked_and_never_repeats_over_rounds() -> None:
    check = guard()
    source = Listed(*(f"{{company}} {i}" for i in range(9)))
    first = await propose([source], context(), 3, check)
    second = await propose([source], context(), 9, check)
    assert len(first) == 3
    assert {p.text for p in first}.isdisjoint(p.text for p in second)


async def test_a_reply_order_that_varies_gives_the_same_proposals() -> None:
    async def run(slow: int) -> list[str]:
        clock = FakeClock(auto=True)

        async def generate(request: Request) -> Response:
            await clock.sleep(5.0 if request.repeat == slow else 1.0)
            return Response(text=f"{{company}} {request.repeat // 2}")

        proposer = LLMProposer(generate, ENDPOINT)
        return [p.text for p in await propose([RuleProposer(), proposer], context(), 12, guard(max_tokens=99))]

    assert await run(0) == await run(5)


async def test_cancelling_stops_the_calls() -> None:
    fake = ScriptedLLM(lambda request: "x", latency_s=60.0)
    running = asyncio.create_task(LLMProposer(fake.complete, ENDPOINT).propose(context(), 3))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert fake.in_flight == 0


def test_an_embedded_model_is_kept_short() -> None:
    proposer = LLMProposer(ScriptedLLM([]).complete, replace(ENDPOINT, provider="local"), max_tokens=96)
    assert proposer._writer._endpoint.sampling.max_tokens == 96
    assert ProviderUnavailable("x").retryable
