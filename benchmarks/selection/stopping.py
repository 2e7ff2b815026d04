"""How often the stop rule is right: `python -m benchmarks.selection.stopping [--tables DIR]`.

A stop is right when the recommended candidate is within epsilon of the best on all examples.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.options import count, share
from benchmarks.selection.__main__ import add_options, names, parsed, world
from benchmarks.selection.replay import Stop, stopped


def run(name: str, seed: int, *, tables: Path | None, budget: int, epsilon: float, delta: float) -> Stop:
    """One run on one table."""
    return stopped("racing", world(tables, name, seed), seed, budget=budget, epsilon=epsilon, delta=delta)


def summary(name: str, runs: list[Stop], epsilon: float) -> dict[str, Any]:
    """How many of the runs stopped, how many of these were right, and after how many calls (the median)."""
    ended = [stop for stop in runs if stop.reason]
    right = sum(stop.regret <= 100 * epsilon + 1e-9 for stop in ended)
    calls = median(stop.calls for stop in ended) if ended else None
    return {"table": name, "seeds": len(runs), "stopped": len(ended), "right": right, "calls": calls}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, seeds=100)
    parser.add_argument("--budget", type=count, default=8000)
    parser.add_argument("--epsilon", type=share, default=0.03)
    parser.add_argument("--delta", type=share, default=0.1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parsed(parser, argv)
    one = partial(run, tables=options.tables, budget=options.budget, epsilon=options.epsilon, delta=options.delta)
    out = []
    with ProcessPoolExecutor(options.processes) as pool:
        for name in names(options.tables, families=not options.no_synthetic):
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
