"""The one seam to a model: a client answers requests.

Providers implement it; wrappers (cache, retry, rate limit, budget) implement it around another client. The order of
the wrappers is written once, in `rollouts.llm.connect`.
"""

from __future__ import annotations

from typing import Protocol

from rollouts.budget import Spend
from rollouts.dtypes import Request, Response


class Client(Protocol):
    """Answers requests."""

    async def complete(self, request: Request) -> Response:
        """One answer, or one of the `ProviderError`s (from wrappers also `BudgetExhausted`).

        A provider sends exactly one attempt. It must stop and free the connection when cancelled.
        """
        ...

    async def close(self) -> None:
        """Frees connections and models; the client is not used after it."""
        ...


class Provider(Client, Protocol):
    """A client that talks to a model itself, and so knows what a request may take at most."""

    def worst_case(self, request: Request) -> Spend:
        """An upper bound of tokens and micro-dollars of one attempt, `calls=1`. Never less than what is billed."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`: exact where the tokenizer is known, else an estimate (about 4 bytes a token)."""
        ...
