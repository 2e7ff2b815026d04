"""What a proposer sees and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rollouts.datasets import DatasetSummary
from rollouts.dtypes import FewShotExample, PromptTemplate, TextPart, Tool

Check = Callable[[str], str | None]
"""Text -> why it is refused, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One text. `source` is `start`, `rules` or `llm`; `tip` is the advice that it followed, if any."""

    text: str
    source: str
    tip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A text with the best estimate of its score so far, and the number of scores behind it."""

    text: str
    score: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalContext:
    """What proposals are grounded in: `part` of `template` is rewritten. `tried` is sorted, best first; `round` counts
    from 0.

    `module` names the template in a program of several modules, and `others` holds the system texts of the rest.
    `tools` are those that the model may call.
    """

    template: PromptTemplate
    summary: DatasetSummary
    examples: Sequence[FewShotExample]
    check: Check
    description: str = ""
    frozen_spans: Sequence[str] = ()
    max_tokens: int = 600
    tried: Sequence[Tried] = ()
    round: int = 0
    part: TextPart = "system"
    module: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    tools: Sequence[Tool] = ()

    @property
    def text(self) -> str:
        """What is to be rewritten."""
        return self.template.system if self.part == "system" else self.template.user_template


class Proposer(Protocol):
    """A source of texts."""

    async def propose(self, context: ProposalContext, count: int) -> list[Proposal]:
        """Up to `count` proposals that pass `context.check`, in a fixed order. Never raises for one bad proposal, only
        what ends the run (`errors.FATAL`)."""
        ...
