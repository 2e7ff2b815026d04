"""Many rollouts: known ones are free, the rest bounded, failures apart from scores, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rollouts.budget import Budget, Spend
from rollouts.dtypes import (
    Message,
    Program,
    PromptTemplate,
    Request,
    Response,
    Sample,
    Tool,
    ToolCall,
    Trajectory,
    fill,
)
from rollouts.errors import (
    AuthenticationFailed,
    CallTimeout,
    InvalidRequest,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    TooManyFailures,
)
from rollouts.evaluation import FailureLimit, summarise
from rollouts.evaluation.summary import is_missing, scores_by_sample
from rollouts.llm.retry import RetryPolicy
from rollouts.store import MemoryStore, Store, open_store
from rollouts.store.base import RunRow
from rollouts.testing import ScriptedLLM

from .kit import PROGRAM, answers, cells, evaluator, kinds, right, samples


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    made: Store = MemoryStore() if request.param == "memory" else open_store(tmp_path / "s.db")
    for run_id in ("run", "first", "second"):
        made.create_run(RunRow(id=run_id, method="m", status="running", created_at=0.0, config={}))
    yield made
    made.close()


class Gated(ScriptedLLM):
    """Answers when it is let."""

    def __init__(self, n: int = 200) -> None:
        super().__init__(answers(n))
        self.gate = asyncio.Event()

    async def complete(self, request: Request) -> Response:
        response = await super().complete(request)
        await self.gate.wait()
        return response


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_evaluations_come_in_the_order_of_cells() -> None:
    ev = evaluator()
    out = await ev.evaluate(cells(20))
    assert [e.sample_id for e in out] == [str(i) for i in range(20)]
    assert [e.value for e in out] == [1.0] * 20
    assert ev.ledger.spent == Spend(rollouts=20, calls=20, tokens=ev.progress.spent.tokens)
    assert (ev.progress.done, ev.progress.queued, ev.progress.failed) == (20, 0, 0)
    assert ev.progress.by_phase == {"task": 20}


async def test_failures_are_kept_apart_from_scores() -> None:
    def metric(trajectory: Any, sample: Any) -> float:
        n = int(sample.id)
        if n % 4 == 1:
            raise ValueError("no label")
        return float("nan") if n % 4 == 2 else 1.0

    replies: dict[str, Any] = {**answers(12), "Q: question 3": InvalidRequest("refused")}
    ev = evaluator(ScriptedLLM(replies), score_fn=metric)
    out = await ev.evaluate(cells(12))
    assert kinds(out) == {"ok": 5, "score:ValueError": 3, "score:EvaluationError": 3, "call:InvalidRequest": 1}
    assert summarise(out).mean == 1.0
    assert (summarise(out).scored, summarise(out).failed, summarise(out).missing) == (5, 7, 0)
    assert ev.progress.failed == 7


async def test_what_the_budget_leaves_out_is_missing_and_not_failed() -> None:
    ev = evaluator(budget=Budget(max_rollouts=7))
    out = await ev.evaluate(cells(20))
    assert sum(is_missing(e) for e in out) == 13
    assert [e.sample_id for e in out if e.value is not None] == [str(i) for i in range(7)]
    assert (summarise(out).missing, summarise(out).failed) == (13, 0)
    assert ev.ledger.spent.rollouts == 7
    assert ev.failure_limit.total == 7


async def test_a_rollout_whose_call_the_budget_refuses_did_not_take_place() -> None:
    ev = evaluator(budget=Budget(max_calls=5))
    out = await ev.evaluate(cells(9))
    assert kinds(out) == {"ok": 5, "budget:BudgetExhausted": 4}
    assert ev.ledger.spent.rollouts == 5
    assert ev.progress.done == 5


async def test_stop_lets_nothing_start_and_lets_end_what_runs() -> None:
    llm = Gated()
    ev = evaluator(llm, slots=3)
    running = asyncio.create_task(ev.evaluate(cells(10)))
    await settle()
    ev.stop("the user asked")
    llm.gate.set()
    out = await running
    assert kinds(out) == {"ok": 3, "budget:BudgetExhausted": 7}
    assert "the user asked" in str(out[5].failure)
    assert llm.calls == 3


async def test_what_fails_because_of_a_stop_is_missing_and_counts_against_nothing() -> None:
    """A call that failed is not sent again once the run is to end."""

    class Failing(Gated):
        async def complete(self, request: Request) -> Response:
            await super().complete(request)
            raise InvalidRequest("no")

    llm = Failing()
    ev = evaluator(llm, slots=10, limit=FailureLimit(share=0.1))
    running = asyncio.create_task(ev.evaluate(cells(10)))
    await settle()
    ev.stop("the user asked")
    llm.gate.set()
    assert kinds(await running) == {"budget:BudgetExhausted": 10}
    assert (llm.calls, ev.progress.failed, ev.ledger.spent.rollouts) == (10, 0, 0)


@pytest.mark.parametrize(
    ("error", "rollouts"),
    [(ProviderUnavailable("down"), 5), (RateLimited("later"), 5), (CallTimeout("late"), 6), (InvalidRequest("no"), 6)],
)
async def test_a_rollout_without_any_answer_is_not_charged(error: ProviderError, rollouts: int, store: Store) -> None:
    ev = evaluator(ScriptedLLM({**answers(6), "Q: question 3": error}), store=store, retry=RetryPolicy.fail_fast())
    out = await ev.evaluate(cells(6))
    failure = out[3].failure
    assert failure is not None
    assert failure.outage is (rollouts == 5) is not failure.of_program
    assert (ev.ledger.spent.rollouts, ev.progress.done, ev.progress.failed) == (rollouts, 6, 1)
    store.flush()
    assert [row.sample_id for row in store.scan_rollouts("run", failed=True)] == ["3"], "and is shown all the same"


async def test_a_model_that_is_away_stops_the_run_however_much_was_done() -> None:
    llm = ScriptedLLM({**answers(60), **{f"Q: question {i}": ProviderUnavailable("down") for i in range(60, 200)}})
    ev = evaluator(llm, slots=1, limit=FailureLimit(0.5, in_a_row=20), retry=RetryPolicy.fail_fast())
    assert set(kinds(await ev.evaluate(cells(60)))) == {"ok"}
    mixed = [cell for pair in zip(cells(90)[60:90], cells(30, repeat=1), strict=True) for cell in pair]
    assert kinds(await ev.evaluate(mixed))["ok"] == 30, "answers between them: it is not away"
    with pytest.raises(TooManyFailures, match=r"20 times in a row.*resume"):
        await ev.evaluate(cells(200)[90:])
    assert ev.progress.done == 60 + 60 + 20


async def test_known_rollouts_cost_nothing_and_are_linked(store: Store) -> None:
    first = evaluator(store=store, run_id="first")
    before = await first.evaluate(cells(6))
    llm = ScriptedLLM({})
    second = evaluator(llm, store=store, run_id="second")
    after = await second.evaluate(cells(6))
    assert llm.calls == 0
    assert second.ledger.spent == Spend()
    assert all(e.cached for e in after)
    assert [(e.key, e.value, e.output, e.sample_id) for e in after] == [
        (e.key, e.value, e.output, e.sample_id) for e in before
    ]
    store.flush()
    assert sorted(row.key for row in store.scan_rollouts("second")) == sorted(e.key for e in before)
    assert {row.run_id for row in store.scan_rollouts("second")} == {"first"}


def cutting(count: int) -> ScriptedLLM:
    """Answers so many questions with nothing, at the limit of tokens; the others rightly."""
    right = answers(100)
    empty = dict.fromkeys(list(right)[:count], Response(text="", finish_reason="length"))
    return ScriptedLLM({**right, **empty})


@pytest.mark.parametrize(("cut", "total", "noted"), [(2, 4, False), (3, 10, True), (3, 60, False), (4, 60, True)])
async def test_answers_that_were_cut_are_noted_each_once_and_those_of_the_store_too(
    store: Store, cut: int, total: int, noted: bool
) -> None:
    for run in ("first", "second"):
        ev = evaluator(cutting(cut), store=store, run_id=run)
        for _ in range(2):
            assert all(e.score is not None for e in await ev.evaluate(cells(total)))
        told = f"{cut} of {total} answers were cut at max_completion_tokens = 8 ({cut} of them empty)"
        assert [note.startswith(told) for note in ev.answers.notes(PROGRAM.digest)] == [True] * noted


async def test_cut_answers_are_those_of_one_program() -> None:
    brief = Program.single(PromptTemplate("Say it.", "Briefly: {q}"))
    said = {f"Briefly: question {n}": f"answer {n}" for n in range(10)}
    silent = {f"Q: question {n}": Response(text="", finish_reason="length") for n in range(10)}
    ev = evaluator(ScriptedLLM({**said, **silent}))
    await ev.evaluate([*cells(10), *cells(10, brief)])
    (note,) = ev.answers.notes(PROGRAM.digest, "the prompt")
    assert note.startswith("10 of 10 answers of the prompt were cut at max_completion_tokens = 8")
    assert ev.answers.notes(brief.digest) == ()


async def test_an_answer_that_was_cut_and_cannot_be_scored_counts_as_cut() -> None:
    def strict(trajectory: Trajectory, sample: Sample) -> float:
        return 1 / len(trajectory.output)

    ev = evaluator(cutting(3), score_fn=strict)
    assert kinds(await ev.evaluate(cells(6))) == {"ok": 3, "score:ZeroDivisionError": 3}
    assert len(ev.answers.notes(PROGRAM.digest)) == 1


async def test_a_stored_rollout_of_an_equal_row_goes_by_the_asking_rows_id(store: Store) -> None:
    await evaluator(store=store).evaluate(cells(1))
    (cell,) = cells(1)
    from dataclasses import replace

    (out,) = await evaluator(ScriptedLLM({}), store=store).evaluate(
        [replace(cell, sample=replace(cell.sample, id="renamed"))]
    )
    assert (out.sample_id, out.cached) == ("renamed", True)


async def test_failures_are_stored_but_never_served(store: Store) -> None:
    bad = evaluator(ScriptedLLM({"Q: question 0": InvalidRequest("no")}), store=store)
    assert (await bad.evaluate(cells(1)))[0].failure is not None
    store.flush()
    assert [row.failure is not None for row in store.scan_rollouts("run")] == [True]
    good = evaluator(store=store)
    assert (await good.evaluate(cells(1)))[0].value == 1.0
    store.flush()
    assert [row.failure for row in store.scan_rollouts("run")] == [None]


async def test_each_run_has_the_failures_it_had(store: Store) -> None:
    def runs(run_id: str, answer: Any) -> Any:
        return evaluator(ScriptedLLM({"Q: question 0": answer}), store=store, run_id=run_id)

    def failed(run_id: str) -> list[tuple[str, bool]]:
        store.flush()
        return [(row.phase, row.failure is not None) for row in store.scan_rollouts(run_id)]

    for run_id in ("first", "second", "second"):
        await runs(run_id, InvalidRequest("no")).evaluate(cells(1), phase=f"of {run_id}")
    assert failed("first") == [("of first", True)]
    assert failed("second") == [("of second", True)]
    await runs("second", "answer 0").evaluate(cells(1), phase="again")
    assert failed("second") == [("again", False)], "the run's own success takes the place of its failure"


async def test_known_runs_nothing(store: Store) -> None:
    ev = evaluator(store=store)
    await ev.evaluate(cells(3))
    assert [e.sample_id for e in ev.known(cells(5))] == ["0", "1", "2"]
    assert ev.ledger.spent.rollouts == 3
    assert evaluator().known(cells(5)) == []


@pytest.mark.parametrize("stored", [True, False])
async def test_the_same_rollout_in_flight_runs_once(stored: bool) -> None:
    llm = Gated()
    ev = evaluator(llm, store=MemoryStore() if stored else None, run_id="")
    first = asyncio.create_task(ev.evaluate(cells(2)))
    second = asyncio.create_task(ev.evaluate(cells(2)))
    await settle()
    llm.gate.set()
    assert await first == await second
    assert llm.calls == 2
    assert ev.ledger.spent.rollouts == 2
    assert ev.progress.done == 2


async def test_twice_in_one_batch_runs_once() -> None:
    ev = evaluator()
    out = await ev.evaluate(cells(1) * 3)
    assert [e.value for e in out] == [1.0] * 3
    assert ev.ledger.spent.rollouts == 1


async def test_when_the_leader_is_cancelled_a_follower_runs_it() -> None:
    llm = Gated()
    ev = evaluator(llm)
    leader = asyncio.create_task(ev.evaluate(cells(1)))
    await settle()
    follower = asyncio.create_task(ev.evaluate(cells(1)))
    await settle()
    leader.cancel()
    await settle()
    llm.gate.set()
    (out,) = await asyncio.wait_for(follower, 2)
    assert out.value == 1.0
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert ev.progress.queued == 0


async def test_a_cancelled_follower_stays_cancelled_when_its_leader_is_too() -> None:
    llm = Gated()
    ev = evaluator(llm)
    batch = asyncio.create_task(ev.evaluate(cells(1) * 3))
    await settle()
    batch.cancel()
    llm.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await batch
    await settle()
    assert llm.calls == 1
    assert ev.progress.done == 0
    assert ev.progress.queued == 0


async def test_a_leaders_error_reaches_its_followers() -> None:
    ev = evaluator(ScriptedLLM({"Q: question 0": AuthenticationFailed("bad key")}))
    tasks = [asyncio.create_task(ev.evaluate(cells(1))) for _ in range(3)]
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, AuthenticationFailed)


async def test_fatal_errors_end_the_batch_with_few_calls() -> None:
    replies: dict[str, Any] = {**answers(100), "Q: question 2": AuthenticationFailed("bad key")}
    llm = ScriptedLLM(replies)
    ev = evaluator(llm, slots=4)
    with pytest.raises(AuthenticationFailed, match="bad key"):
        await ev.evaluate(cells(100))
    await settle()
    assert llm.calls < 12
    assert ev.progress.queued == 0


async def test_a_fatal_error_lets_no_other_batch_start_a_rollout() -> None:
    replies: dict[str, Any] = {**answers(100), "Q: question 2": AuthenticationFailed("bad key")}
    llm = ScriptedLLM(replies, latency_s=0.001)
    ev = evaluator(llm, slots=4)
    batches = [ev.evaluate(cells(100)[i * 20 : i * 20 + 20]) for i in range(5)]
    for outcome in await asyncio.gather(*batches, return_exceptions=True):
        assert isinstance(outcome, AuthenticationFailed)
    assert llm.calls <= 8


async def test_a_broken_metric_stops_the_run_with_the_reason() -> None:
    def metric(trajectory: Any, sample: Any) -> float:
        raise KeyError("label")

    llm = ScriptedLLM(answers(200))
    ev = evaluator(llm, score_fn=metric, limit=FailureLimit(0.5), slots=1)
    with pytest.raises(TooManyFailures) as caught:
        await ev.evaluate(cells(200))
    assert str(caught.value).startswith("the metric raised on 10 of 10 samples: KeyError: 'label'")
    assert llm.calls == 10


async def test_failures_of_one_kind_count_together_whatever_they_say() -> None:
    def metric(trajectory: Any, sample: Any) -> float:
        if sample.id == "0":
            raise ValueError("bad")
        raise KeyError(sample.id)

    ev = evaluator(score_fn=metric, limit=FailureLimit(0.5), slots=1)
    with pytest.raises(TooManyFailures, match="the metric raised on 9 of 10 samples: for example KeyError: '1';"):
        await ev.evaluate(cells(20))


@pytest.mark.parametrize(("bad", "total", "stops"), [(9, 9, False), (10, 25, False), (12, 22, True), (30, 40, True)])
async def test_the_limit_is_on_the_share_of_failures(bad: int, total: int, stops: bool) -> None:
    def metric(trajectory: Any, sample: Any) -> float:
        if int(sample.id) >= total - bad:
            raise ValueError("bad")
        return 1.0

    ev = evaluator(score_fn=metric, limit=FailureLimit(0.5), slots=1)
    if stops:
        with pytest.raises(TooManyFailures, match="the metric raised"):
            await ev.evaluate(cells(total))
    else:
        assert kinds(await ev.evaluate(cells(total)))["score:ValueError"] == bad


@pytest.mark.parametrize(
    ("stage", "words"), [("call", "the model call failed"), ("timeout", "the rollout ran out of time")]
)
async def test_the_limit_names_what_went_wrong(stage: str, words: str) -> None:
    class Bad(ScriptedLLM):
        async def complete(self, request: Request) -> Response:
            if stage == "timeout":
                await asyncio.sleep(30)
            raise InvalidRequest("context too long")

    ev = evaluator(Bad({}), limit=FailureLimit(0.5), slots=16, timeout_s=0.01 if stage == "timeout" else 30)
    with pytest.raises(TooManyFailures, match=words):
        await ev.evaluate(cells(40))


async def test_repeats_are_rollouts_of_their_own(store: Store) -> None:
    ev = evaluator(store=store)
    out = await ev.evaluate([cell for r in range(3) for cell in cells(2, repeat=r)])
    assert len({e.key for e in out}) == 6
    assert [e.repeat for e in out] == [0, 0, 1, 1, 2, 2]
    assert ev.ledger.spent.rollouts == 6
    assert scores_by_sample(out) == {"0": 1.0, "1": 1.0}


async def test_programs_can_be_shown_again(store: Store) -> None:
    out = await evaluator(store=store).evaluate(cells(2))
    store.flush()
    row = store.programs([out[0].program])[out[0].program]
    assert row.modules["main"]["system"] == "Say it."


async def test_a_tool_using_rollout_is_read_back_with_its_messages(store: Store) -> None:
    """Demonstrations are made from them, so a resumed run must see what the first one saw."""

    class Tools:
        async def reset(self, sample: Any) -> None:
            """Nothing."""

        def tools(self) -> tuple[Tool, ...]:
            return (Tool(name="look", description="", parameters={}),)

        async def call(self, name: str, arguments: Any) -> str:
            return "seen"

        async def close(self) -> None:
            """Nothing."""

    def reply(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return "answer 0"
        return Response(text="", tool_calls=(ToolCall(id="1", name="look", arguments="{}"),))

    make: Callable[[dict[str, Any]], Tools] = lambda values: Tools()  # noqa: E731
    first = await evaluator(ScriptedLLM(reply), store=store, environment_factory=make).evaluate(cells(1))
    again = await evaluator(ScriptedLLM({}), store=store, environment_factory=make).evaluate(cells(1))
    assert again[0].cached
    assert (again[0].calls, first[0].calls) == (2, 2)
    assert first[0].trajectory is not None
    assert again[0].trajectory is not None
    assert again[0].trajectory.messages == first[0].trajectory.messages
    assert again[0].trajectory.calls == first[0].trajectory.calls
    assert again[0].trajectory.tool_uses == first[0].trajectory.tool_uses != ()
    assert Message("tool", "seen", (), "1") in again[0].trajectory.messages


async def test_a_stored_run_of_a_module_shows_values_as_they_were_sent() -> None:
    async def run(sample: Sample, agents: Any) -> Trajectory:
        return await agents["main"]({"q": {"vip": True, "n": None}})  # type: ignore[no-any-return]

    store = MemoryStore()
    program = Program(modules={"main": PromptTemplate("", "Q: {q}")}, run=run)
    llm = ScriptedLLM({'Q: {"vip": true, "n": null}': "answer 0"})
    await evaluator(llm, store=store).evaluate(cells(1, program))
    (again,) = await evaluator(ScriptedLLM({}), store=store).evaluate(cells(1, program))
    assert again.cached
    assert again.trajectory is not None
    (trace,) = again.trajectory.traces
    assert fill("Q: {q}", trace.values) == llm.requests[0].messages[-1].content


async def test_the_bound_on_slots_holds_over_all_batches() -> None:
    llm = ScriptedLLM(answers(200), latency_s=0.001)
    ev = evaluator(llm, slots=5)
    await asyncio.gather(ev.evaluate(cells(30)), ev.evaluate([c for c in cells(60) if int(c.sample.id) >= 30]))
    assert llm.max_in_flight == 5


def test_the_kit_scores_exactly() -> None:
    assert right(Trajectory(messages=(), output="answer 0"), samples(1)[0]) == 1.0
