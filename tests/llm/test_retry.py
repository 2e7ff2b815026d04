from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.budget import Budget, Ledger
from rollouts.dtypes import Endpoint, Message, Request
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    CallTimeout,
    ConfigError,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from rollouts.llm.budgeted import RunClock
from rollouts.llm.retry import RetryingClient, RetryPolicy
from rollouts.testing import FakeClock, ScriptedLLM

REQUEST = Request(endpoint=Endpoint.parse("openai/x"), messages=(Message("user", "q"),))


class Ceiling(random.Random):
    """Draws the greatest jitter."""

    def random(self) -> float:
        return 1.0


async def outcome(
    replies: list[object], policy: RetryPolicy | None = None, **changes: object
) -> tuple[object, float, int]:
    """(the answer's text or the error, seconds waited, attempts)."""
    clock, llm = FakeClock(auto=True), ScriptedLLM(replies)
    client = RetryingClient(llm, policy or RetryPolicy(), clock, rng=Ceiling(), **changes)
    try:
        result: object = (await client.complete(REQUEST)).text
    except (ProviderError, BudgetExhausted) as error:
        result = error
    return result, clock.now(), llm.calls


@pytest.mark.parametrize("kind", [ProviderUnavailable, CallTimeout, MalformedResponse, RateLimited])
async def test_passing_failures_are_sent_again_after_growing_waits(kind: type[ProviderError]) -> None:
    assert await outcome([kind("no")] * 4 + ["yes"]) == ("yes", 0.5 + 1 + 2 + 4, 5)


@pytest.mark.parametrize("kind", [AuthenticationFailed, ModelNotFound, InvalidRequest])
async def test_final_errors_pass_at_once(kind: type[ProviderError]) -> None:
    error = kind("no")
    assert await outcome([error]) == (error, 0, 1)


async def test_an_exhausted_budget_passes_at_once() -> None:
    error = BudgetExhausted("calls", cap=1, committed=1, wanted=1)
    assert await outcome([error]) == (error, 0, 1)


async def test_the_last_error_says_that_it_was_tried_and_is_final() -> None:
    lost = CallTimeout("no answer", status=408)
    error, waited, attempts = await outcome([lost] * 9)
    assert (type(error), waited, attempts) == (CallTimeout, 7.5, 5)
    assert str(error) == "no answer (given up after 5 attempts)"
    assert (error.retryable, error.billed, error.status, error.__cause__) == (False, True, 408, lost)
    assert lost.retryable


async def test_refusals_have_more_attempts_and_do_not_use_up_those_of_failures() -> None:
    refused, down = RateLimited("429"), ProviderUnavailable("503")
    assert (await outcome([refused] * 20))[2] == 12
    assert (await outcome([refused] * 7 + [down] * 4 + ["yes"]))[0] == "yes"
    assert (await outcome([refused] * 2 + [down] * 9))[2] == 7


async def test_retry_after_is_waited_for_even_above_the_cap() -> None:
    assert await outcome([RateLimited("429", retry_after=90), "yes"]) == ("yes", 90, 2)
    assert await outcome([ProviderUnavailable("503", retry_after=0.1), "yes"]) == ("yes", 0.5, 2)


async def test_a_retry_after_beyond_the_limit_is_final_and_says_so() -> None:
    error, waited, attempts = await outcome([RateLimited("busy", retry_after=3600), "yes"])
    assert (waited, attempts) == (0, 1)
    assert "asks to wait 3600 s, more than the 300 s allowed" in str(error)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 3600


async def test_waits_are_bounded_in_all() -> None:
    error, waited, _ = await outcome([RateLimited("429", retry_after=200)] * 9)
    assert waited == 600
    assert "600 s of waiting" in str(error)


async def test_fail_fast_gives_the_error_as_it_is() -> None:
    error = RateLimited("429", retry_after=1)
    assert await outcome([error, "yes"], RetryPolicy.fail_fast()) == (error, 0, 1)


async def test_each_wait_is_told() -> None:
    told: list[tuple[object, ...]] = []
    first, second = ProviderUnavailable("a"), CallTimeout("b")
    await outcome([first, second, "yes"], on_retry=lambda *event: told.append(event))
    assert told == [(REQUEST, first, 1, 0.5), (REQUEST, second, 2, 1.0)]


async def test_a_cancelled_wait_sends_nothing() -> None:
    clock, llm = FakeClock(), ScriptedLLM([ProviderUnavailable("no"), "yes"])
    task = asyncio.create_task(RetryingClient(llm, RetryPolicy(), clock, rng=Ceiling()).complete(REQUEST))
    await clock.advance(0.1)
    task.cancel()
    await clock.advance(10)
    assert task.cancelled()
    assert llm.calls == 1


async def test_a_run_that_is_ending_sends_nothing_again_and_does_not_wait() -> None:
    clock, llm, ledger = FakeClock(), ScriptedLLM([ProviderUnavailable("no"), "yes"]), Ledger(Budget())
    run = RunClock(clock, ledger, 0.0)
    client = RetryingClient(llm, RetryPolicy(), run, rng=Ceiling(), stopped=lambda: run.stopped)
    task = asyncio.create_task(client.complete(REQUEST))
    await clock.advance(0.1)
    run.stop()
    with pytest.raises(ProviderUnavailable, match="the run is ending") as caught:
        await task
    assert (llm.calls, clock.now(), caught.value.retryable) == (1, 0.1, False)
    assert caught.value.run_ending


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 5), st.floats(0, 60))
def test_backoff_is_full_jitter_under_a_cap(attempt: int, jitter: float, base: float, cap: float) -> None:
    policy = RetryPolicy(base_s=base, cap_s=cap)
    wait = policy.backoff(attempt, jitter)
    assert 0 <= wait <= cap
    assert wait <= policy.backoff(attempt + 1, jitter)
    assert policy.backoff(1, jitter) <= base


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"base_s": -1}, {"max_rate_limited": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RetryPolicy(**wrong)
