"""How often the stop rule is right: `python -m benchmarks.selection.stopping [--tables DIR]`.

A stop is right when the recommended candidate is within epsilon of the best on all examples.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.selection.__main__ import world, worlds
from benchmarks.selection.replay import Stop, stopped


def run(name: str, seed: int, *, tables: Path | None, budget: int, epsilon: float, delta: float) -> Stop:
    """One run on one table."""
    return stopped("racing", world(tables, name), seed, budget=budget, epsilon=epsilon, delta=delta)


def summary(name: str, runs: list[Stop], epsilon: float) -> dict[str, Any]:
    """How many of the runs stopped, how many of these were right, and after how many calls (the median)."""
    ended = [stop for stop in runs if stop.reason]
    right = sum(stop.regret <= 100 * epsilon + 1e-9 for stop in ended)
    calls = median(stop.calls for stop in ended) if ended else None
    return {"table": name, "seeds": len(runs), "stopped": len(ended), "right": right, "calls": calls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, help="a directory of NAME.json.gz")
    parser.add_argument("--no-synthetic", action="store_true", help="the tables only")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--budget", type=int, default=8000)
    parser.add_argument("--epsilon", type=float, default=0.03)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    one = partial(run, tables=options.tables, budget=options.budget, epsilon=options.epsilon, delta=options.delta)
    out = []
    with ProcessPoolExecutor(options.processes) as pool:
        for name in worlds(options.tables, not options.no_synthetic):
            runs = list(pool.map(partial(one, name), range(options.seeds), chunksize=5))
            out.append(summary(name, runs, options.epsilon))
            print(
                "{table}: stopped {stopped} of {seeds}, right {right}, median calls {calls}".format(**out[-1]),
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
