"""What the methods made of the prompts, as diffs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rollouts.dtypes import PromptTemplate
from rollouts.experiments.export import PromptDiff, prompt_diff
from rollouts.experiments.sweep.methods import START
from rollouts.experiments.sweep.records import RunRecord

_SHOWN = 4
_CLASSES = {"+": "plus", "-": "minus"}


def prompt_changes(records: Sequence[RunRecord]) -> str:
    """Of each method and budget the run that was best on validation rows: choosing by test rows would flatter it."""
    best: dict[tuple[str, str], RunRecord] = {}
    for record in records:
        if record.algorithm == START or not record.prompts:
            continue
        known = best.get((record.method, record.budget))
        if known is None or _validated(record) > _validated(known):
            best[record.method, record.budget] = record
    if not best:
        return ""
    shown = "".join(map(_run, best.values()))
    return (
        '<h2>Prompts</h2><div class="card"><p class="caption">The start against what was found, for the seed with the '
        f"best validation score of each method.</p>{shown}</div>"
    )


def _validated(record: RunRecord) -> float:
    score = record.validation.get("best")
    return float("-inf") if score is None else score


def _run(record: RunRecord) -> str:
    start, found = record.prompts["start"], record.prompts["best"]
    modules = "".join(
        _module(name, PromptTemplate.from_json(start[name]), PromptTemplate.from_json(template))
        for name, template in found.items()
    )
    score = "" if record.mean is None else f", test score {record.mean:.3f}"
    budget = f" · {record.budget}" if record.budget else ""
    told = f'<span class="muted">{escape(budget)} · seed {record.seed}{score}</span>'
    return f"<details><summary>{escape(record.method)} {told}</summary>{modules}</details>"


def _module(name: str, before: PromptTemplate, after: PromptTemplate) -> str:
    diff = prompt_diff(before, after)
    if diff.same:
        return f'<p><b>{escape(name)}</b> <span class="muted">unchanged</span></p>'
    parts = [f"<p><b>{escape(name)}</b></p>"]
    parts += [f"<pre>{_lines(lines)}</pre>" for lines in (diff.instruction, diff.user) if lines]
    return "".join([*parts, _demos(diff, after)])


def _lines(lines: Sequence[str]) -> str:
    shown = [line for line in lines if not line.startswith("@@")]
    return "".join(f'<span class="{_CLASSES.get(line[:1], "")}">{escape(line)}</span>' for line in shown)


def _demos(diff: PromptDiff, after: PromptTemplate) -> str:
    if not (diff.demos_before or diff.demos_after):
        return ""
    text = f"Demonstrations: {diff.demos_before} before, {diff.demos_after} after"
    demos = after.few_shot_examples
    shown = "".join(f"<span>{escape(demo.input)} → {escape(demo.output)}</span>" for demo in demos[:_SHOWN])
    more = f"<span>… and {len(demos) - _SHOWN} more</span>" if len(demos) > _SHOWN else ""
    return f'<p class="caption">{text}</p>' + (f"<pre>{shown}{more}</pre>" if demos else "")
