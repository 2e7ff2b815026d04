"""The report's tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from rollouts.experiments.sweep.compare import MethodSummary, Table
from rollouts.experiments.sweep.records import RunRecord
from rollouts.experiments.sweep.report.parts import Palette
from rollouts.stats import Interval, MethodRow

_NONE = "–"
_TAGS = {"better": "better", "worse": "worse", "too few seeds": "few"}


def method_table(table: Table, palette: Palette) -> str:
    """The methods with their scores, how they compare, and what a run took."""
    rows = {} if table.against is None else {row.method: row for row in table.against.rows}
    heads = ("method", "test score", "difference", "effect", "p (Holm)", "runs", "rollouts", "tokens", "cost")
    lines = []
    for method in table.methods:
        dot = f'<span class="dot" style="background:{palette.colour(method.method)}"></span>'
        tag, *compared = _compared(rows.get(method.method))
        name = f"{dot}{escape(method.method)}<small>{tag}</small>"
        lines.append([name, _with_interval(method.score), *compared, *_took(method)])
    note = ""
    if table.against is not None:
        note = (
            f'<p class="caption">Differences are paired, against {escape(table.against.baseline)}, and p-values those '
            "of a paired permutation test, corrected by Holm. Intervals are of 95 % and for one comparison alone. "
            "Effect: the mean difference in standard deviations of the differences (Cohen's d, Hedges' correction). "
            "Rollouts, tokens and cost are those of a run, on average.</p>"
        )
    return _table(heads, lines) + note


def _took(method: MethodSummary) -> list[str]:
    spend = method.spend
    failed = f"<small>{method.failed} not done</small>" if method.failed else ""
    micros = spend.get("micros", 0)
    return [
        f"{method.score.n}{failed}",
        f"{spend.get('rollouts', 0):,.0f}",
        f"{spend.get('tokens', 0):,.0f}",
        f"${micros / 1e6:.4f}" if micros else "$0",
    ]


def _compared(row: MethodRow | None) -> list[str]:
    """The verdict as a tag, difference, effect and p-value."""
    if row is None:
        return ['<span class="tag">baseline</span>', _NONE, _NONE, _NONE]
    tag = f'<span class="tag {_TAGS.get(row.verdict, "")}">{escape(row.verdict)}</span>'
    return [tag, _with_interval(row.difference, signed=True), number(row.effect.mean, signed=True), f"{row.p_holm:.2g}"]


def _with_interval(found: Interval, *, signed: bool = False) -> str:
    return f"{number(found.mean, signed=signed)}<small>{interval(found.low, found.high, signed=signed)}</small>"


def run_table(records: Sequence[RunRecord]) -> str:
    """All runs."""
    heads = ("run", "status", "test score", "start", "rollouts", "tokens", "p95 latency", "seconds", "note")
    lines = [
        [
            escape(record.run),
            f'<span class="tag {record.status}">{record.status}</span>',
            number(record.mean),
            number((record.start or {}).get("mean")),
            f"{record.spend.get('rollouts', 0):,}",
            f"{record.spend.get('tokens', 0):,}",
            number((record.rollout.get("best") or {}).get("p95_s")),
            f"{record.elapsed_s:.1f}",
            escape(record.error or (record.verdict or {}).get("decision", "")),
        ]
        for record in records
    ]
    return _table(heads, lines)


def _table(heads: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: float | None, *, signed: bool = False) -> str:
    """Three digits; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(low: float, high: float, *, signed: bool = False) -> str:
    """Both ends; a dash where they are not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return _NONE
    return f"{number(low, signed=signed)} to {number(high, signed=signed)}"
