"""The plot of the comparison as one SVG, without a browser: accuracy against calls, tokens and model seconds, a row of
panels for each task. A method's caps are joined by a line; bars are the intervals of the table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.mipro_comparison.runs import Group, calls, model_seconds, tasks_of, tokens

_RESOURCES = {"task calls": calls, "tokens": tokens, "model seconds": model_seconds}
_COLOURS = (
    "#3b82f6",
    "#f59e0b",
    "#10b981",
    "#ec4899",
    "#8b5cf6",
    "#0891b2",
    "#65a30d",
    "#ef4444",
    "#475569",
    "#a16207",
)
_WIDTH, _HEIGHT, _LEFT, _TOP = 300, 200, 56, 44
_ENTRY = 210
_FONT = 'font-family="sans-serif" font-size="11" fill="#334155"'


def svg(groups: Sequence[Group]) -> str:
    """One picture of all tasks; groups of which every run failed are left out."""
    groups = [group for group in groups if group.scored]
    tasks, labels = tasks_of(groups), sorted({group.label for group in groups})
    colours = {label: _COLOURS[place % len(_COLOURS)] for place, label in enumerate(labels)}
    columns = len(_RESOURCES)
    width = _LEFT + columns * _WIDTH
    legend_rows = -(-len(labels) // max(1, width // _ENTRY))
    height = _TOP + len(tasks) * _HEIGHT + 20 * legend_rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for row, task in enumerate(tasks):
        mine = [group for group in groups if group.task == task]
        for column, resource in enumerate(_RESOURCES):
            x, y = _LEFT + column * _WIDTH, _TOP + row * _HEIGHT
            title = f"{task}: accuracy (%) against {resource}"
            parts += [f'<g transform="translate({x},{y})">', _text(0, -10, title, weight="bold")]
            parts += [*_panel(mine, resource, colours), "</g>"]
    parts += _legend(colours, height - 20 * legend_rows, width)
    return "\n".join([*parts, "</svg>\n"])


def page(drawn: str, tables: str) -> str:
    """The plot and the tables as one page, which needs nothing else."""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>MIPRO comparison</title>"
        "<style>body{max-width:75rem;margin:2rem auto;font-family:sans-serif}pre{overflow-x:auto}</style>"
        f"<h1>MIPRO comparison</h1>\n{drawn}<pre>{escape(tables)}</pre></html>\n"
    )


def _panel(groups: Sequence[Group], resource: str, colours: dict[str, str]) -> Iterator[str]:
    wide, high, figure = _WIDTH - 70, _HEIGHT - 60, _RESOURCES[resource]
    across = _steps(max(group.mean(figure) for group in groups))
    up = _steps(max(100 * group.accuracy().high for group in groups))
    yield f'<path d="M0 0V{high}H{wide}" fill="none" stroke="#64748b"/>'
    for tick in across:
        x = wide * tick / across[-1]
        yield f'<path d="M{x:.1f} {high}v4" stroke="#64748b"/>' + _text(x, high + 16, _short(tick), anchor="middle")
    for tick in up:
        y = high * (1 - tick / up[-1])
        yield f'<path d="M0 {y:.1f}H{wide}" stroke="#e2e8f0"/>' + _text(-6, y + 4, _short(tick), anchor="end")
    for label, colour in colours.items():
        line = sorted((group for group in groups if group.label == label), key=lambda group: group.mean(figure))
        places = []
        for group in line:
            found = group.accuracy()
            x = wide * group.mean(figure) / across[-1]
            y, low, top = (high * (1 - 100 * end / up[-1]) for end in (found.mean, found.low, found.high))
            places.append(f"{x:.1f} {y:.1f}")
            told = f"{label}: {100 * found.mean:.1f} % with {group.mean(figure):,.0f} {resource}"
            yield (
                f'<g fill="{colour}" stroke="{colour}"><title>{escape(told)}</title>'
                f'<path d="M{x:.1f} {low:.1f}V{top:.1f}" opacity="0.5"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/></g>'
            )
        if len(places) > 1:
            yield f'<path d="M{" L".join(places)}" fill="none" stroke="{colour}"/>'


def _legend(colours: dict[str, str], top: int, width: int) -> Iterator[str]:
    a_row = max(1, width // _ENTRY)
    for place, (label, colour) in enumerate(colours.items()):
        x, y = 12 + place % a_row * _ENTRY, top + place // a_row * 20
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>' + _text(x + 9, y + 4, label)


def _steps(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`, four or five of them."""
    if not most > 0:
        return [0.0, 1.0]
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough)
    return [step * place for place in range(math.ceil(most / step - 1e-9) + 1)]


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
