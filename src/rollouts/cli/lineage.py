"""The tables of `rollouts runs show`: trials, and the children of GEPA with their parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from rollouts.cli import words


def trials_table(history: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each trial; GEPA's are generations."""
    evolved = "members" in history[0]
    table = Table(title="Generations" if evolved else "Trials", title_justify="left")
    last = ("candidates", "front") if evolved else ("demos", "instruction")
    for column in ("generation" if evolved else "trial", "score", "best", "rows", *last):
        table.add_column(column, justify="right")
    for trial in history:
        scores = (words.score(trial.get("score")), words.score(trial.get("best")), str(trial.get("scored", "")))
        rest = (trial["members"], trial["front"]) if evolved else _made_of(trial)
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
