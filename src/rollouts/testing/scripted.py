"""A model that says what the test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rollouts.budget import Spend
from rollouts.dtypes import Price, Request, Response
from rollouts.errors import ConfigError
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.pricing import FREE
from rollouts.llm.tokens import estimate
from rollouts.testing.billing import billed, prompt_tokens, worst_case

Reply = str | Response | BaseException
"""Text, a whole response (sent as it is), or an error to raise."""


class ScriptedLLM:
    """A `Provider` whose replies are given: a list in order, a dict by the last message's text, or a function.

    A list that has run out and a text that the dict does not hold raise ConfigError with what was asked, so that an
    unforeseen call fails loudly. `latency_s` is waited on `clock` and reported. Usage is counted from the texts, money
    by `price` (dollars per million tokens).
    `requests`, `calls`, `in_flight`, `max_in_flight` and `closed` tell afterwards what happened.
    """

    def __init__(
        self,
        replies: Sequence[Reply] | Mapping[str, Reply] | Callable[[Request], Reply],
        *,
        price: Price = FREE,
        latency_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self._replies, self._price = replies, price
        self._latency_s, self._clock = latency_s, clock or SystemClock()
        self.requests: list[Request] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.closed = False

    @property
    def calls(self) -> int:
        """Attempts so far."""
        return len(self.requests)

    async def complete(self, request: Request) -> Response:
        """The next reply."""
        reply = self._reply(request)
        self.requests.append(request)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            if self._latency_s:
                await self._clock.sleep(self._latency_s)
        finally:
            self.in_flight -= 1
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, Response):
            return reply
        return billed(reply, prompt_tokens(request.messages), request, self._price, self._latency_s)

    async def close(self) -> None:
        """Sets `closed`."""
        self.closed = True

    def worst_case(self, request: Request) -> Spend:
        """See `Provider.worst_case`."""
        return worst_case(request, self._price)

    def count_tokens(self, text: str) -> int:
        """About 4 bytes a token."""
        return estimate(text)

    def _reply(self, request: Request) -> Reply:
        if callable(self._replies):
            return self._replies(request)
        asked = request.messages[-1].content
        if isinstance(self._replies, Mapping):
            if asked not in self._replies:
                raise ConfigError(f"no reply is scripted for {asked[:200]!r}")
            return self._replies[asked]
        if self.calls >= len(self._replies):
            raise ConfigError(
                f"all {len(self._replies)} scripted replies are used up, and one more was asked for: {asked[:200]!r}"
            )
        return self._replies[self.calls]
