"""Who is better: the methods of one experiment or several, over seeds and tasks, with the verdict in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rollouts.errors import ConfigError
from rollouts.experiments.near_names import did_you_mean
from rollouts.experiments.sweep.methods import START
from rollouts.experiments.sweep.records import RESOURCES, RunRecord, load_records, load_settings
from rollouts.stats import Comparison, Interval, MethodRow, compare_methods, mean_interval
from rollouts.stats.methods import Run, Test, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSummary:
    """One method's runs: mean test score with its interval over them, and what a run took on average."""

    method: str
    score: Interval
    spend: Mapping[str, float]
    failed: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; numbers that are not finite become None."""
        return {"method": self.method, "score": self.score.to_json(), "spend": self.spend, "failed": self.failed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The methods at one budget. `against` compares all with the baseline; None where there is but one method. `notes`
    say what to beware of, a sentence each."""

    budget: str
    methods: tuple[MethodSummary, ...]
    against: Comparison | None
    notes: tuple[str, ...] = ()

    def verdicts(self) -> list[tuple[str, str]]:
        """What the comparison says of each method, in words, and what that rests on."""
        return [] if self.against is None else [in_words(row, self.against) for row in self.against.rows]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "budget": self.budget,
            "methods": [method.to_json() for method in self.methods],
            "comparison": None if self.against is None else self.against.to_json(),
            "verdicts": [": ".join(said) for said in self.verdicts()],
            "notes": list(self.notes),
        }


def gather(places: Sequence[Path | str]) -> tuple[list[RunRecord], str | None]:
    """The records of all places, and the baseline of the first one that names any.

    A method that several experiments have on the same task, model, budget and seed is told apart by their names.
    Raises ConfigError for a place that holds no records.
    """
    records = [record for place in places for record in load_records(place)]
    seen: Counter[tuple[str, ...]] = Counter(_slot(record) for record in records)
    twice = {slot[-1] for slot, count in seen.items() if count > 1}
    if twice:
        records = [replace(record, method=f"{record.experiment}:{record.method}") for record in records]
    named = [] if twice else [load_settings(place).get("baseline") for place in places]
    return records, next(filter(None, named), None)


def _slot(record: RunRecord) -> tuple[str, ...]:
    return (record.task, record.model, record.budget, str(record.seed), record.method)


def compare(
    records: Iterable[RunRecord],
    *,
    baseline: str | None = None,
    unit: Unit = "run",
    test: Test = "permutation",
    confidence: float = 0.95,
) -> list[Table]:
    """One table for each budget, in the order of the records.

    Methods are paired on equal (task, model, seed). The start has no budget and stands in every table. `baseline`,
    `unit`, `test` and `confidence` as in `rollouts.stats.compare_methods`; the default baseline is the first method.
    Raises ConfigError for a baseline that there is not.
    """
    records = list(records)
    names = list(dict.fromkeys(record.method for record in records))
    if baseline is not None and baseline not in names:
        hint = did_you_mean(baseline, names)
        raise ConfigError(f"there is no method {baseline!r}{hint} There are: {', '.join(names)}")
    budgets = list(dict.fromkeys(record.budget for record in records if record.algorithm != START)) or [""]
    tables = []
    for budget in budgets:
        mine = [record for record in records if record.budget == budget or record.algorithm == START]
        by_method = {name: [record for record in mine if record.method == name] for name in names}
        by_method = {name: found for name, found in by_method.items() if found}
        base = baseline if baseline in by_method else next(iter(by_method))
        scores: dict[str, dict[Run, float | None]] = {
            name: {(f"{record.task} {record.model}", record.seed): record.mean for record in found}
            for name, found in by_method.items()
        }
        against = (
            compare_methods(scores, baseline=base, unit=unit, test=test, confidence=confidence)
            if len(scores) > 1
            else None
        )
        methods = tuple(_summary(name, found, confidence) for name, found in by_method.items())
        tables.append(Table(budget=budget, methods=methods, against=against, notes=_notes(mine)))
    return tables


def _notes(records: Sequence[RunRecord]) -> tuple[str, ...]:
    rows: dict[tuple[str, str, int], set[int]] = {}
    for record in records:
        if record.score is not None:
            rows.setdefault((record.task, record.model, record.seed), set()).add(record.score["n"])
    if all(len(counts) == 1 for counts in rows.values()):
        return ()
    every = set().union(*rows.values())
    return (
        f"runs of one seed were scored on {min(every)} to {max(every)} test rows, as far as their budgets went; give "
        "data.test fewer rows, or the runs a larger budget",
    )


def _summary(name: str, records: Sequence[RunRecord], confidence: float) -> MethodSummary:
    done = [record for record in records if record.status == "done"]
    scores = [record.mean for record in done if record.mean is not None]
    spend = {key: float(np.mean([record.spend.get(key, 0) for record in done])) for key in RESOURCES if done}
    return MethodSummary(
        method=name,
        score=mean_interval(scores, confidence),
        spend={**spend, "elapsed_s": float(np.mean([record.elapsed_s for record in done]))} if done else {},
        failed=len(records) - len(done),
    )


def in_words(row: MethodRow, table: Comparison) -> tuple[str, str]:
    """The verdict on one method, and what it rests on."""
    name, base = row.method, table.baseline
    if row.n == 0:
        return f"{name}: nothing to compare", f"no run has a counterpart of {base}."
    found = _found(row, table)
    match row.verdict:
        case "better" | "worse":
            return f"{name} is {row.verdict} than {base}", f"{found}."
        case "too few seeds":
            count = len(table.rows)
            least = f"{count} {'comparison takes' if count == 1 else 'comparisons take'} at least "
            least += str(_least(count, 1 - table.confidence))
            return f"{name}: too few seeds to tell it from {base}", f"{found}; {least}."
    shown = f" With so many, a difference of {row.detectable:.3f} is seen four times in five;"
    needed = f"about {row.needed}" if row.needed is not None else "more than 1,000"
    why = f"{found}.{shown if math.isfinite(row.detectable) else ''} this one takes {needed}."
    return f"{name}: no difference from {base} seen", why


def _found(row: MethodRow, table: Comparison) -> str:
    gap = row.difference
    out = f"{gap.mean:+.3f}"
    if math.isfinite(gap.low):
        out += f" ({100 * table.confidence:g} % interval {gap.low:+.3f} to {gap.high:+.3f})"
    if math.isfinite(row.effect.mean):
        out += f", effect {row.effect.mean:+.2f}"
    units = f"{row.n} paired {table.unit}{'s' if row.n != 1 else ''}"
    return f"{out}, p = {row.p_holm:.2g} after Holm, {units}"


def _least(comparisons: int, alpha: float) -> int:
    """Pairs with which a difference, however large, can pass the corrected test."""
    return next(n for n in range(1, 100) if comparisons * 2.0 ** (1 - n) < alpha)
