"""Rewrites of a text by a model that reads what happened: trajectories, scores, feedback, and what was rejected.

Reflective mutation (Agrawal et al., arXiv 2507.19457, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rollouts.dtypes import Endpoint, Evaluation, Message, PromptTemplate, Sample, Trace, fill, named_text, value_text
from rollouts.prompt_optimization.proposers.base import Check, ProposalContext
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

_MAX_TEXT = 1500
_MAX_REJECTED = 6
_UNMARKED = "the answer of the reflecting model had no <instruction> tags and was taken as a whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of the module on a training sample: what it was given, what it said, and what that was worth."""

    given: str
    said: str
    score: float | None
    feedback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A rewrite that was not taken, and why."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """What a rewrite is grounded in. `context` describes task and text; its `text` is the one to improve.

    `number` is different for every rewrite of a run.
    """

    context: ProposalContext
    records: Sequence[Record]
    rejected: Sequence[Rejected]
    check: Check
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """What a reflector came up with: a text, or the reason why there is none; `refused` is the one that was refused.

    `remark` says what was odd about the answer that the text was taken from.
    """

    text: str | None
    reason: str = ""
    refused: str = ""
    remark: str = ""


class Reflector(Protocol):
    """A source of rewrites."""

    async def reflect(self, reflection: Reflection) -> Rewrite:
        """A new text that passes `reflection.check`, or why there is none. Never raises for one bad answer, only what
        ends the run (`errors.FATAL`)."""
        ...


class LLMReflector:
    """Asks `endpoint`, at its own temperature of at least 0.7; a refused text goes back once with the reason. An answer
    without tags is taken as a whole, and the rewrite's `remark` says so.

    `max_tokens` bounds an answer (default: at least 1,024, which is about four times the usual instruction). `tell`
    hears what became of every answer.
    """

    def __init__(
        self, generate: Generate, endpoint: Endpoint, *, max_tokens: int | None = None, tell: Tell = nobody
    ) -> None:
        self._writer = Writer(generate, endpoint, least_tokens=1024, max_tokens=max_tokens, tell=tell)

    async def reflect(self, reflection: Reflection) -> Rewrite:
        written = await self._writer.write(_messages(reflection), reflection.check, number=reflection.number)
        if written.lost is not None:
            reason = f"the reflecting model gave no answer that can be used: {written.lost}"
            return Rewrite(text=None, reason=reason, refused=written.text)
        return Rewrite(text=written.text, remark="" if _marked(written.reply) else _UNMARKED)


def _marked(reply: str) -> bool:
    return "<instruction>" in reply.lower() or reply.strip().startswith("```")


def records_of(
    template: PromptTemplate, module: str, runs: Sequence[tuple[Sample, Evaluation, Sequence[Trace]]]
) -> list[Record]:
    """The runs of `module` in these rollouts. A rollout that failed before the module ended has its error to show."""
    out: list[Record] = []
    for sample, evaluation, traces in runs:
        mine = [trace for trace in traces if trace.module == module]
        feedback = feedback_of(sample, evaluation, module)
        for trace in mine:
            out.append(
                Record(
                    given=_cut(fill(template.user_template, trace.values)),
                    said=_cut(_steps(trace)),
                    score=evaluation.value,
                    feedback=feedback,
                )
            )
        if not mine:
            out.append(
                Record(given=_cut(named_text(sample.inputs)), said="", score=evaluation.value, feedback=feedback)
            )
    return out


def feedback_of(sample: Sample, evaluation: Evaluation, module: str) -> str:
    """What the metric said; else what can be said without it: the error, or the right answer."""
    if evaluation.failure is not None:
        return f"The run failed: {evaluation.failure.message}"
    score = evaluation.score
    if score is None:
        return ""
    parts = [score.feedback] if score.feedback else []
    if module in score.modules:
        parts.append(f"This step was scored {score.modules[module]:g}.")
    if not parts and sample.ground_truth is not None:
        parts.append(f"The right answer is: {value_text(sample.ground_truth)}")
    return " ".join(parts)


def _steps(trace: Trace) -> str:
    lines = []
    for message in trace.steps:
        for call in message.tool_calls:
            lines.append(f"[calls {call.name} with {call.arguments}]")
        if message.role == "tool":
            lines.append(f"[tool result: {message.content}]")
        elif message.content:
            lines.append(message.content)
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} [... {len(text) - _MAX_TEXT} more characters]"


def _messages(reflection: Reflection) -> tuple[Message, ...]:
    context = reflection.context
    what = WHAT[context.part]
    parts = [
        f"You improve the {what} of a program that calls a language model, by reading what happened when it ran.",
        *task_parts(context),
        text_now(context),
    ]
    parts.append("What happened with it:\n\n" + "\n\n".join(map(_shown, reflection.records)))
    if reflection.rejected:
        lines = [f"- {entry.reason}: {_cut(entry.text)}" for entry in reflection.rejected[-_MAX_REJECTED:]]
        parts.append("Rewrites that were tried and rejected:\n" + "\n".join(lines))
    return (Message("system", "\n\n".join(parts)), Message("user", _ask(context)))


def _shown(record: Record) -> str:
    score = "none" if record.score is None else f"{record.score:g}"
    said = record.said or "(nothing)"
    return f"Input: {record.given}\nAnswer: {said}\nScore: {score}\nFeedback: {record.feedback or 'none'}"


def _ask(context: ProposalContext) -> str:
    copying = "state what is true of all such inputs: do not copy the examples above into it or name their answers"
    return (
        "Find out what went wrong and what the text should have said. Keep what works, add what is missing: facts "
        "about the task, rules for telling cases apart, the form of the answer.\n"
        f"{rules_of(context, copying)}\n{form_of(context)}"
    )
