"""What a proposer sees and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rollouts.datasets import DatasetSummary
from rollouts.dtypes import FewShotExample, PromptTemplate

Check = Callable[[str], str | None]
"""Instruction -> why it is refused, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One instruction. `source` is `start`, `rules` or `llm`; `tip` is the advice that it followed, if any."""

    text: str
    source: str
    tip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An instruction with the best estimate of its score so far, and the number of scores behind it."""

    text: str
    score: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalContext:
    """What proposals are grounded in. `tried` is sorted, best first; `round` counts from 0."""

    template: PromptTemplate
    summary: DatasetSummary
    examples: Sequence[FewShotExample]
    check: Check
    description: str = ""
    frozen_spans: Sequence[str] = ()
    max_tokens: int = 600
    tried: Sequence[Tried] = ()
    round: int = 0


class Proposer(Protocol):
    """A source of instructions."""

    async def propose(self, context: ProposalContext, count: int) -> list[Proposal]:
        """Up to `count` proposals that pass `context.check`, in a fixed order. Never raises for one bad proposal."""
        ...
