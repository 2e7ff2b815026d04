"""Schedulers on simulated programs of several agents: `python -m benchmarks.rmipro [--seeds 100] [--json FILE]`.

Regret is the best true score that single changes lead to, less the true score of what would be shipped. Budgets are as
much as `--rollouts` whole rollouts per agent cost. "mipro" changes all agents at once, by this project's race; the
others make controlled swaps and differ in how they divide them. `adaptive` is compared with each of the others: ratio
of mean regrets, Wilcoxon's signed-rank test over seeds with Holm's correction over all comparisons of a budget, and the
share of the other's spend at which `adaptive` has the other's final score for good (median; none: never in half of the
seeds).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from benchmarks.rmipro.joint import joint_course
from benchmarks.rmipro.simulate import Course, course
from benchmarks.rmipro.worlds import FAMILIES, make
from rollouts.prompt_optimization.scheduling import SCHEDULERS, ModuleState, State, TrialResult, make_scheduler

METHODS = ("mipro", *(name for name in SCHEDULERS if name != "adaptive"))
OURS = "adaptive"
Key = tuple[str, int, str]


def play(seed: int, *, name: str, methods: Sequence[str], per_agent: int, own: bool) -> dict[str, Course]:
    """All methods on one world."""
    world = make(FAMILIES[name], seed)
    rollouts = per_agent * len(world.right)
    return {
        method: joint_course(world, "racing", seed, rollouts=rollouts)
        if method == "mipro"
        else course(world, method, seed, rollouts=rollouts, own=own)
        for method in methods
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = highest
    return out


def compared(name: str, per_agent: int, method: str, courses: Sequence[Mapping[str, Course]]) -> dict[str, Any]:
    """`adaptive` against one method on one family."""
    ours = np.array([found[OURS].regret for found in courses])
    theirs = np.array([found[method].regret for found in courses])
    difference = ours - theirs
    spends = [found[OURS].spend_to(found[method].value[-1]) / found[method].spent[-1] for found in courses]
    spend = float(np.median(spends))
    moved = bool(np.any(difference))
    return {
        "family": name,
        "bottleneck": bool(FAMILIES[name].bottlenecks),
        "per_agent": per_agent,
        "against": method,
        "seeds": len(courses),
        "ours": float(ours.mean()),
        "theirs": float(theirs.mean()),
        "ratio": float(ours.mean() / theirs.mean()),
        "difference": float(difference.mean()),
        "error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
        "p": float(wilcoxon(difference).pvalue) if moved else 1.0,
        "spend": spend if np.isfinite(spend) else None,
    }


def decision_seconds(rounds: int = 50) -> float:
    """The median time of a decision of `adaptive` at 16 modules of 50 candidates, results of a round told before it."""
    names, rng = [f"m{n}" for n in range(16)], Random(0)
    scheduler = make_scheduler(OURS, names, samples=200)
    modules = [ModuleState(name=name, untried=50, undecided=50) for name in names]

    def results(count: int) -> list[TrialResult]:
        return [
            TrialResult(
                module=name,
                candidate=rng.randint(1, 50) if count == 1 else n + 1,
                against=0,
                differences=tuple(rng.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(8)),
            )
            for name in names
            for n in range(count)
        ]

    scheduler.update(results(50))
    taken = []
    for _ in range(rounds):
        told = results(1)
        begin = time.perf_counter()
        scheduler.update(told[:8])
        scheduler.allocate(State(modules=modules, trials=8, samples=8))
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rollouts", type=lambda text: [int(n) for n in text.split(",")], default=[100])
    parser.add_argument("--families", type=lambda text: text.split(","), default=list(FAMILIES))
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS), help=",".join(METHODS))
    parser.add_argument("--own", action="store_true", help="the metric scores agents, too")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the records here")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    records: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.processes) as pool:
        for per_agent in options.rollouts:
            mine = []
            for name in options.families:
                work = partial(play, name=name, methods=[*options.methods, OURS], per_agent=per_agent, own=options.own)
                courses = list(pool.map(work, seeds, chunksize=5))
                mine += [compared(name, per_agent, method, courses) for method in options.methods]
            for record, corrected in zip(mine, holm([record["p"] for record in mine]), strict=True):
                record["p_holm"] = corrected
            records += mine
            print("\n".join(map(line, mine)), flush=True)
    seconds = decision_seconds()
    print(f"a decision at 16 modules x 50 candidates: {1000 * seconds:.1f} ms")
    if options.json:
        options.json.write_text(json.dumps({"records": records, "decision_s": seconds}, indent=1))


def line(record: Mapping[str, Any]) -> str:
    """A record as a row of a Markdown table."""
    spend = "-" if record["spend"] is None else f"{record['spend']:.2f}"
    return (
        f"| {record['family']} | {record['against']} | {record['theirs']:.3f} | {record['ours']:.3f} | "
        f"{record['ratio']:.2f} | {record['difference']:+.3f} ± {record['error']:.3f} | {record['p_holm']:.2g} | "
        f"{spend} |"
    )


if __name__ == "__main__":
    main()
