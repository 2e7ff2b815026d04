"""Searches of the size that MIPRO makes under a budget: `python -m benchmarks.selection.small [--tables DIR]`.

Trials, minibatches and the race of the leaders are those of MIPRO's own plan for so many rollouts. Validation rows are
drawn from a table; what a selector recommends is judged by its mean on the rows left over. Every line has the
difference to the first of `--selectors` on the same draws, and its standard error, in percentage points.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from statistics import fmean

from benchmarks.options import count, counts
from benchmarks.selection.__main__ import folder, names, world
from benchmarks.selection.report import mean_error
from benchmarks.selection.worlds import World
from rollouts.dtypes import Sample
from rollouts.prompt_optimization import MIPROConfig, Splits
from rollouts.prompt_optimization.mipro import mipro_plan, selector_settings
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.selection import Candidate, Cell, Result, Space, make_selector
from rollouts.prompt_optimization.selection.classes import Classes
from rollouts.prompt_optimization.selection.finals import Finals

ROWS = 96
SLOTS = 2
UNDER_WAY = 24


def plan_of(selector: str, rollouts: int) -> Plan:
    """What MIPRO plans with as many training as validation rows and none for the final check."""
    rows = [Sample(id="", inputs={}, ground_truth="")] * ROWS
    return mipro_plan(MIPROConfig(selector=selector), Splits(train=rows, val=rows), rollouts, SLOTS)


def classes_of(table: World, rows: Sequence[int]) -> tuple[int, ...]:
    """The classes of these rows; none where the table has none."""
    return tuple(table.classes[row] for row in rows) if table.classes else ()


def search(name: str, table: World, rows: Sequence[int], plan: Plan, seed: int) -> Candidate:
    """The candidate that a search on these rows ends with."""

    def run(cells: Sequence[Cell]) -> list[Result]:
        return [Result(cell, table.score(cell.candidate, rows[cell.sample])) for cell in cells]

    settings = selector_settings(MIPROConfig(selector=name, seed=seed), plan)
    space = Space(levels=table.levels, samples=len(rows), start=table.start, classes=classes_of(table, rows))
    selector = make_selector(name, space, settings)
    while not selector.should_stop() and (cells := selector.ask(UNDER_WAY)):
        selector.tell(run(cells))
    settled = plan.raced and selector.should_stop()
    finals = Finals(selector, top_k=plan.top_k, budget=0 if settled else plan.finals)
    while cells := finals.ask():
        selector.record(run(cells))
        finals.halve()
    return next(entry.candidate for entry in selector.ranking() if entry.candidate in finals.alive)


def held_out(name: str, table: World, rollouts: int, seed: int) -> float:
    """Percentage of the rows left over that the found candidate answers; the draw depends on the seed alone."""
    order = random.Random(seed).sample(range(table.samples), table.samples)
    plan = plan_of(name, rollouts)
    rows = order[:ROWS]
    rows = [rows[i] for i in Classes(classes_of(table, rows), ROWS).in_turn(range(ROWS))]
    found = search(name, table, rows[: plan.val], plan, seed)
    return 100 * fmean(table.score(found, row) for row in order[ROWS:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=folder, help="a directory of NAME.json.gz")
    parser.add_argument("--synthetic", action="store_true", help="made-up families, too")
    parser.add_argument("--selectors", default="racing,tpe,random,successive_rejects")
    parser.add_argument("--rollouts", type=counts, default=(250, 750), help="budgets of whole runs")
    parser.add_argument("--seeds", type=count, default=60)
    options = parser.parse_args()
    selectors = options.selectors.split(",")
    for rollouts in options.rollouts:
        for table in names(options.tables, families=options.synthetic or options.tables is None):
            scores: dict[str, list[float]] = {name: [] for name in selectors}
            for seed in range(options.seeds):
                drawn = world(options.tables, table, seed)
                for name in selectors:
                    scores[name].append(held_out(name, drawn, rollouts, seed))
            for name in selectors:
                gap, error = mean_error([a - b for a, b in zip(scores[name], scores[selectors[0]], strict=True)])
                print(f"{rollouts} {table} {name}: {fmean(scores[name]):.1f} ({gap:+.1f} ± {error:.1f})", flush=True)


if __name__ == "__main__":
    main()
