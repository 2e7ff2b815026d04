"""A result as HTML, which a notebook shows by itself: verdict, scores, the search as a curve, and the prompt.

No script and no style sheet: notebooks strip both, and colours have to fit light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Protocol

from rollouts.budget import Spend
from rollouts.dtypes import Program, PromptTemplate
from rollouts.stats import Interval, Verdict

_WIDTH, _HEIGHT, _EDGE = 480, 120, 8
_NO_MATHS = "tex2jax_ignore mathjax_ignore"
"""Two dollar signs in a text would make a formula of what is between them."""


class _Scored(Protocol):
    @property
    def score(self) -> float | None: ...
    @property
    def n(self) -> int: ...


class _Trial(Protocol):
    @property
    def generation(self) -> int: ...
    @property
    def best_score(self) -> float: ...


class Shown(Protocol):
    """What of an `OptimizationResult` is shown."""

    @property
    def initial(self) -> _Scored: ...
    @property
    def best(self) -> _Scored: ...
    @property
    def best_program(self) -> Program: ...
    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def history(self) -> Sequence[_Trial]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def spend(self) -> Spend: ...
    @property
    def stop_reason(self) -> str: ...


def result_html(result: Shown) -> str:
    """The result in a few blocks of HTML. Texts of prompts and reasons are escaped."""
    blocks = [_head(result), _table(result), _curve(result), _prompts(result), _end(result)]
    return f'<div class="{_NO_MATHS}">{"".join(blocks)}</div>'


def _head(result: Shown) -> str:
    verdict = result.verdict
    if verdict is None:
        return ""
    return f"<p><b>{escape(verdict.decision)}</b>: {escape(verdict.reason)}</p>"


def _table(result: Shown) -> str:
    verdict = result.verdict
    tested = (None, None) if verdict is None else (verdict.baseline, verdict.best)
    rows = [
        (name, _validation(entry), _interval(interval))
        for name, entry, interval in zip(("start", "best"), (result.initial, result.best), tested, strict=True)
    ]
    if verdict is not None and verdict.difference.n:
        rows.append(("difference", "", _interval(verdict.difference, signed=True)))
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr><th></th><th>validation</th><th>test</th></tr>{cells}</table>"


def _validation(entry: _Scored) -> str:
    return "not run" if entry.score is None else f"{entry.score:.3f} on {entry.n} rows"


def _interval(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None or not interval.n:
        return "not run"
    sign = "+" if signed else ""
    low, mean, high = (f"{value:{sign}.3f}" for value in (interval.low, interval.mean, interval.high))
    return f"{mean} ({low} to {high}) on {interval.n} rows"


def _curve(result: Shown) -> str:
    """The estimate of the best candidate after every trial; nothing where there is no way to be seen."""
    found = [(entry.generation, entry.best_score) for entry in result.history if math.isfinite(entry.best_score)]
    if len(found) < 2:
        return ""
    (first, last), (low, high) = _ends([x for x, _ in found]), _ends([y for _, y in found])
    points = " ".join(
        f"{_EDGE + (x - first) / (last - first) * (_WIDTH - 2 * _EDGE):.1f},"
        f"{_HEIGHT - _EDGE - (y - low) / (high - low) * (_HEIGHT - 2 * _EDGE):.1f}"
        for x, y in found
    )
    said = f"best estimate by trial, {found[0][1]:.3f} to {found[-1][1]:.3f} in {found[-1][0]} trials"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{said}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2"/></svg><p>{said}</p>'
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest, apart from each other."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _prompts(result: Shown) -> str:
    modules = result.best_program.modules
    return "".join(_prompt("" if len(modules) == 1 else name, template) for name, template in modules.items())


def _prompt(name: str, template: PromptTemplate) -> str:
    asked = [*(f"{demo.input}\n{demo.output}" for demo in template.few_shot_examples), template.user_template]
    shown = escape("\n\n".join(asked))
    count = len(template.few_shot_examples)
    title = f"{escape(name)}: " if name else ""
    return (
        f'<p>{title}best prompt</p><pre style="white-space: pre-wrap">{escape(template.system)}</pre>'
        f'<details><summary>{count} demonstrations, and what is asked</summary><pre style="white-space: pre-wrap">'
        f"{shown}</pre></details>"
    )


def _end(result: Shown) -> str:
    spend = result.spend
    paid = f"{spend.rollouts:,} rollouts, {spend.calls:,} calls, {spend.tokens:,} tokens, ${spend.micros / 1e6:.4f}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return f"<p>{paid}. {escape(result.stop_reason)}</p>" + (f"<ul>{notes}</ul>" if notes else "")
