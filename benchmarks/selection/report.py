"""What the records say: tables, ratios, and a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

_FLOOR = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Mean regret and its standard error, in percentage points; `values` are those of the seeds."""

    table: str
    method: str
    budget: int
    regret: float
    se: float
    seeds: int
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, table: str, method: str, budget: int, values: Sequence[float]) -> Record:
        mean, se = mean_error(values)
        return cls(
            table=table, method=method, budget=budget, regret=mean, se=se, seeds=len(values), values=tuple(values)
        )

    def to_json(self) -> Mapping[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "values"}


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return fmean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def lines(records: Sequence[Record]) -> list[str]:
    """One line per table and method, one column per budget."""
    budgets = sorted({record.budget for record in records})
    width = max(len(record.method) for record in records)
    by = {(r.table, r.method, r.budget): r for r in records}
    out = [
        "regret in percentage points, mean ± standard error",
        f"{'':{width + 2}}" + "".join(f"{b:>14,}" for b in budgets),
    ]
    for table in dict.fromkeys(record.table for record in records):
        out.append(table)
        for method in dict.fromkeys(record.method for record in records):
            cells = [by[table, method, budget] for budget in budgets]
            out.append(f"  {method:{width}}" + "".join(f"{cell.regret:8.2f} ±{cell.se:4.2f}" for cell in cells))
    return out


def ratio(records: Sequence[Record], method: str, others: Sequence[str], budget: int) -> float:
    """Geometric mean over tables of the method's regret over the least of the others' (both plus 0.02 points)."""
    by = {(r.table, r.method): r.regret for r in records if r.budget == budget}
    tables = dict.fromkeys(table for table, _ in by)
    logs = [
        math.log((by[table, method] + _FLOOR) / (min(by[table, other] for other in others) + _FLOOR))
        for table in tables
    ]
    return math.exp(sum(logs) / len(logs))


def calls_to(records: Sequence[Record], table: str, method: str, points: float) -> float | None:
    """Calls to that mean regret, interpolated in log calls between budgets; None when it is not reached."""
    course = sorted((r.budget, r.regret) for r in records if (r.table, r.method) == (table, method))
    before: tuple[int, float] | None = None
    for budget, regret in course:
        if regret <= points:
            if before is None:
                return float(budget)
            share = (before[1] - points) / (before[1] - regret)
            return math.exp(math.log(before[0]) + share * (math.log(budget) - math.log(before[0])))
        before = (budget, regret)
    return None


def comparison(records: Sequence[Record], method: str) -> list[str]:
    """Ratios of `method` to the rest, and where it is behind by more than a standard error of the difference, which is
    taken seed by seed."""
    budgets = sorted({record.budget for record in records})
    rest = [name for name in dict.fromkeys(r.method for r in records) if name != method]
    groups = [[name] for name in rest]
    staged = [name for name in rest if name.startswith("successive_")]
    if len(staged) > 1:
        groups.append(staged)
    out = [f"geometric mean over tables of the ratio of {method}'s regret to that of"]
    for group in groups:
        ratios = "".join(f"{ratio(records, method, group, budget):14.2f}" for budget in budgets)
        out.append(f"  {'the better of ' * (len(group) > 1) + ' and '.join(group):60}" + ratios)
    by = {(r.table, r.method, r.budget): r for r in records}
    for table, own, budget in by:
        for other in rest if own == method else ():
            a, b = by[table, method, budget], by[table, other, budget]
            gap, error = mean_error([x - y for x, y in zip(a.values, b.values, strict=True)])
            if gap > error:
                said = f"{a.regret:.2f} against {b.regret:.2f} ({gap:+.2f} ±{error:.2f})"
                out.append(f"  behind {other} on {table} at {budget:,}: {said}")
    out.append("calls to a mean regret of 2 points")
    for table in dict.fromkeys(record.table for record in records):
        reached = {name: calls_to(records, table, name, 2.0) for name in (method, *rest)}
        said = ", ".join(f"{name} {'more' if calls is None else f'{calls:,.0f}'}" for name, calls in reached.items())
        out.append(f"  {table}: {said}")
    return out


def plot(records: Sequence[Record], path: Path) -> None:
    """Regret against calls, one panel a table. Needs matplotlib, which the project does not."""
    import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # type: ignore[import-not-found,unused-ignore]

    tables = list(dict.fromkeys(record.table for record in records))
    columns = min(4, len(tables))
    rows = -(-len(tables) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 3 * rows), squeeze=False)
    for axis, table in zip(axes.flat, tables, strict=False):
        for method in dict.fromkeys(record.method for record in records):
            own = sorted((r.budget, r.regret, r.se) for r in records if (r.table, r.method) == (table, method))
            axis.errorbar(
                *zip(*[(b, max(v, _FLOOR)) for b, v, _ in own], strict=True), [e for *_, e in own], label=method
            )
        axis.set(title=table, xscale="log", yscale="log", xlabel="calls", ylabel="regret (points)")
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
