"""Texts by rule, read off the data: label list, output format, length. Needs no model and costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollouts.dtypes import placeholders
from rollouts.prompt_optimization.proposers.base import Proposal, ProposalContext

_MAX_LABELS = 80


class RuleProposer:
    """Additions to the starting text, singly and together, the most useful first."""

    async def propose(self, context: ProposalContext, count: int) -> list[Proposal]:
        out: list[Proposal] = []
        if context.round:
            return out
        seen: set[str] = set()
        for text in _variants(context):
            if len(out) >= count:
                break
            if text not in seen and context.check(text) is None:
                seen.add(text)
                out.append(Proposal(text=text, source="rules"))
        return out


def _variants(context: ProposalContext) -> Iterator[str]:
    return _of_system(context) if context.part == "system" else _of_user_template(context)


def _of_user_template(context: ProposalContext) -> Iterator[str]:
    """The same fields set apart differently, with the labels or the place of the answer shown."""
    base = context.text.strip()
    tagged = "\n".join(f"<{name}>\n{{{name}}}\n</{name}>" for name in sorted(placeholders(base)))
    labels = sorted(context.summary.labels or ())
    named = f"Possible answers:{listed(labels)}" if labels and len(labels) <= _MAX_LABELS else ""
    for body in (base, tagged):
        for text in (_join(named, body), body, _join(body, "Answer:"), _join(named, body, "Answer:")):
            if text != base:
                yield text


def _of_system(context: ProposalContext) -> Iterator[str]:
    base = context.text.strip()
    parts = list(_additions(context))
    if not parts:
        return
    yield _join(base, *parts)
    for part in parts:
        yield _join(base, part)
    for part in parts[1:]:
        yield _join(base, parts[0], part)
    yield _join(*reversed(parts), base)
    if not context.frozen_spans and "{" not in base:
        yield _join(*parts)


def _additions(context: ProposalContext) -> Iterator[str]:
    """What the answers of the data set show that the instruction may leave unsaid."""
    summary = context.summary
    labels = sorted(summary.labels or ())
    if labels and len(labels) <= _MAX_LABELS:
        yield f"Answer with exactly one of these:{listed(labels, end='.')}"
        yield "Reply with the answer only: no explanation, no punctuation, no other words."
        words = {len(label.replace("_", " ").split()) for label in labels}
        if any("_" in label for label in labels):
            lower = all(label == label.lower() for label in labels)
            yield f"Write it exactly as given, {'in lower case ' if lower else ''}with underscores."
        elif words == {1}:
            yield "Use a single word."
    elif summary.answers == "number":
        yield "Think step by step, then end with the final number on its own line."
        yield "End with the answer as a plain number, without units or other words after it."
    elif summary.answers == "json":
        yield "Answer with one valid JSON object and nothing else: no code fence, no comment."
    else:
        yield "Answer in the style and at the length of the examples."
        yield "Give the answer only, without introduction."


def listed(labels: Sequence[str], end: str = "") -> str:
    """Labels in a line, or one on each line where a comma is part of one."""
    if any("," in label for label in labels):
        return "".join(f"\n- {label}" for label in labels)
    return f" {', '.join(labels)}{end}"


def _join(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
