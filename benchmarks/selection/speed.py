"""How long one decision takes: `python -m benchmarks.selection.speed [--methods racing,tpe]`.

A decision is: tell 32 results, ask for 32 cells, recommend, and whether to stop. The stop rule is tested every few
rounds, so the slowest round is printed beside the median. CPU time, with one thread if OPENBLAS_NUM_THREADS=1 is set.
"""

from __future__ import annotations

import argparse
import random
import time
from math import prod
from statistics import median

from rollouts.prompt_optimization.selection import SELECTORS, Result, Space, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings

BATCH = 32
SIZES = (((32, 32), 500, 16000), ((100, 100), 500, 160_000), ((5,) * 16, 500, 8000))


def measure(method: str, levels: tuple[int, ...], samples: int, calls: int) -> list[float]:
    """CPU seconds of every round."""
    space = Space(levels=levels, samples=samples, start=(0,) * len(levels))
    selector = make_selector(method, space, SelectorSettings(budget=calls, epsilon=1e-9))
    rng = random.Random(0)
    worth = [[rng.random() for _ in range(n)] for n in levels]
    out = []
    cells = selector.ask(BATCH)
    while cells:
        chances = [sum(w[i] for w, i in zip(worth, c.candidate, strict=True)) / len(levels) for c in cells]
        results = [Result(c, float(rng.random() < chance)) for c, chance in zip(cells, chances, strict=True)]
        start = time.process_time()
        selector.tell(results)
        cells = selector.ask(BATCH)
        selector.recommend()
        selector.should_stop()
        out.append(time.process_time() - start)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(SELECTORS))
    for method in parser.parse_args().methods.split(","):
        for levels, samples, calls in SIZES:
            rounds = measure(method, levels, samples, calls)
            print(
                f"{method}: {prod(levels):,} candidates of {len(levels)} factors, {samples} samples, {calls:,} calls: "
                f"median {median(rounds) * 1e3:.1f} ms, slowest {max(rounds) * 1e3:.1f} ms"
            )


if __name__ == "__main__":
    main()
