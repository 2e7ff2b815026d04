"""The report's plots as plotly figures in plain JSON. Colours of text and grid come with the page, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rollouts.experiments.sweep.records import RunRecord
from rollouts.experiments.sweep.report.parts import AGENTS, GREY, Figure, Palette, by_method
from rollouts.prompt_optimization.pareto import front
from rollouts.stats import mean_interval

_POINTS = 120
_CAPS = {
    "max_rollouts": ("rollouts", "rollouts", 1.0),
    "max_cost_usd": ("micros", "dollars", 1e-6),
    "max_calls": ("calls", "model calls", 1.0),
    "max_tokens": ("tokens", "tokens", 1.0),
    "max_seconds": ("seconds", "seconds of model time", 1.0),
}


def progress(records: Sequence[RunRecord], palette: Palette, number: int) -> Figure | None:
    """Best-so-far against spend: the mean over seeds with the band of its middle half. None where no search has two
    points: there is no way to be seen."""
    searched = [record for record in records if record.convergence.get("best")]
    if not any(sum(value is not None for value in record.convergence["best"]) > 1 for record in searched):
        return None
    resource, unit, scale = _resource(searched)
    end = scale * max(amount or 0.0 for record in searched for amount in record.convergence[resource])
    grid = np.linspace(0, end or 1.0, _POINTS)
    data: list[dict[str, Any]] = []
    for method, mine in by_method(searched):
        steps = np.array([_steps(record, resource, scale, grid) for record in mine])
        told = np.isfinite(steps).sum(axis=0) * 2 >= len(mine)
        if not told.any():
            continue
        x, seen, colour = grid[told], steps[:, told], palette.colour(method)
        low, high = np.nanquantile(seen, [0.25, 0.75], axis=0)
        band = {
            "x": _list(x),
            "mode": "lines",
            "line": {"width": 0, "shape": "hv"},
            "legendgroup": method,
            "hoverinfo": "skip",
        }
        data.append({**band, "y": _list(low), "showlegend": False})
        data.append({**band, "y": _list(high), "showlegend": False, "fill": "tonexty", "fillcolor": _faint(colour)})
        data.append(
            {
                "x": _list(x),
                "y": _list(np.nanmean(seen, axis=0)),
                "name": method,
                "legendgroup": method,
                "mode": "lines" if len(x) > 1 else "lines+markers",  # a line through one point is not to be seen
                "line": {"color": colour, "width": 2.5, "shape": "hv"},
                "hovertemplate": f"{method}: %{{y:.3f}} at %{{x:,.4~g}} {unit}<extra></extra>",
            }
        )
    return Figure(
        id=f"progress-{number}",
        title="Best so far against spend",
        caption="Mean over seeds of the leader's score on validation rows, as the search itself estimates it; the band "
        "holds the middle half of the seeds. Test scores, which no search sees, are in the table.",
        data=data,
        layout={"xaxis": {"title": unit, "rangemode": "tozero"}, "yaxis": {"title": "validation score"}},
    )


def _resource(records: Sequence[RunRecord]) -> tuple[str, str, float]:
    caps = records[0].settings.get("budget", {})
    return next((found for cap, found in _CAPS.items() if cap in caps), _CAPS["max_rollouts"])


def _steps(record: RunRecord, resource: str, scale: float, grid: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The leader's estimate at each amount of the grid; NaN before the first."""
    spent = np.array(record.convergence[resource], dtype=float) * scale
    best = np.array([math.nan if value is None else value for value in record.convergence["best"]])
    place = np.searchsorted(spent, grid, side="right") - 1
    return np.where(place >= 0, best[np.maximum(place, 0)], math.nan)


def allocation(method: str, records: Sequence[RunRecord], number: int) -> Figure | None:
    """Where r-MIPRO's trials went: the share of each agent, round by round, over all seeds."""
    rounds: dict[int, dict[str, int]] = {}
    for record in records:
        for event in record.allocation:
            given = rounds.setdefault(event["round"], {})
            for name, module in event["modules"].items():
                given[name] = given.get(name, 0) + module["new"] + module["more"]
    if not rounds:
        return None
    agents = _agents(records)
    x = sorted(rounds)
    data = []
    for place, agent in enumerate(agents):
        trials = [rounds[k].get(agent, 0) for k in x]
        shares = [100 * mine / max(1, sum(rounds[k].values())) for mine, k in zip(trials, x, strict=True)]
        data.append(
            {
                "type": "bar",
                "x": x,
                "y": shares,
                "name": agent,
                "customdata": trials,
                "marker": {"color": AGENTS[place % len(AGENTS)]},
                "hovertemplate": f"{agent}: %{{y:.0f}} % (%{{customdata}} trials)<extra>round %{{x}}</extra>",
            }
        )
    layout = {
        "barmode": "stack",
        "bargap": 0,
        "xaxis": {"title": "round", "dtick": max(1, len(x) // 8)},
        "yaxis": {"title": "share of trials", "ticksuffix": " %", "range": [0, 100]},
    }
    caption = f"Trials that {method} gave to each agent in each round, {_counted(len(records), 'seed')} together."
    return Figure(
        id=f"allocation-{number}", title=f"Allocation: {method}", caption=caption, data=data, layout=layout, height=340
    )


def head_room(records: Sequence[RunRecord], palette: Palette, number: int) -> Figure | None:
    """What each agent could still gain at the end of the search, with intervals."""
    known = [record for record in records if record.bottleneck]
    if not known:
        return None
    agents = _agents(known)[::-1]
    groups = list(by_method(known))
    data = []
    for place, (method, mine) in enumerate(groups):
        offset = 0.5 * ((place + 0.5) / len(groups) - 0.5)
        lines = [_room(mine, agent) for agent in agents]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": method,
                "x": [line[0] for line in lines],
                "y": [i - offset for i in range(len(agents))],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - mean for mean, _, high in lines],
                    "arrayminus": [mean - low for mean, low, _ in lines],
                    "thickness": 2,
                    "width": 5,
                },
                "marker": {"color": palette.colour(method), "symbol": palette.symbol(method), "size": 10},
                "customdata": [[agent, low, high] for agent, (_, low, high) in zip(agents, lines, strict=True)],
                "hovertemplate": f"{method}, %{{customdata[0]}}: %{{x:.3f}} "
                "(%{customdata[1]:.3f} to %{customdata[2]:.3f})<extra></extra>",
            }
        )
    by_scores = known[0].bottleneck[0].get("source") == "scores"
    measure = "what its own score lacks to 1" if by_scores else "the best gain that its swaps make likely"
    over = "95 % intervals over seeds" if len({record.seed for record in known}) > 1 else "95 % intervals of the run"
    return Figure(
        id=f"headroom-{number}",
        title="Head-room of each agent",
        caption=f"The agent with the most is the bottleneck. Measured at the end of the search by {measure}; {over}.",
        data=data,
        layout={
            "xaxis": {"title": "head-room", "rangemode": "tozero"},
            "yaxis": {"tickvals": list(range(len(agents))), "ticktext": agents, "range": [-0.6, len(agents) - 0.4]},
        },
        height=max(240, 130 + 62 * len(agents)),
    )


