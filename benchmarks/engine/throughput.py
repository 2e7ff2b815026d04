"""Calls per second with many in flight: `python -m benchmarks.engine.throughput [--slots 256] [--latency 0.05]`.

Every call waits the same time: asyncio.sleep for ours, time.sleep in as many threads for DSPy. Ours has everything on,
as in `benchmarks.engine.overhead`, and finds its concurrency from 20 up. The two take turns; of each the best counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine import ours, peer
from benchmarks.engine.stopwatch import Taken, best_of

ANSWER = "yes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=256, help="calls in flight, and DSPy's threads")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--rounds", type=int, default=2, help="of each the best counts")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with_peer = peer.wanted(options.no_peer)
    questions = [f"Is the number {number} even?" for number in range(options.calls)]
    llm = ours.InProcessLLM(ANSWER, lambda: options.latency)
    with tempfile.TemporaryDirectory() as directory:
        measures: dict[str, Callable[[], Taken]] = {
            "ours": lambda: ours.evaluate_all(questions, ANSWER, llm, options.slots, Path(directory))
        }
        if with_peer:
            measures["dspy"] = lambda: peer.evaluate_all(questions, ANSWER, options.slots, lambda _: options.latency)
        best = best_of(measures, options.rounds)
    figures = {}
    for name, taken in best.items():
        figures[name] = {"calls_per_s": options.calls / taken.wall, "calls_per_cpu_s": options.calls / taken.cpu}
        print(f"{name} {options.calls / taken.wall:,.0f} calls/s, {options.calls / taken.cpu:,.0f} per second of CPU")
    print(
        f"ours had up to {llm.most_in_flight} in flight; the slots allow {options.slots / options.latency:,.0f} calls/s"
    )
    if with_peer:
        print(f"ratio {best['dspy'].wall / best['ours'].wall:.2f} (CPU {best['dspy'].cpu / best['ours'].cpu:.2f})")
    if options.json is not None:
        options.json.write_text(json.dumps({"calls": options.calls, "slots": options.slots, **figures}))


if __name__ == "__main__":
    main()
