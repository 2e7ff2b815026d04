"""What the fakes bill: estimated tokens, a few more around every message. Bounded by the rule of the real providers."""

from __future__ import annotations

from collections.abc import Iterable

from rollouts.budget import Spend
from rollouts.dtypes import Message, Price, Request, Response, Usage
from rollouts.llm.pricing import cost_micros
from rollouts.llm.tokens import estimate, upper_bound

MESSAGE_TOKENS = 4


def prompt_tokens(messages: Iterable[Message]) -> int:
    """Tokens billed for a prompt."""
    return sum(estimate(message.content) + MESSAGE_TOKENS for message in messages)


def billed(text: str, prompt: int, request: Request, price: Price, latency_s: float) -> Response:
    """The answer `text` to a prompt of `prompt` tokens, paid for and cut at the sampling's `max_tokens`."""
    limit, wanted = request.endpoint.sampling.max_tokens, max(1, estimate(text))
    usage = Usage(prompt_tokens=prompt, completion_tokens=min(wanted, limit))
    return Response(
        text=text if wanted <= limit else text[: 4 * limit],
        finish_reason="stop" if wanted <= limit else "length",
        usage=usage,
        cost_micros=cost_micros(price, usage),
        latency_s=latency_s,
    )


def worst_case(request: Request, price: Price) -> Spend:
    """An upper bound of what one attempt is billed."""
    return worst_spend(upper_bound(request), request, price)


def worst_spend(prompt: int, request: Request, price: Price) -> Spend:
    """One attempt with a prompt of at most `prompt` tokens."""
    usage = Usage(prompt_tokens=prompt, completion_tokens=request.endpoint.sampling.max_tokens)
    return Spend(micros=cost_micros(price, usage), tokens=usage.total_tokens, calls=1)
