"""The report's page: everything in one file, nothing loaded from anywhere."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from rollouts.budget import Spend
from rollouts.errors import ConfigError
from rollouts.experiments.sweep.compare import Table, compare
from rollouts.experiments.sweep.methods import START
from rollouts.experiments.sweep.records import RunRecord
from rollouts.experiments.sweep.report import figures
from rollouts.experiments.sweep.report.parts import Figure, Palette
from rollouts.experiments.sweep.report.prompts import prompt_changes
from rollouts.experiments.sweep.report.tables import method_table, run_table

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

_CAPS = {
    "max_rollouts": "rollouts",
    "max_calls": "calls",
    "max_tokens": "tokens",
    "max_cost_usd": "dollars",
    "max_seconds": "seconds",
}


def write_report(
    records: Sequence[RunRecord], path: Path, *, config: Mapping[str, Any] | None = None, baseline: str | None = None
) -> None:
    """Writes the report of `records` to `path`, one HTML file that needs no network.

    `config` are the experiment's settings, shown where they are given; `baseline` as in `compare`. Raises ConfigError
    where plotly is not installed or the file cannot be written.
    """
    page = html(records, config or {}, baseline)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}; name another with --out") from None


def html(records: Sequence[RunRecord], config: Mapping[str, Any], baseline: str | None) -> str:
    """The page."""
    palette = Palette.of(records)
    drawn: list[Figure] = []
    body = [_head(records, config)]
    tables = compare(records, baseline=baseline)
    for number, table in enumerate(tables):
        mine = [record for record in records if record.budget == table.budget or record.algorithm == START]
        body.append(f"<h2>{_budget(table, mine, len(tables))}</h2>{_result(table, palette)}")
        body.append(_plots(mine, palette, number, drawn))
    body += [prompt_changes(records), _details(records, config)]
    # "<" cannot end the script element early when it is written as an escape.
    told = json.dumps([figure.to_json() for figure in drawn], allow_nan=False).replace("<", "\\u003c")
    title = escape(_title(records, config))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{_asset("style.css")}</style>
</head>
<body>
<main>
{"".join(body)}
<footer>Made by rollouts on {time.strftime("%Y-%m-%d %H:%M")}. The file works offline.</footer>
</main>
<script type="application/json" id="figures">{told}</script>
<script>{_plotly()}</script>
<script>{_asset("script.js")}</script>
</body>
</html>
"""


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError("the report needs plotly: pip install 'rollouts-optimizer[report]'") from None
    return str(get_plotlyjs())


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _title(records: Sequence[RunRecord], config: Mapping[str, Any]) -> str:
    return str(config.get("name") or ", ".join(dict.fromkeys(record.experiment for record in records)))


def _head(records: Sequence[RunRecord], config: Mapping[str, Any]) -> str:
    done = [record for record in records if record.status == "done"]
    spend = sum((Spend.from_json(record.spend) for record in records), Spend())
    facts = {
        "task": _all(record.task for record in records),
        "model": _all(record.model for record in records),
        "methods": str(len({record.method for record in records})),
        "seeds": str(len({record.seed for record in records})),
        "runs done": f"{len(done)} of {len(records)}",
        "rollouts": f"{spend.rollouts:,}",
        "tokens": f"{spend.tokens:,}",
        "cost": f"${spend.usd:,.2f}" if spend.usd >= 0.01 or not spend.micros else f"${spend.usd:.4f}",
    }
    cells = "".join(f"<div><dt>{name}</dt><dd>{_breakable(value)}</dd></div>" for name, value in facts.items())
    lead = escape(str(config.get("description") or ""))
    return f'<h1>{escape(_title(records, config))}</h1><p class="lead">{lead}</p><dl class="facts">{cells}</dl>'


def _budget(table: Table, records: Sequence[RunRecord], tables: int) -> str:
    """The heading of a table: its budget's name where there are several, and the caps."""
    caps: Mapping[str, Any] = next((record.settings.get("budget", {}) for record in records if record.budget), {})
    words = " and ".join(f"{value:,} {_CAPS.get(cap, cap)}" for cap, value in caps.items())
    title = f"Budget {escape(table.budget)}" if tables > 1 else "Result"
    return f'{title} <small class="muted">at most {escape(words)} a run</small>' if words else title


def _breakable(text: str) -> str:
    """The text as HTML, which may be broken after its dashes and slashes."""
    return re.sub(r"([/_-])", r"\1<wbr>", escape(text))


def _all(values: Any) -> str:
    return ", ".join(dict.fromkeys(values))


def _result(table: Table, palette: Palette) -> str:
    words = "".join(f"<li>{escape(said)}<small>{escape(why)}</small></li>" for said, why in table.verdicts())
    listed = f'<ul class="words">{words}</ul>' if words else ""
    notes = "".join(f'<p class="caption">Note: {escape(note)}.</p>' for note in table.notes)
    return f'<div class="card">{listed}{method_table(table, palette)}{notes}</div>'


def _plots(records: Sequence[RunRecord], palette: Palette, number: int, drawn: list[Figure]) -> str:
    """The plots of one budget; they are added to `drawn`."""
    allocated = {name: [r for r in records if r.method == name and r.allocation] for name in palette.methods}
    rows: list[list[Figure | None]] = [
        [figures.progress(records, palette, number)],
        [
            figures.allocation(name, mine, number * len(allocated) + place)
            for place, (name, mine) in enumerate(allocated.items())
        ],
        [figures.head_room(records, palette, number)],
        list(figures.trade_offs(records, palette, number)),
    ]
    out = []
    for row in rows:
        shown = [figure for figure in row if figure is not None]
        drawn += shown
        cards = "".join(map(_card, shown))
        out.append(f'<div class="grid">{cards}</div>' if len(shown) > 1 else cards)
    return "".join(out)


def _card(figure: Figure) -> str:
    return (
        f'<div class="card"><h3>{escape(figure.title)}</h3><p class="caption">{escape(figure.caption)}</p>'
        f'<div class="plot" id="{escape(figure.id)}" style="height:{figure.height}px"></div></div>'
    )


def _details(records: Sequence[RunRecord], config: Mapping[str, Any]) -> str:
    settings = f"<details><summary>Settings</summary><pre>{escape(json.dumps(config, indent=2))}</pre></details>"
    return (
        f'<h2>Details</h2><div class="card"><details><summary>All runs</summary>{run_table(records)}</details>'
        f"{settings if config else ''}</div>"
    )
