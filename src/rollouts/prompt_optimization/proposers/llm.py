"""Instructions written by a model, grounded in the data, the program, demonstrations, tips and what was tried.

Follows MIPRO's grounded proposal (Opsahl-Ong et al., arXiv 2406.11695, section 4.1) and adds the scores of what was
tried (as in OPRO, arXiv 2309.03409). Proposals of a round are asked for in parallel; each is told a different tip.
"""

from __future__ import annotations

import asyncio

from rollouts.dtypes import Endpoint, Message
from rollouts.prompt_optimization.proposers.base import Proposal, ProposalContext
from rollouts.prompt_optimization.proposers.lost import Tell, nobody
from rollouts.prompt_optimization.proposers.writing import (
    WHAT,
    Generate,
    Writer,
    form_of,
    rules_of,
    task_parts,
    text_now,
)

TIPS = (
    "Say precisely what the answer must look like.",
    "Be brief: a few short sentences, nothing that is not needed.",
    "Describe, in your own words, how to tell apart the answers that are easily confused.",
    "Give the model a fitting role, and say what depends on getting it right.",
    "Give a short procedure in numbered steps.",
    "State what to do with unclear or unusual inputs.",
    "Explain the task to somebody who has never seen it, plainly and completely.",
    "Name the usual mistakes, and how to avoid them.",
)

_EXAMPLES = 5


class LLMProposer:
    """Asks `endpoint` for one instruction per call, at its own temperature of at least 0.7.

    `max_tokens` bounds an answer (default: at least 512). A refused proposal goes back once with the reason. A call
    that fails costs its proposal, not the run, unless every other call would fail, too (`errors.FATAL`). `tell` hears
    what became of every proposal.
    """

    def __init__(
        self,
        generate: Generate,
        endpoint: Endpoint,
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        tell: Tell = nobody,
    ) -> None:
        self._writer = Writer(generate, endpoint, least_tokens=512, max_tokens=max_tokens, tell=tell)
        self._seed = seed

    async def propose(self, context: ProposalContext, count: int) -> list[Proposal]:
        return [p for p in await asyncio.gather(*(self._one(context, i) for i in range(count))) if p is not None]

    async def _one(self, context: ProposalContext, index: int) -> Proposal | None:
        tip = TIPS[(index + self._seed) % len(TIPS)]
        number = 1000 * context.round + index
        written = await self._writer.write(_messages(context, tip), context.check, number=number)
        return None if written.lost is not None else Proposal(text=written.text, source="llm", tip=tip)


def _messages(context: ProposalContext, tip: str) -> tuple[Message, ...]:
    """What all proposals of a round share comes first; the tip comes last."""
    parts = [f"You improve the {WHAT[context.part]} of a program that calls a language model.", *task_parts(context)]
    shown = [f"Input: {e.input}\nRight answer: {e.output}" for e in context.examples[:_EXAMPLES]]
    if shown:
        parts.append("Some examples:\n" + "\n\n".join(shown))
    parts.append(text_now(context))
    if context.tried:
        lines = [f"- {entry.score:.0%} ({entry.n} samples): {entry.text}" for entry in context.tried[:8]]
        parts.append("Tried so far, best first, with the share of right answers:\n" + "\n".join(lines))
        parts.append("Write one that is better than all of these, and not a mere rewording.")
    parts.append(rules_of(context, "do not copy the examples into it"))
    return (Message("system", "\n\n".join(parts)), Message("user", f"Advice: {tip}\n{form_of(context)}"))