def _room(records: Sequence[RunRecord], agent: str) -> tuple[float, float, float]:
    lines = [line for record in records for line in record.bottleneck if line["module"] == agent]
    if len(lines) == 1:
        return lines[0]["room"], lines[0]["low"], lines[0]["high"]
    found = mean_interval([line["room"] for line in lines])
    return found.mean, found.low, found.high


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """What a rollout of the found program takes: `key` of a record's `rollout`, times `scale`, in `unit`."""

    id: str
    title: str
    key: str
    unit: str
    scale: float = 1.0


_MONEY = _Axis(id="cost", title="Score and cost", key="micros", unit="dollars for 1,000 rollouts", scale=1e-3)
_TOKENS = _Axis(id="cost", title="Score and cost", key="tokens", unit="tokens of a rollout")
_LATENCY = _Axis(id="latency", title="Score and latency", key="p95_s", unit="seconds, 95th percentile of a rollout")


def trade_offs(records: Sequence[RunRecord], palette: Palette, number: int) -> list[Figure]:
    """Score against what a rollout of the found program costs, and against its latency."""
    paid = any((record.rollout.get("best") or {}).get("micros") for record in records)
    figures = (_trade_off(records, palette, number, axis) for axis in (_MONEY if paid else _TOKENS, _LATENCY))
    return [figure for figure in figures if figure is not None]


def _trade_off(records: Sequence[RunRecord], palette: Palette, number: int, axis: _Axis) -> Figure | None:
    points: dict[str, list[tuple[float, float, int]]] = {}
    for record in records:
        amount = (record.rollout.get("best") or {}).get(axis.key)
        if amount is not None and record.mean is not None:
            points.setdefault(record.method, []).append((amount * axis.scale, record.mean, record.seed))
    if not any(x for mine in points.values() for x, *_ in mine):
        return None
    means = {method: np.mean([point[:2] for point in mine], axis=0) for method, mine in points.items()}
    best = [list(means)[i] for i in front([(-x, y) for x, y in means.values()])]
    edge = sorted((float(means[method][0]), float(means[method][1])) for method in best)
    data: list[dict[str, Any]] = [
        {
            "x": [x for x, _ in edge],
            "y": [y for _, y in edge],
            "mode": "lines",
            "name": "front",
            "line": {"shape": "hv", "dash": "dot", "width": 1.5, "color": GREY},
            "hoverinfo": "skip",
        }
    ]
    for method, mine in points.items():
        colour, symbol = palette.colour(method), palette.symbol(method)
        hover = f"{method}: %{{y:.3f}} at %{{x:,.4~g}}"
        data.append(
            {
                "x": [x for x, *_ in mine],
                "y": [y for _, y, _ in mine],
                "customdata": [seed for *_, seed in mine],
                "mode": "markers",
                "legendgroup": method,
                "showlegend": False,
                "marker": {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.4},
                "hovertemplate": f"{hover}<extra>seed %{{customdata}}</extra>",
            }
        )
        data.append(
            {
                "x": [float(means[method][0])],
                "y": [float(means[method][1])],
                "mode": "markers",
                "name": method,
                "legendgroup": method,
                "marker": {"color": colour, "symbol": symbol, "size": 14, "line": {"width": 1.5, "color": colour}},
                "hovertemplate": f"{hover}<extra>mean</extra>",
            }
        )
    return Figure(
        id=f"{axis.id}-{number}",
        title=axis.title,
        caption="Small marks are runs, large ones their means. No method beats those on the dotted front on both.",
        data=data,
        layout={"xaxis": {"title": axis.unit}, "yaxis": {"title": "test score"}},
    )


def _agents(records: Sequence[RunRecord]) -> list[str]:
    """The agents in the order of the program."""
    return list(dict.fromkeys(name for record in records for name in record.prompts.get("start", {})))


def _list(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [None if math.isnan(value) else round(float(value), 6) for value in values]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
