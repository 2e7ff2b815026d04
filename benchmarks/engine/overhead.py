"""What a call costs beside the model: `python -m benchmarks.engine.overhead [--calls 1000,20000] [--slots 16]`.

The model answers at once, in this process, so all the time is the engine's. Ours has everything on: an SQLite file,
caps on every resource with durable authorisation, cache, retries, rate limit, one call per rollout, exact match. DSPy
is `dspy.Evaluate` over `dspy.Predict("question -> answer")` with its cache off. The two take turns; of each the best
round counts. CPU is that of the whole process, all threads included: it says more on a machine that others use too.
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


def measure(calls: int, slots: int, rounds: int, with_peer: bool, directory: Path) -> dict[str, float]:
    """Milliseconds per call at one size."""
    questions = [f"Is the number {number} even?" for number in range(calls)]
    llm = ours.InProcessLLM(ANSWER)
    measures: dict[str, Callable[[], Taken]] = {
        "ours": lambda: ours.evaluate_all(questions, ANSWER, llm, slots, directory)
    }
    if with_peer:
        measures["dspy"] = lambda: peer.evaluate_all(questions, ANSWER, slots)
    result: dict[str, float] = {"calls": calls}
    for name, best in best_of(measures, rounds).items():
        result[f"{name}_ms"] = round(best.wall / calls * 1e3, 4)
        result[f"{name}_cpu_ms"] = round(best.cpu / calls * 1e3, 4)
    return result


def line(result: dict[str, float]) -> str:
    """One result in words."""
    text = f"{result['calls']:>7,} calls: ours {result['ours_ms']:.3f} ms per call (CPU {result['ours_cpu_ms']:.3f})"
    if "dspy_ms" not in result:
        return text
    ratio, cpu_ratio = result["ours_ms"] / result["dspy_ms"], result["ours_cpu_ms"] / result["dspy_cpu_ms"]
    return (
        f"{text}, dspy {result['dspy_ms']:.3f} ms (CPU {result['dspy_cpu_ms']:.3f}), "
        f"ratio {ratio:.2f} (CPU {cpu_ratio:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="1000,20000", help="sizes, separated by commas")
    parser.add_argument("--slots", type=int, default=16, help="calls in flight, and DSPy's threads")
    parser.add_argument("--rounds", type=int, default=2, help="of each the best counts")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with_peer = peer.wanted(options.no_peer)
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for calls in map(int, options.calls.split(",")):
            result = measure(calls, options.slots, options.rounds, with_peer, Path(directory))
            print(line(result), flush=True)
            results.append(result)
    if options.json is not None:
        options.json.write_text(json.dumps({"dspy": peer.version() if with_peer else None, "overhead": results}))


if __name__ == "__main__":
    main()
