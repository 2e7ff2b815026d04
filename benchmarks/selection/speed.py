"""How long one decision of `racing` takes: `python -m benchmarks.selection.speed`.

A decision is: tell 32 results, ask for 32 cells, recommend, and whether to stop. The stop rule is tested every few
rounds, so the slowest round is printed beside the median. CPU time, with one thread if OPENBLAS_NUM_THREADS=1 is set.
"""

from __future__ import annotations

import random
import time
from statistics import median

from rollouts.prompt_optimization.selection import Result, Space, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings

BATCH = 32


def measure(levels: tuple[int, ...], samples: int, calls: int) -> list[float]:
    """CPU seconds of every round."""
    space = Space(levels=levels, samples=samples, start=(0,) * len(levels))
    selector = make_selector("racing", space, SelectorSettings(budget=calls, epsilon=1e-9))
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
    for levels, samples, calls in (((32, 32), 500, 8000), ((100, 100), 500, 16000), ((5,) * 16, 500, 8000)):
        rounds = measure(levels, samples, calls)
        print(
            f"{' x '.join(map(str, levels))} candidates, {samples} samples, {calls:,} calls: "
            f"median {median(rounds) * 1e3:.1f} ms, slowest {max(rounds) * 1e3:.1f} ms"
        )


if __name__ == "__main__":
    main()
