"""What a call costs beside the model: `python -m benchmarks.engine.overhead [--calls 1000,20000] [--slots 16]`.

The model answers at once, in this process, so all the time is the engine's. Ours has everything on: an SQLite file,
caps on every resource with durable authorisation, cache, retries, rate limit, one call per rollout, exact match. DSPy
is `dspy.Evaluate` over `dspy.Predict("question -> answer")` with its cache off. The two take turns.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine import ours, peer

ANSWER = "yes"


def best_ms_per_call(measures: list[Callable[[], float]], calls: int, rounds: int) -> list[float]:
    """Of each of `measures` the best round, in milliseconds per call; one round is all of them in turn."""
    best = [float("inf")] * len(measures)
    for _ in range(rounds):
        for place, measure in enumerate(measures):
            gc.collect()
            best[place] = min(best[place], measure() / calls * 1e3)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="1000,20000", help="sizes, separated by commas")
    parser.add_argument("--slots", type=int, default=16, help="calls in flight, and DSPy's threads")
    parser.add_argument("--rounds", type=int, default=2, help="of each the best counts")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with_peer = peer.available() and not options.no_peer
    print(f"compared with dspy {peer.version()}" if with_peer else peer.SKIPPED)
    results = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for calls in map(int, options.calls.split(",")):
            questions = [f"Is the number {number} even?" for number in range(calls)]
            llm = ours.InProcessLLM(ANSWER)

            def measure_ours(questions: list[str] = questions, llm: ours.InProcessLLM = llm) -> float:
                return ours.seconds_to_evaluate(questions, ANSWER, llm, options.slots, directory)

            def measure_peer(questions: list[str] = questions) -> float:
                return peer.seconds_to_evaluate(questions, ANSWER, options.slots)

            measures = [measure_ours, measure_peer] if with_peer else [measure_ours]
            best = best_ms_per_call(measures, calls, options.rounds)
            result: dict[str, float] = {"calls": calls, "ours_ms": round(best[0], 4)}
            line = f"{calls:>7,} calls: ours {best[0]:.3f} ms per call"
            if with_peer:
                result |= {"dspy_ms": round(best[1], 4), "ratio": round(best[0] / best[1], 3)}
                line += f", dspy {best[1]:.3f} ms, ratio {best[0] / best[1]:.2f}"
            print(line, flush=True)
            results.append(result)
    if options.json is not None:
        options.json.write_text(json.dumps({"dspy": peer.version() if with_peer else None, "overhead": results}))


if __name__ == "__main__":
    main()
