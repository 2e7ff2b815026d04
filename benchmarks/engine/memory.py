"""Memory that evaluated rollouts keep: `python -m benchmarks.engine.memory [--calls 10000]`.

Each side runs in a process of its own: a first batch to warm up, then `--calls` different questions, whose results are
kept as a caller would. The figure is how much the process has grown by then, garbage collected, scaled to 100,000
rollouts. Ours has everything on, with every rollout in an SQLite file too; DSPy is `dspy.Evaluate` as it comes, cache
off, history on. The models answer at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.engine import ours, peer

ANSWER, SLOTS, WARM = "yes", 16, 1_000
_SIDES = ("ours", "dspy")


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def questions(first: int, count: int) -> list[str]:
    return [f"Is the number {number} even?" for number in range(first, first + count)]


def grown_by_ours(count: int) -> int:
    """Bytes that `count` rollouts of ours keep."""
    llm = ours.InProcessLLM(ANSWER)

    async def grown() -> int:
        with tempfile.TemporaryDirectory() as directory:
            async with ours.evaluating(llm, SLOTS, Path(directory)) as evaluate:
                kept = [await evaluate(questions(0, WARM), ANSWER)]
                before = resident()
                kept.append(await evaluate(questions(WARM, count), ANSWER))
                return resident() - before

    return asyncio.run(grown())


def grown_by_dspy(count: int) -> int:
    """Bytes that `count` rollouts of DSPy keep."""
    kept = [peer.evaluated(questions(0, WARM), ANSWER, SLOTS)]
    before = resident()
    kept.append(peer.evaluated(questions(WARM, count), ANSWER, SLOTS))
    return resident() - before


def in_a_process(side: str, calls: int) -> float:
    """Megabytes per 100,000 rollouts of one side."""
    command = [sys.executable, "-m", "benchmarks.engine.memory", "--side", side, "--calls", str(calls)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(said.split()[-1]) / calls * 1e5 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="of each side")
    parser.add_argument("--side", choices=_SIDES, help="print the bytes of one side, in this process")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.side is not None:
        print((grown_by_ours if options.side == "ours" else grown_by_dspy)(options.calls))
        return
    with_peer = peer.wanted(options.no_peer)
    sides = _SIDES if with_peer else _SIDES[:1]
    figures = {side: round(in_a_process(side, options.calls), 1) for side in sides}
    for side, size in figures.items():
        print(f"{side}: {size:,.0f} MB per 100,000 rollouts")
    if with_peer:
        print(f"ratio {figures['ours'] / figures['dspy']:.2f}")
    if options.json is not None:
        options.json.write_text(
            json.dumps({"dspy": peer.version() if with_peer else None, "calls": options.calls, "mb": figures})
        )


if __name__ == "__main__":
    main()
