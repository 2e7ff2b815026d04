"""The benchmarks of the suite: how each is run, what it needs, and the ratios in what it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.suite.ratios import Ratio

OUT = "{out}"
"""Stands for the file, or the folder, that a part writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`python -m` with `command`; `read` takes the path that it wrote. `needs` are modules, `paths` files or folders,
    that must be there; `rounds` is how often it runs, the median of each ratio counting. `printed`: what it prints is
    written to its file."""

    name: str
    command: tuple[str, ...]
    read: Callable[[Path], list[Ratio]]
    needs: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    rounds: int = 1
    printed: bool = False

    def missing(self) -> list[str]:
        """What it needs and is not there."""
        return [name for name in self.needs if find_spec(name) is None] + [
            path for path in self.paths if not Path(path).exists()
        ]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def overhead(path: Path) -> list[Ratio]:
    """Time per call."""
    found = []
    for row in _json(path)["overhead"]:
        for clock, key in (("wall", "ms"), ("CPU", "cpu_ms")):
            name = f"time per call of {row['calls']:,}, {clock}, ours / dspy"
            value = row[f"ours_{key}"] / row[f"dspy_{key}"]
            found.append(Ratio(name=name, value=value, higher_is_better=False, aim=0.5))
    return found


def throughput(path: Path) -> list[Ratio]:
    """Calls per second with many in flight."""
    data = _json(path)
    value = data["ours"]["calls_per_s"] / data["dspy"]["calls_per_s"]
    return [Ratio(name="calls per second at 256 in flight, ours / dspy", value=value, higher_is_better=True, aim=2.5)]


def slots(path: Path) -> list[Ratio]:
    """Whole runs."""
    aims = {"fixed 50 ms": (0.85, 0.55), "heavy tail": (0.7, 0.4)}
    found = []
    for law, kinds in _json(path)["runs"].items():
        use, time = aims[law]
        for selector, run in kinds.items():
            if selector != "dspy":
                what = f"of a MIPRO run, {law}, {selector}"
                found.append(Ratio(name=f"slot use {what}", value=run["use"], higher_is_better=True, aim=use))
                ratio = run["time_ratio"]
                found.append(
                    Ratio(name=f"wall time {what}, ours / dspy", value=ratio, higher_is_better=False, aim=time)
                )
    return found


def memory(path: Path) -> list[Ratio]:
    """What rollouts keep."""
    sizes = _json(path)["mb"]
    value = sizes["ours"] / sizes["dspy"]
    return [Ratio(name="memory of 100,000 rollouts, ours / dspy", value=value, higher_is_better=False)]


def store(path: Path) -> list[Ratio]:
    """Recording."""
    rates = _json(path)
    value = rates["ours"] / rates["sqlite3"]
    return [Ratio(name="rollouts recorded per second, ours / sqlite3 alone", value=value, higher_is_better=True)]


def interceptor(path: Path) -> list[Ratio]:
    """The hop."""
    data = _json(path)
    found = []
    for name, key, higher in (
        ("plain calls per second, through the interceptor / direct", "calls per second, {}", True),
        ("one streamed call, through the interceptor / direct", "one at a time, fastest, {} (ms)", False),
    ):
        if key.format("direct") in data:
            value = data[key.format("through")] / data[key.format("direct")]
            found.append(Ratio(name=name, value=value, higher_is_better=higher))
    return found


def bookkeeping(path: Path) -> list[Ratio]:
    """What GEPA's search itself costs."""
    return [
        Ratio(
            name=f"GEPA's own CPU time per metric call of {row['calls']:,}, ours / gepa",
            value=row["ours_us"] / row["gepa_us"],
            higher_is_better=False,
        )
        for row in _json(path)["bookkeeping"]
    ]


def gepa(path: Path) -> list[Ratio]:
    """What GEPA finds."""
    return [
        Ratio(
            name=f"GEPA's result, {row['world']}, {row['calls']:,} calls, ours / gepa",
            value=row["ours"] / row["gepa"],
            higher_is_better=True,
        )
        for row in _json(path)["results"]
    ]


def selection(path: Path) -> list[Ratio]:
    """Regret of the race."""
    regrets: dict[tuple[int, str], list[float]] = {}
    for row in _json(path):
        regrets.setdefault((row["budget"], row["method"]), []).append(row["regret"])
    return [
        Ratio(
            name=f"mean regret at {budget:,} calls, racing / mipro-v2",
            value=fmean(values) / fmean(regrets[budget, "mipro-v2"]),
            higher_is_better=False,
        )
        for (budget, method), values in regrets.items()
        if method == "racing"
    ]


