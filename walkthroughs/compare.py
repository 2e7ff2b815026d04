"""Both walkthroughs side by side: score, prompt, calls, convergence. Reads the files that they have left.

python walkthroughs/compare.py [MIPRO_DIR GEPA_DIR]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from rollouts.cli import words
from rollouts.cli.listing import curve

FOLDERS = ("/tmp/mipro_walkthrough", "/tmp/gepa_walkthrough")  # noqa: S108 - where the walkthroughs work


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a walkthrough left in its results folder."""

    prompt: Mapping[str, Any]
    history: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.metadata["config"]["prompt_learning"]["algorithm"]).upper()

    @property
    def tested(self) -> Mapping[str, Any]:
        """Mean, interval and n of the winner on the test samples; empty where there was no test."""
        verdict = self.metadata["verdict"] or {}
        return verdict["best"] if verdict.get("n") else {}

    @property
    def leaders(self) -> list[float]:
        """The estimate of the best candidate after each iteration."""
        return [trial["best_score"] for trial in self.history["trials"] if trial["best_score"] is not None]

    @property
    def settled(self) -> int:
        """The iteration after which the leader's estimate rose no more."""
        return 1 + self.leaders.index(max(self.leaders)) if self.leaders else 0

    def spent(self, name: str) -> int:
        return int(self.metadata["spend"]["total"][name])


def read(folder: Path) -> Ended:
    """The results below a walkthrough's folder. Exits with a text where there are none."""
    files = {name: folder / "results" / f"{name}.json" for name in ("best_prompt", "score_history", "job_metadata")}
    try:
        prompt, history, metadata = (json.loads(file.read_text(encoding="utf-8")) for file in files.values())
    except (OSError, ValueError) as error:
        sys.exit(f"{folder}: there are no results to read ({error}); run the walkthrough first")
    return Ended(prompt=prompt, history=history, metadata=metadata)


def table(runs: Sequence[Ended]) -> list[str]:
    """A line for each figure."""
    rows = {
        "": [run.name for run in runs],
        "test score": [_test(run.tested) for run in runs],
        "starting prompt": [_test((run.metadata["verdict"] or {}).get("baseline", {})) for run in runs],
        "verdict": [(run.metadata["verdict"] or {}).get("decision", "none") for run in runs],
        "budget": [_budget(run) for run in runs],
        "evaluations": [words.count(run.spent("rollouts")) for run in runs],
        "model calls": [words.count(run.spent("calls")) for run in runs],
        "tokens": [words.count(run.spent("tokens")) for run in runs],
        "dollars": [words.usd(run.spent("micros") / 1e6) for run in runs],
        "time": [_time(run.metadata["job"]) for run in runs],
        "iterations": [str(len(run.history["trials"])) for run in runs],
        "leader by iteration": [curve(run.leaders) if run.leaders else "–" for run in runs],
        "instruction": [f"{len(run.prompt['instruction']['content'].split())} words" for run in runs],
        "demonstrations": [str(len(run.prompt["demonstrations"])) for run in runs],
    }
    width = 2 + max(len(cell) for cells in rows.values() for cell in cells)
    return [f"{name:22}" + "".join(f"{cell:{width}}" for cell in cells).rstrip() for name, cells in rows.items()]


def said(first: Ended, second: Ended) -> list[str]:
    """The comparison in words."""
    return [_scores(first, second), _calls(first, second), *(_convergence(run) for run in (first, second))]


def _scores(first: Ended, second: Ended) -> str:
    one, two = first.tested, second.tested
    if not one or not two:
        return "Score: not both were tested, so there is nothing to compare."
    if one["mean"] == two["mean"]:
        return f"Score: both have {one['mean']:.2f} on the test samples."
    better, gap = (first if one["mean"] > two["mean"] else second), abs(one["mean"] - two["mean"])
    apart = one["low"] > two["high"] or two["low"] > one["high"]
    sure = "their 95 % intervals do not overlap" if apart else "their 95 % intervals overlap, so it may be chance"
    return f"Score: {better.name} is better by {gap:.2f} on the test samples; {sure}."


def _calls(first: Ended, second: Ended) -> str:
    one, two = first.spent("calls"), second.spent("calls")
    if one == two:
        return f"Calls: both made {one}."
    fewer, (low, high) = (first if one < two else second), sorted((one, two))
    return f"Calls: {fewer.name} made {high - low} fewer ({low} and {high})."


def _convergence(run: Ended) -> str:
    if not run.leaders:
        return f"Convergence: {run.name} ended before its first iteration did."
    count = len(run.leaders)
    if max(run.leaders) == min(run.leaders):
        return f"Convergence: {run.name}'s leader stayed at {run.leaders[0]:.2f} through all {count} iterations."
    return f"Convergence: {run.name}'s leader was best after iteration {run.settled} of {count}."


def _test(tested: Mapping[str, Any]) -> str:
    if not tested:
        return "–"
    return f"{tested['mean']:.2f} ({tested['low']:.2f} to {tested['high']:.2f}, n = {tested['n']})"


def _budget(run: Ended) -> str:
    cap = run.metadata["config"]["prompt_learning"]["termination_config"].get("budget")
    return "none" if cap is None else words.count(cap)


def _time(job: Mapping[str, Any]) -> str:
    return words.seconds(job["finished_at"] - job["started_at"])


def _prompt(run: Ended) -> list[str]:
    shown = [f"  {demo['query']} -> {demo['label']}" for demo in run.prompt["demonstrations"]]
    return ["", f"{run.name}'s prompt:", indent(run.prompt["instruction"]["content"], "  "), *shown]


def main(arguments: Sequence[str]) -> None:
    if len(arguments) not in (0, len(FOLDERS)):
        sys.exit(__doc__)
    first, second = (read(Path(folder)) for folder in arguments or FOLDERS)
    lines = [*table((first, second)), "", *said(first, second), *_prompt(first), *_prompt(second)]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
