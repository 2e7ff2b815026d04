"""Instructions written by a model, grounded in the data, the program, demonstrations, tips and what was tried.

Follows MIPRO's grounded proposal (Opsahl-Ong et al., arXiv 2406.11695, section 4.1) and adds the scores of what was
tried (as in OPRO, arXiv 2309.03409). Proposals of a round are asked for in parallel; each is told a different tip.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from rollouts.datasets import DatasetSummary
from rollouts.dtypes import Endpoint, Message, Request, Response
from rollouts.errors import BudgetExhausted, ProviderError
from rollouts.prompt_optimization.proposers.base import Proposal, ProposalContext

Generate = Callable[[Request], Awaitable[Response]]

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

_TAGGED = re.compile(r"<instruction>\s*(.*?)\s*(?:</instruction>|$)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_WHAT = {"system": "instruction (system prompt)", "user_template": "template of the user message"}
_SHORT = {"system": "instruction", "user_template": "template"}
_EXAMPLES = 5
_LABELS = 60
_KINDS = {"number": "the right answer is a number", "json": "the right answer is JSON", "text": "the answer is text"}


class LLMProposer:
    """Asks `endpoint` for one instruction per call, at its own temperature of at least 0.7.

    `max_tokens` bounds an answer (default: at least 512). A refused proposal goes back once with the reason. A call
    that fails costs its proposal, not the run.
    """

    def __init__(self, generate: Generate, endpoint: Endpoint, *, seed: int = 0, max_tokens: int | None = None) -> None:
        sampling = endpoint.sampling
        self._generate = generate
        self._endpoint = endpoint.with_sampling(
            temperature=max(sampling.temperature, 0.7),
            max_tokens=max(sampling.max_tokens, 512) if max_tokens is None else max_tokens,
            stop=("</instruction>",),
        )
        self._seed = seed

    async def propose(self, context: ProposalContext, count: int) -> list[Proposal]:
        return [p for p in await asyncio.gather(*(self._one(context, i) for i in range(count))) if p is not None]

    async def _one(self, context: ProposalContext, index: int) -> Proposal | None:
        tip = TIPS[(index + self._seed) % len(TIPS)]
        request = Request(
            endpoint=self._endpoint,
            messages=_messages(context, tip),
            repeat=1000 * context.round + index,
            phase="propose",
        )
        try:
            text = extract_instruction((await self._generate(request)).text)
            reason = context.check(text)
            if reason is not None:
                again = Message("user", f"This cannot be used: {reason}. Write it again, mending only that.")
                messages = (*request.messages, Message("assistant", f"<instruction>{text}</instruction>"), again)
                text = extract_instruction((await self._generate(replace(request, messages=messages))).text)
                reason = context.check(text)
        except (ProviderError, BudgetExhausted):
            return None
        return None if reason is not None else Proposal(text=text, source="llm", tip=tip)


def extract_instruction(reply: str) -> str:
    """The text between the tags, or the whole reply without fence and quotes."""
    tagged = _TAGGED.search(reply)
    text = (tagged.group(1) if tagged else reply).strip()
    fenced = _FENCED.match(text)
    if fenced:
        text = fenced.group(1).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def summary_text(summary: DatasetSummary) -> str:
    """A data set in a few words, for a prompt."""
    parts = [f"{summary.n} rows with {', '.join(summary.columns)}; inputs of about {summary.lengths.median} characters"]
    if summary.labels:
        shown = sorted(summary.labels)[:_LABELS]
        more = f" and {len(summary.labels) - _LABELS} more" if len(summary.labels) > _LABELS else ""
        parts.append(f"the right answer is one of {', '.join(shown)}{more}")
    elif summary.answers in _KINDS:
        parts.append(_KINDS[summary.answers])
    return "; ".join(parts) + "."


def _messages(context: ProposalContext, tip: str) -> tuple[Message, ...]:
    """What all proposals of a round share comes first; the tip comes last."""
    what = _WHAT[context.part]
    parts = [f"You improve the {what} of a program that calls a language model."]
    if context.description:
        parts.append(f"What the program is for: {context.description}")
    if context.others:
        others = "\n".join(f"- {name}: {system}" for name, system in context.others.items())
        parts.append(f"The program has several steps; yours is {context.module!r}. The others:\n{others}")
    parts.append(f"The data it works on: {summary_text(context.summary)}")
    if context.part == "system":
        parts.append("The user message is made from this template:\n" + context.template.user_template)
    else:
        parts.append("The instruction that goes with it:\n" + context.template.system)
    shown = [f"Input: {e.input}\nRight answer: {e.output}" for e in context.examples[:_EXAMPLES]]
    if shown:
        parts.append("Some examples:\n" + "\n\n".join(shown))
    parts.append(f"The {what} now:\n<instruction>" + context.text + "</instruction>")
    if context.tried:
        lines = [f"- {entry.score:.0%} ({entry.n} samples): {entry.text}" for entry in context.tried[:8]]
        parts.append("Tried so far, best first, with the share of right answers:\n" + "\n".join(lines))
        parts.append("Write one that is better than all of these, and not a mere rewording.")
    rules = [f"at most {context.max_tokens} tokens", "do not copy the examples into it"]
    if "{" in context.text:
        rules.append("keep every {placeholder} exactly as it stands")
    rules += [f"keep this word for word: {span!r}" for span in context.frozen_spans if span in context.text]
    parts.append("Rules: " + "; ".join(rules) + ".")
    new = _SHORT[context.part]
    ask = f"Advice: {tip}\nWrite the new {new} between <instruction> and </instruction>, and nothing else."
    return (Message("system", "\n\n".join(parts)), Message("user", ask))