def rmipro(path: Path) -> list[Ratio]:
    """Regret of the adaptive scheduler where there is a bottleneck."""
    logs = [math.log(row["ratio"]) for row in _json(path)["records"] if row["bottleneck"] and row["ratio"] > 0]
    name = "regret with a bottleneck, adaptive / uniform (geometric mean)"
    return [Ratio(name=name, value=math.exp(fmean(logs)), higher_is_better=False)]


def local(path: Path) -> list[Ratio]:
    """The embedded model."""
    return [
        Ratio(
            name=f"calls per second of the embedded model, {arrival}, ours / bare loop",
            value=found["ratio_of_pairs"],
            higher_is_better=True,
            aim=0.85,
        )
        for arrival, found in _json(path).items()
        if arrival != "no_cache"
    ]


def comparison(folder: Path) -> list[Ratio]:
    """Held-out accuracy at equal calls. Raises ValueError when a run failed, or the peer got nothing right."""
    from benchmarks.mipro_comparison.contrasts import ALL, at_equal_calls
    from benchmarks.mipro_comparison.outcome import outcomes
    from benchmarks.mipro_comparison.runs import grouped

    runs = outcomes(folder).values()
    if failed := [run.key.name for run in runs if run.error is not None]:
        raise ValueError(f"failed runs: {', '.join(failed)}")
    rows = [row for table in at_equal_calls(grouped(runs)) for row in table if row.task != ALL]
    if hopeless := [row.task for row in rows if not row.means[1]]:
        raise ValueError(f"the peer got nothing right, so there is no ratio: {', '.join(hopeless)}")
    return [
        Ratio(
            name=f"held-out accuracy, {row.task}, cap {row.caps[0]:,}, {row.ours} / {row.theirs}",
            value=row.means[0] / row.means[1],
            higher_is_better=True,
        )
        for row in rows
    ]


def _part(name: str, arguments: str, read: Callable[[Path], list[Ratio]], needs: str = "", rounds: int = 1) -> Part:
    command = (f"benchmarks.{name}", *arguments.split(), "--json", OUT)
    return Part(name=name, command=command, read=read, needs=tuple(needs.split()), rounds=rounds)


QUICK: Sequence[Part] = (
    _part("engine.overhead", "--calls 1000", overhead, "dspy", rounds=3),
    _part("engine.throughput", "--calls 5000 --rounds 1", throughput, "dspy", rounds=3),
    _part("engine.memory", "--calls 5000", memory, "dspy", rounds=3),
    _part("engine.slots", "--seeds 1 --rounds 1 --trials 30 --selectors racing", slots, "dspy optuna"),
    _part("store.bench_store", "--rollouts 20000", store, rounds=3),
    _part("interceptor.latency", "--only rates --rounds 3", interceptor, "uvicorn", rounds=3),
    _part("gepa.bookkeeping", "--calls 10000", bookkeeping, "gepa", rounds=3),
)
FULL: Sequence[Part] = (
    *(part for part in QUICK if part.name not in ("engine.slots", "interceptor.latency")),
    _part("engine.overhead", "--calls 20000 --rounds 1", overhead, "dspy", rounds=3),
    _part("engine.slots", "", slots, "dspy optuna"),
    _part("interceptor.latency", "", interceptor, "uvicorn"),
    _part("selection", "--methods racing,mipro-v2 --budgets 400,2000 --seeds 20", selection),
    _part("rmipro", "--methods uniform --seeds 20", rmipro),
    _part("gepa", "--worlds rules --budgets 500", gepa, "gepa"),
    Part(
        name="local.bench_local",
        command=("benchmarks.local.bench_local", "--json"),
        read=local,
        needs=("xllamacpp",),
        printed=True,
    ),
    Part(
        name="mipro_comparison",
        command=(
            *("benchmarks.mipro_comparison.run_comparison", "--tasks", "tickets", "--seeds", "1", "--cap", "300"),
            *("--methods", "rollouts-mipro,dspy-mipro:plain", "--out", OUT),
        ),
        read=comparison,
        needs=("dspy", "optuna", "xllamacpp"),
    ),
)
