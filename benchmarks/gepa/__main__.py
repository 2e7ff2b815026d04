"""Who finds the better prompt: `python -m benchmarks.gepa [--seeds 20] [--budgets 200,500,1500] [--json FILE]`.

Both get the same worlds, the same training and validation rows, the same reflector and the same number of metric calls;
the reference may pass its limit, as it does, and that is not held against it. Its result is the better of its two
settings: as it comes, and with merging and its cache on. A result is what the prompt is truly worth on unseen examples.
Seeds start at 1000: settings were chosen on smaller ones. `share` is the smallest part of a budget with which ours, run
anew, is on average as good as the reference with all of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gepa import ours, peer
from benchmarks.gepa.world import LAWS, World

GENERATIONS = 20
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FIRST_SEED = 1000
PEERS: dict[str, dict[str, Any]] = {"default": {}, "merge and cache": {"use_merge": True, "cache_evaluation": True}}


def ours_worth(law: str, calls: int, seeds: Sequence[int]) -> list[float]:
    """True worth of our result, by seed."""
    out = []
    for seed in seeds:
        world = World(LAWS[law], seed)
        text, taken = ours.optimize(world, calls, seed, generations=GENERATIONS)
        if taken > calls:
            raise RuntimeError(f"the cap of {calls} was passed: {taken}")
        out.append(world.truth(text))
    return out


def peer_worth(law: str, calls: int, seeds: Sequence[int], settings: dict[str, Any]) -> tuple[list[float], float]:
    """True worth of the reference's result by seed, and the metric calls that it took on average."""
    out, taken = [], []
    for seed in seeds:
        world = World(LAWS[law], seed)
        text, count = peer.optimize(world, calls, seed, **settings)
        out.append(world.truth(text))
        taken.append(count)
    return out, float(np.mean(taken))


def measure(law: str, calls: int, seeds: Sequence[int], with_peer: bool) -> dict[str, Any]:
    """One world and budget."""
    mine = ours_worth(law, calls, seeds)
    start = float(np.mean([World(LAWS[law], seed).truth("") for seed in seeds]))
    row: dict[str, Any] = {"world": law, "calls": calls, "start": start, "ours": float(np.mean(mine))}
    if not with_peer:
        return row
    runs = {name: peer_worth(law, calls, seeds, settings) for name, settings in PEERS.items()}
    best = max(runs, key=lambda name: float(np.mean(runs[name][0])))
    theirs, taken = runs[best]
    gaps = np.array(mine) - np.array(theirs)
    row |= {
        "gepa": float(np.mean(theirs)),
        "gepa_setting": best,
        "gepa_calls": taken,
        "gap": float(gaps.mean()),
        "gap_se": float(gaps.std(ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else None,
        "share": share(law, calls, seeds, row["ours"], float(np.mean(theirs))),
    }
    return row


def share(law: str, calls: int, seeds: Sequence[int], full: float, wanted: float) -> float | None:
    """The smallest share of the calls with which ours is as good; None when not even all are enough."""
    for part in SHARES:
        if float(np.mean(ours_worth(law, int(part * calls), seeds))) >= wanted:
            return part
    return 1.0 if full >= wanted else None


def line(row: dict[str, Any]) -> str:
    """One result in words."""
    text = f"{row['world']:>15} {row['calls']:>6,} calls: start {row['start']:.3f}, ours {row['ours']:.3f}"
    if "gepa" not in row:
        return text
    error = "" if row["gap_se"] is None else f" +- {row['gap_se']:.3f}"
    return (
        f"{text}, gepa {row['gepa']:.3f} ({row['gepa_setting']}, {row['gepa_calls']:,.0f} calls), "
        f"gap {row['gap']:+.3f}{error}, share {row['share']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budgets", default="200,500,1500", help="metric calls, separated by commas")
    parser.add_argument("--worlds", default=",".join(LAWS), help="names, separated by commas")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with_peer = peer.wanted(options.no_peer)
    rows = []
    for law in options.worlds.split(","):
        for calls in map(int, options.budgets.split(",")):
            rows.append(measure(law, calls, range(FIRST_SEED, FIRST_SEED + options.seeds), with_peer))
            print(line(rows[-1]), flush=True)
    if options.json is not None:
        found = {"gepa": peer.version() if with_peer else None, "seeds": options.seeds, "results": rows}
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
