"""Which module holds a program back, and where r-MIPRO spent for it: `rollouts runs bottleneck`."""

from __future__ import annotations

from rollouts.cli import failures, words
from rollouts.cli.lineage import modules_table
from rollouts.cli.progress import given_text
from rollouts.cli.runs import check_search, find_search, stored
from rollouts.errors import ConfigError
from rollouts.experiments.job import numbered
from rollouts.prompt_optimization.scheduling.credit import Stretch, bottleneck_table, stretches

_SOURCES = {
    "scores": "Head-room is what a module's own score lacks to 1, with a 95 % interval.",
    "swaps": "Head-room is what the best candidate tried of a module would gain the program, with a 95 % interval.",
}
_UNITS = {"micros": "money", "seconds": "time"}


def bottleneck(place: str | None, run_id: str, *, as_json: bool) -> int:
    """A run's modules by head-room, and why the trials went where they did. Raises ConfigError for a run without
    rounds of r-MIPRO."""
    with stored(place) as store:
        run = find_search(store, run_id)
        check_search(run)
        rounds = numbered(store, run.id, "round")
    if not rounds:
        other = f"its method is {run.method}, start one with --method rmipro"
        why = "it ended before its first round" if run.method == "rmipro" else other
        raise ConfigError(f"run {run.id} divided no trials among modules: {why}")
    lines, why_there, scarcest = bottleneck_table(rounds), stretches(rounds), str(rounds[-1]["scarcest"])
    if as_json:
        found = {
            "run_id": run.id,
            "scarcest": scarcest,
            "modules": [line.to_json() for line in lines],
            "stretches": [stretch.to_json() for stretch in why_there],
        }
        failures.print_json(words.plain(found))
        return 0
    console = words.make_console()
    console.print(modules_table([line.to_json() for line in lines]))
    console.print(_SOURCES[lines[0].source], soft_wrap=True)
    console.print(f"Most used up, of what has a cap: {_UNITS.get(scarcest, scarcest)}. Where the trials went, and why:")
    for stretch in why_there:
        console.print(f"  {_told(stretch)}", soft_wrap=True)
    return 0


def _told(stretch: Stretch) -> str:
    rounds = f"round {stretch.first}" if stretch.first == stretch.last else f"rounds {stretch.first} to {stretch.last}"
    return f"{rounds}: {given_text(stretch.trials)}; {stretch.reason}"
