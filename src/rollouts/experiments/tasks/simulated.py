"""Simulated models for programs of several modules: every module has a difficulty and helpful phrases of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from rollouts.budget import Spend
from rollouts.dtypes import Message, Price, Request, Response
from rollouts.testing import SimulatedLLM, SimulatedTask

PRICE = Price(input=Decimal("0.1"), output=Decimal("0.4"))
"""Dollars per million tokens, so that budgets of money have something to count."""
_YOURS = re.compile(r"yours is '([^']+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModule:
    """How one module is simulated: by the law of `task`, on labels.

    Where its answers are made from a label and what the module was given, `to_label` takes the label out of an answer,
    and `to_answer` makes the answer from label and user message.
    """

    task: SimulatedTask
    to_label: Callable[[str], str] | None = None
    to_answer: Callable[[str, str], str] = lambda label, asked: label


class SimulatedProgram:
    """A `Provider` for all modules of a program; see `SimulatedLLM`.

    A request for a text says which module it is for in the words of the proposers; where there is but one, it does not.
    """

    def __init__(self, modules: Mapping[str, SimulatedModule], *, seed: int = 0) -> None:
        self.modules = modules
        self._models = {name: SimulatedLLM(m.task, seed=seed, price=PRICE) for name, m in modules.items()}

    async def complete(self, request: Request) -> Response:
        """The answer of the module that the request comes from or asks about."""
        name = self._name(request)
        response = await self._models[name].complete(self._labelled(request))
        module = self.modules[name]
        if response.text not in module.task.labels:
            return response
        return replace(response, text=module.to_answer(response.text, request.messages[-1].content))

    async def close(self) -> None:
        """Nothing to free."""

    def worst_case(self, request: Request) -> Spend:
        """See `Provider.worst_case`."""
        return self._models[self._name(request)].worst_case(self._labelled(request))

    def count_tokens(self, text: str) -> int:
        """About 4 bytes a token."""
        return next(iter(self._models.values())).count_tokens(text)

    def chance(self, request: Request) -> float:
        """The probability that the module's answer is right for what it was given, over seeds."""
        return self._models[self._name(request)].chance(self._labelled(request))

    def _name(self, request: Request) -> str:
        if request.module in self.modules:
            return request.module
        found = _YOURS.search(request.messages[0].content)
        return found[1] if found and found[1] in self.modules else next(iter(self.modules))

    def _labelled(self, request: Request) -> Request:
        """The request with labels for the answers of its demonstrations."""
        to_label = self.modules[self._name(request)].to_label
        if to_label is None or request.phase.startswith("propose"):
            return request
        return replace(request, messages=tuple(_with_label(message, to_label) for message in request.messages))


@lru_cache(maxsize=4096)
def _with_label(message: Message, to_label: Callable[[str], str]) -> Message:
    # The same object each time: `SimulatedLLM` knows a prompt by the identity of its messages.
    return replace(message, content=to_label(message.content)) if message.role == "assistant" else message
