"""The tables of a run: trials, the children of GEPA with their parents, the modules of r-MIPRO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from rollouts.cli import words
from rollouts.cli.progress import given_text

_OF_MODULES = ("module", "head-room", "interval", "trials", "share", "calls", "tokens", "dollars", "taken", "gained")


def trials_table(history: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each trial; GEPA's are generations, r-MIPRO's are rounds of trials."""
    evolved, divided = "members" in history[0], "given" in history[0]
    unit = "generation" if evolved else "round" if divided else "trial"
    table = Table(title=f"{unit.title()}s", title_justify="left")
    last = ("candidates", "front") if evolved else ("trials",) if divided else ("demos", "instruction")
    for column in (unit, "score", "best", "rows", *last):
        table.add_column(column, justify="right")
    for trial in history:
        scores = (words.score(trial.get("score")), words.score(trial.get("best")), str(trial.get("scored", "")))
        rest: tuple[Any, ...] = (given_text(trial["given"]),) if divided else _made_of(trial)
        if evolved:
            rest = (trial["members"], trial["front"])
        table.add_row(str(trial["trial"]), *scores, *map(str, rest))
    return table


def _made_of(trial: Mapping[str, Any]) -> tuple[str, str]:
    """Number of demonstrations and source of the instruction, of every module."""
    if trial.get("candidates", 1) > 1:
        return "", f"{trial['candidates']} candidates"
    parts = (trial.get("modules") or {"": trial}).values()
    demos = (str(part.get("demos", "")) for part in parts)
    return ", ".join(demos), ", ".join(str(part.get("instruction_source", "")) for part in parts)


def lineage_table(children: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each child, in the order of making; those that were rejected have no id."""
    table = Table(title="Lineage (g0 is the start)", title_justify="left")
    for column in ("child", "id", "parents", "origin", "gap", "rows", "accepted, or why not"):
        table.add_column(column, justify="right" if column in ("child", "gap", "rows") else "left", overflow="fold")
    for child in children:
        gap = child.get("gap")
        table.add_row(
            str(child["child"]),
            child["id"] or "–",
            ", ".join(child["parents"]),
            child["origin"],
            "–" if gap is None else f"{gap:+.3f}",
            str(child["scored"]),
            "accepted" if child["accepted"] else words.short(child["reason"], 120),
        )
    return table


def modules_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each module, given as `ModuleReport.to_json`, the one with the most head-room first."""
    table = Table(title="Modules by head-room", title_justify="left")
    for column in _OF_MODULES:
        table.add_column(column, justify="left" if column == "module" else "right")
    for line in lines:
        spend = line["spend"]
        table.add_row(
            line["module"],
            words.score(line["room"]),
            f"{words.score(line['low'])} to {words.score(line['high'])}",
            str(line["trials"]),
            f"{line['share']:.0%}",
            words.count(spend["calls"]),
            words.count(spend["tokens"]),
            words.usd(spend["micros"] / 1e6),
            str(line["adopted"]),
            f"{line['gained']:+.3f}",
        )
    return table
