"""MIPRO when calls, proposals or the metric fail, or answers are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from rollouts.dtypes import Request, Response
from rollouts.errors import (
    AuthenticationFailed,
    InvalidRequest,
    ModelNotFound,
    NoCredit,
    ProviderError,
    ProviderUnavailable,
    TooManyFailures,
)
from rollouts.prompt_optimization.search import Reproposal
from rollouts.store import MemoryStore
from rollouts.testing import SimulatedLLM

from .worlds import ENDPOINT, FULL, World


async def test_a_broken_metric_stops_early() -> None:
    def broken(trajectory: Any, sample: Any) -> float:
        raise KeyError("label")

    world, store = World(), MemoryStore()
    with pytest.raises(TooManyFailures, match=r"the metric raised on \d+ of \d+ samples: KeyError: 'label'"):
        await world.run(FULL, score_fn=broken, store=store, run_id="r")
    assert world.llm.calls <= 45
    run = store.run("r")
    assert run.status == "failed"
    assert "the metric raised" in run.summary["error"]
    assert run.authorised["calls"] == world.llm.calls


class Refusing(SimulatedLLM):
    """Raises `error` for requests that `when` picks."""

    def __init__(self, world: World, error: Exception, when: Callable[[Request, int], bool]) -> None:
        super().__init__(world.llm.task)
        self.error, self.when = error, when
        self.asked: set[int] = set()

    async def complete(self, request: Request) -> Response:
        if request.phase == "propose":
            self.asked.add(request.repeat)
        response = await super().complete(request)
        if self.when(request, self.calls):
            raise self.error
        return response


@pytest.mark.parametrize("error", [AuthenticationFailed("the key is wrong"), NoCredit("the account has no credit")])
async def test_what_every_call_would_meet_ends_the_run_at_once_and_it_can_go_on(error: ProviderError) -> None:
    world, store = World(), MemoryStore()
    llm = Refusing(world, error, lambda request, n: n > 40)
    with pytest.raises(type(error), match=str(error)):
        await world.run(providers={ENDPOINT.name: llm}, store=store, run_id="r")
    assert llm.calls <= 70
    assert store.run("r").status == "failed"
    result = await world.run(store=store, run_id="r", resume=True)
    assert result.verdict is not None
    assert result.verdict.n == 80


async def test_a_proposer_that_is_down_costs_its_proposals_only() -> None:
    world = World()
    error = ProviderUnavailable("down")
    error.retryable = False
    llm = Refusing(world, error, lambda request, n: request.phase.startswith("propose"))
    result = await world.run(FULL, providers={ENDPOINT.name: llm})
    assert result.verdict is not None
    assert result.verdict.decision == "ship"
    assert {e["instruction_source"] for e in world.of("trial")} <= {"start", "rules"}


def proposing(request: Request, n: int) -> bool:
    return request.phase.startswith("propose")


@pytest.mark.parametrize("share", [0, 1, 2])
async def test_proposals_that_fail_are_told_with_their_reason_and_noted_when_they_are_most(share: int) -> None:
    """Of three proposals, none, one or two fail."""
    world = World()
    llm = Refusing(
        world, InvalidRequest("no such field"), lambda request, n: proposing(request, n) and request.repeat % 3 < share
    )
    result = await world.run(FULL, providers={ENDPOINT.name: llm})
    lost, asked = len(world.of("proposal_lost")), len(llm.asked)
    assert (lost > 0) == (share > 0)
    assert {(data["reason"], data["detail"]) for data in world.of("proposal_lost")} <= {
        ("InvalidRequest", "no such field")
    }
    notes = [note for note in result.notes if "proposals failed" in note]
    assert len(notes) == (share == 2)
    for note in notes:
        assert f"{lost} of {asked} proposals failed: {lost} x InvalidRequest (such as: no such field)" in note


@pytest.mark.parametrize("first", [True, False])
async def test_a_proposer_that_can_never_answer_ends_the_run(first: bool) -> None:
    """From the first proposal on, or from the second round on, that joins later in the search."""
    world, store = World(), MemoryStore()
    error = ModelNotFound("no such model")
    llm = Refusing(world, error, lambda request, n: proposing(request, n) and (first or request.repeat >= 1000))
    with pytest.raises(ModelNotFound):
        await world.run(FULL, providers={ENDPOINT.name: llm}, store=store, run_id="r")
    assert store.run("r").status == "failed"
    assert "no such model" in store.run("r").summary["error"]
    again = await world.run(FULL, store=store, run_id="r", resume=True)
    assert again.verdict is not None
    assert again.notes == ()


async def test_a_round_of_proposals_that_fails_ends_the_search_before_it_would_join() -> None:
    async def fails(*_: Any) -> Any:
        raise ModelNotFound("no such model")

    reproposal = Reproposal(rounds=1, trials=30, propose=fails, vary=lambda *_: {})
    study = Mock(stopping=False, search_ended=None, spawn=asyncio.create_task)
    selector, space = Mock(**{"should_stop.return_value": False}), Mock(**{"texts.return_value": ()})
    selector.ranking.return_value = space.demos.return_value = ()
    await reproposal.step(10, study, selector, space)
    await asyncio.sleep(0)
    with pytest.raises(ModelNotFound):
        await reproposal.step(11, study, selector, space)


async def test_answers_that_were_cut_are_noted_in_a_resumed_run_too() -> None:
    class Cut(SimulatedLLM):
        async def complete(self, request: Request) -> Response:
            response = await super().complete(request)
            empty = request.messages[-1].content.startswith("Ticket: ")
            return replace(response, text="", finish_reason="length") if empty else response

    world, store = World(), MemoryStore()
    llm = Cut(world.llm.task)
    result = await world.run(store=store, run_id="r", providers={ENDPOINT.name: llm})
    n = sum(1 for _ in store.scan_rollouts("r", program=result.best.program.digest))
    (note,) = [note for note in result.notes if "were cut at" in note]
    assert note.startswith(f"{n} of {n} answers of the best prompt were cut at max_completion_tokens = 16 ({n} of them")
    again = await world.run(store=store, run_id="r", resume=True, providers={ENDPOINT.name: llm})
    assert note in again.notes


async def test_some_failed_calls_do_not_count_as_wrong_answers() -> None:
    world = World(law={"base": 9.0, "chatty": 0.0, "spread": 0.0})
    error = ProviderUnavailable("hiccup")
    error.retryable = False
    llm = Refusing(world, error, lambda request, n: n % 7 == 0)
    result = await world.run(providers={ENDPOINT.name: llm})
    assert result.initial_template is not None
    assert result.initial_template.score == pytest.approx(1.0, abs=0.05)
    assert result.test is not None
    assert 60 <= len(result.test.baseline) < 80
