"""All benchmarks as ratios, against the committed baseline: `scripts/bench --quick|--full [--update]`.

Each part runs in a process of its own, some of them three times, and the median of each ratio counts. A part with a
ratio that is worse than the baseline by more than 20 % runs once more before it is judged, and of the two the better
counts. What a part needs and is not there leaves it out, and says so.

Writes benchmarks/results/quick.json or full.json, and says which ratios are worse than in baseline.json, which parts
broke, which ratios of the baseline a part no longer has, and which it has without a baseline. Ends with 1 for any of
the first three, else with 3 for the last. `--update` takes the ratios into baseline.json instead of judging them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.mipro_comparison.outcome import machine, versions
from benchmarks.suite.parts import FULL, OUT, QUICK, Part
from benchmarks.suite.ratios import WORST, Ratio, better, change, medians, regressions, vanished

RESULTS = Path(__file__).resolve().parents[1] / "results"
BASELINE = "baseline.json"
WORSE, UNKNOWN = 1, 3
"""Exit codes; 2 is argparse's."""


class PartFailed(Exception):
    """A part ended badly or wrote no ratio that can be read; the text has its last lines."""


def run(part: Part) -> list[Ratio]:
    """Its ratios, from one run in a process of its own. Raises PartFailed."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        command = [word.replace(OUT, str(out)) for word in part.command]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PartFailed("\n".join((done.stderr or done.stdout).strip().splitlines()[-5:]))
        if part.printed:
            out.write_text(done.stdout.strip().splitlines()[-1], encoding="utf-8")
        try:
            found = [replace(ratio, part=part.name) for ratio in part.read(out)]
        except (OSError, ValueError, KeyError, ZeroDivisionError) as error:
            raise PartFailed(f"its figures cannot be read: {error!r}") from error
    if not found:
        raise PartFailed("there is no ratio in what it wrote")
    return found


def measured(part: Part, before: Mapping[str, Ratio]) -> list[Ratio]:
    """The medians of its rounds; run once more where one of them is worse than before. Raises PartFailed."""
    ratios = medians([run(part) for _ in range(part.rounds)])
    if regressions(before, ratios):
        print("  worse than the baseline: once more", flush=True)
        again = {ratio.name: ratio for ratio in run(part)}
        ratios = [better(ratio, again.get(ratio.name, ratio)) for ratio in ratios]
    return ratios


def read_baseline(folder: Path, mode: str) -> dict[str, Ratio]:
    """The ratios to compare with, by name; none where there is no file. For `full` those of `quick` stand in, but only
    of parts that both run with the same settings."""
    path = folder / BASELINE
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def ratios(kind: str) -> dict[str, Ratio]:
        return {name: Ratio.from_json(name, data) for name, data in known.get(kind, {}).get("ratios", {}).items()}

    shared = {part.name for part in QUICK if part in FULL} if mode == "full" else set()
    return {name: ratio for name, ratio in ratios("quick").items() if ratio.part in shared} | ratios(mode)


def record(ratios: Sequence[Ratio], left_out: Mapping[str, str]) -> dict[str, Any]:
    """What is written of a run."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "ratios": {ratio.name: rounded(ratio).to_json() for ratio in ratios},
        "left_out": dict(left_out),
    }


def rounded(ratio: Ratio) -> Ratio:
    """To four digits, so that the files can be read."""
    return replace(ratio, value=float(f"{ratio.value:.4g}"))


def write(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def update(folder: Path, mode: str, now: Mapping[str, Any], parts: Collection[str]) -> None:
    """Takes a run into the baseline, in which `parts` ended well. Ratios of other parts stay as they are."""
    path = folder / BASELINE
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    old = known.get(mode, {}).get("ratios", {})
    ratios = {name: data for name, data in old.items() if data.get("part") not in parts} | now["ratios"]
    kept = {name: value for name, value in now.items() if name != "left_out"}
    write(path, {**known, mode: {**kept, "ratios": ratios}})


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--quick", dest="mode", action="store_const", const="quick", help="a few minutes, no model")
    mode.add_argument("--full", dest="mode", action="store_const", const="full", help="everything; may take hours")
    parser.add_argument("--update", action="store_true", help="make the ratios the new baseline")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="this part; may be repeated")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of results and baseline")
    options = parser.parse_args(argv)
    options.parts = QUICK if options.mode == "quick" else FULL
    if unknown := set(options.only) - {part.name for part in options.parts}:
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(part.name for part in options.parts)})")
    options.parts = [part for part in options.parts if part.name in options.only or not options.only]
    return options


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    options = parse(argv)
    before = read_baseline(options.results, options.mode)
    ratios: list[Ratio] = []
    left_out: dict[str, str] = {}
    broken: list[str] = []
    for part in options.parts:
        if missing := part.missing():
            left_out[part.name] = f"needs {', '.join(missing)}"
            print(f"{part.name}: left out, {left_out[part.name]}", flush=True)
            continue
        print(f"{part.name} ...", flush=True)
        try:
            found = measured(part, {} if options.update else before)
        except PartFailed as error:
            print(f"  broken: {error}", flush=True)
            broken.append(part.name)
            continue
        ratios += found
        print("\n".join(f"  {ratio.line(before.get(ratio.name))}" for ratio in found), flush=True)
    now = record(ratios, left_out)
    write(options.results / f"{options.mode}.json", now)
    ended = {part.name for part in options.parts} - {*left_out, *broken}
    if options.update:
        update(options.results, options.mode, now, ended)
        return WORSE if broken else 0
    worse, gone = regressions(before, ratios), vanished(before, ratios, ended)
    unknown = [ratio.name for ratio in ratios if ratio.name not in before]
    for ratio in worse:
        print(f"WORSE by more than {WORST:.0%}: {ratio.name}: {change(before[ratio.name], ratio)}")
    for ratio in gone:
        print(f"BROKEN: {ratio.part} no longer has the ratio: {ratio.name}")
    for name in broken:
        print(f"BROKEN: {name}")
    for name in unknown:
        print(f"NOT COMPARED: {name}")
    if unknown:
        print(f"no baseline for --{options.mode} has these: run with --update")
    return WORSE if worse or gone or broken else UNKNOWN if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
