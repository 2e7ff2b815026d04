"""Failed attempts again, after a wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from rollouts.dtypes import Request, Response
from rollouts.errors import ConfigError, ProviderError, RateLimited
from rollouts.llm.client import Client
from rollouts.llm.clock import Clock

OnRetry = Callable[[Request, ProviderError, int, float], None]
"""(request, error, number of the attempt that failed, seconds to wait) before each wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is sent again, and after how many seconds.

    Waits are drawn from [0, min(cap_s, base_s * 2^(n - 1))] after the n-th attempt ("full jitter", Brooker 2015, AWS
    Architecture Blog, "Exponential Backoff and Jitter"), and are never shorter than a Retry-After. A Retry-After above
    `max_retry_after_s`, or waits of more than `max_wait_s` in all, make the error final.
    `max_rate_limited` attempts instead of `max_attempts` are made while the endpoint only asks for fewer requests.
    """

    max_attempts: int = 5
    max_rate_limited: int = 12
    base_s: float = 0.5
    cap_s: float = 30.0
    max_wait_s: float = 600.0
    max_retry_after_s: float = 300.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_rate_limited < 1:
            raise ConfigError("max_attempts and max_rate_limited count the first attempt too: they are at least 1")
        if min(self.base_s, self.cap_s, self.max_wait_s, self.max_retry_after_s) < 0:
            raise ConfigError("base_s, cap_s, max_wait_s and max_retry_after_s are seconds: they are at least 0")

    @classmethod
    def fail_fast(cls) -> RetryPolicy:
        """One attempt, no waits."""
        return cls(max_attempts=1, max_rate_limited=1, max_retry_after_s=0.0)

    def backoff(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after attempt number `attempt` (from 1); `jitter` is uniform in [0, 1)."""
        return jitter * min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))


class RetryingClient:
    """Sends a request again while its errors are `retryable` and `policy` allows it; other errors pass through.

    An error that is given up on keeps its class, says why in its message, and is no longer `retryable`. Nothing is sent
    again once `stopped` says that the run is to end.
    """

    def __init__(
        self,
        inner: Client,
        policy: RetryPolicy,
        clock: Clock,
        *,
        rng: random.Random | None = None,
        on_retry: OnRetry | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._inner, self._policy, self._clock = inner, policy, clock
        self._rng, self._on_retry, self._stopped = rng or random.Random(), on_retry, stopped

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`."""
        attempt, refused, waited = 0, 0, 0.0
        while True:
            try:
                return await self._inner.complete(request)
            except ProviderError as error:
                if not error.retryable:
                    raise
                attempt += 1
                refused += isinstance(error, RateLimited)
                wait = self._wait(error, attempt, refused, waited)
                failure = error
            if self._on_retry is not None:
                self._on_retry(request, failure, attempt, wait)
            waited += wait
            await self._clock.sleep(wait)
            if self._stopped():
                final = _final(failure, "not sent again: the run is ending")
                final.run_ending = True
                raise final

    async def close(self) -> None:
        """Closes `inner`."""
        await self._inner.close()

    def _wait(self, error: ProviderError, attempt: int, refused: int, waited: float) -> float:
        policy = self._policy
        if attempt == 1 and policy.max_attempts == policy.max_rate_limited == 1:
            raise error
        if attempt - refused >= policy.max_attempts or attempt >= max(policy.max_rate_limited, policy.max_attempts):
            raise _final(error, f"given up after {attempt} attempts")
        asked = error.retry_after or 0.0
        if asked > policy.max_retry_after_s:
            raise _final(error, f"it asks to wait {asked:g} s, more than the {policy.max_retry_after_s:g} s allowed")
        wait = max(asked, policy.backoff(attempt, self._rng.random()))
        if waited + wait > policy.max_wait_s:
            raise _final(error, f"given up after {attempt} attempts and {waited:.0f} s of waiting")
        return wait


def _final(error: ProviderError, why: str) -> ProviderError:
    final = type(error)(f"{error} ({why})", status=error.status, retry_after=error.retry_after)
    final.retryable, final.billed = False, error.billed
    final.__cause__ = error
    return final
