"""A latency cap on single attempts."""

from __future__ import annotations

from dataclasses import replace

from rollouts.budget import Spend
from rollouts.dtypes import Request, Response
from rollouts.errors import CallTimeout, LatencyCapExceeded
from rollouts.llm.client import Provider


class CappedProvider:
    """Cuts an attempt that outlives `Request.max_latency_s`, by the provider's own time limit.

    So a wait in the provider's queue does not count, and what is cut is not tried again. An answer that took longer all
    the same is not handed out either. Raises LatencyCapExceeded for both.
    """

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`."""
        cap, endpoint = request.max_latency_s, request.endpoint
        if cap is None:
            return await self._inner.complete(request)
        bites = cap <= endpoint.timeout_s
        if bites:
            request = replace(request, endpoint=replace(endpoint, timeout_s=cap))
        try:
            response = await self._inner.complete(request)
        except CallTimeout as error:
            if not bites:
                raise
            raise LatencyCapExceeded(f"the call was cut at its latency cap of {cap:g} s") from error
        if response.latency_s > cap:
            raise LatencyCapExceeded(f"the call took {response.latency_s:.3g} s, above its latency cap of {cap:g} s")
        return response

    async def close(self) -> None:
        """Closes `inner`."""
        await self._inner.close()

    def worst_case(self, request: Request) -> Spend:
        """See `Provider.worst_case`."""
        return self._inner.worst_case(request)

    def count_tokens(self, text: str) -> int:
        """See `Provider.count_tokens`."""
        return self._inner.count_tokens(text)
