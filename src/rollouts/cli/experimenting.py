"""What `rollouts experiment` does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from rollouts.cli import failures, reports, words
from rollouts.experiments.sweep import compare as comparing
from rollouts.experiments.sweep.cells import grid
from rollouts.experiments.sweep.config import Experiment, load_experiment, to_toml
from rollouts.experiments.sweep.records import RunRecord, load_settings
from rollouts.experiments.sweep.run import Runner, Sweep
from rollouts.experiments.sweep.subject import Subject
from rollouts.prompt_optimization.interrupts import Interrupts
from rollouts.stats import Interval
from rollouts.stats.methods import Test, Unit

REPORT = "report.html"
_HEARTBEAT_S = 15.0
_STYLES = {"better": "green", "worse": "red", "too few seeds": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asks for beside the experiment's own settings."""

    out: Path | None = None
    resume: bool = False
    dry_run: bool = False
    as_json: bool = False


def run(file: Path, changes: Mapping[str, Any], wishes: Wishes) -> int:
    """Runs an experiment, or shows what it would do, and returns the exit code."""
    console = words.make_console(stderr=wishes.as_json)
    experiment = load_experiment(file, changes)
    for note in experiment.notes:
        console.print(f"note: {note}", style="dim", soft_wrap=True)
    if wishes.dry_run:
        return _dry_run(console, experiment, as_json=wishes.as_json)
    folder = wishes.out or Path("results") / experiment.config.name
    runner = Runner(experiment, folder, resume=wishes.resume, told=lambda *told: _say(console, *told))
    sweep, interrupted = asyncio.run(_watched(console, runner))
    tables = comparing.compare(sweep.records, baseline=experiment.baseline) if sweep.records else []
    if sweep.records and find_spec("plotly") is not None:
        _write_report(sweep.records, folder / REPORT, experiment.resolved, experiment.baseline)
    if wishes.as_json:
        failures.print_json(words.plain(_sweep_json(sweep, tables, folder)))
    else:
        _show_sweep(console, sweep, tables, folder)
    if interrupted is not None:
        console.print("interrupted: nothing is lost; go on with --resume", style="yellow", soft_wrap=True)
        return interrupted
    return failures.FAILED if any(record.status == "failed" for record in sweep.records) else 0


def compare(
    places: Sequence[Path], *, baseline: str | None, unit: str, test: str, confidence: float, as_json: bool
) -> int:
    """The table of the methods of one or more experiments."""
    records, named = comparing.gather(places)
    tables = comparing.compare(
        records, baseline=baseline or named, unit=cast(Unit, unit), test=cast(Test, test), confidence=confidence
    )
    if as_json:
        failures.print_json(words.plain({"tables": [table.to_json() for table in tables]}))
    else:
        console = words.make_console()
        for table in tables:
            _show_table(console, table)
    return 0


def report(places: Sequence[Path], out: Path | None, *, baseline: str | None) -> int:
    """Writes the report of one or more experiments."""
    records, named = comparing.gather(places)
    first = places[0] if places[0].is_dir() else places[0].parent
    config = load_settings(places[0]) if len(places) == 1 else {}
    path = out or first / REPORT
    _write_report(records, path, config, baseline or named)
    words.make_console().print(f"wrote {path}", soft_wrap=True)
    return 0


def _write_report(records: Sequence[RunRecord], path: Path, config: Mapping[str, Any], baseline: str | None) -> None:
    from rollouts.experiments.sweep.report import write_report  # an optional package

    write_report(records, path, config=config, baseline=baseline)


async def _watched(console: Console, runner: Runner) -> tuple[Sweep, int | None]:
    """Runs to the end or to a signal; says from time to time what is under way."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            told = [f"{study.run_id} ({study.phase}, best {words.score(study.best_score)})" for study in runner.studies]
            console.print(f"running: {', '.join(told)}", style="dim", soft_wrap=True)

    interrupts = Interrupts(runner.stop, keep=runner.flush)
    heart = asyncio.create_task(beat())
    try:
        with interrupts.installed():
            return await runner.run(), interrupts.exit_code
    finally:
        heart.cancel()


def _say(console: Console, record: RunRecord, ended: int, total: int) -> None:
    if record.status == "done":
        start = f" (start {words.score(record.start['mean'])})" if record.start and record.budget else ""
        text = f"{words.score(record.mean)}{start}, {words.count(record.spend['rollouts'])} rollouts, "
        text += f"{words.usd(record.spend['micros'] / 1e6)}, {words.seconds(record.elapsed_s)}"
    else:
        text = f"{record.status}: {record.error}"
    style = {"failed": "red", "skipped": "yellow"}.get(record.status)
    console.print(f"{ended}/{total} {record.run}: {text}", style=style, soft_wrap=True)


def _dry_run(console: Console, experiment: Experiment, *, as_json: bool) -> int:
    cells = grid(experiment)
    Subject(experiment)
    if as_json:
        runs = [cell.name for cell in cells]
        failures.print_json(words.plain({"config": experiment.resolved, "runs": runs, "dry_run": True}))
        return 0
    console.print(to_toml(experiment.resolved), soft_wrap=True)
    console.print(f"\n{len(cells)} runs, {experiment.config.jobs} at once: {cells[0].name} ... {cells[-1].name}")
    for line in reports.caps_lines(experiment.config.total.budget):
        console.print(f"{line}, all runs together")
    return 0


def _sweep_json(sweep: Sweep, tables: Sequence[comparing.Table], folder: Path) -> dict[str, Any]:
    runs = [
        {name: getattr(record, name) for name in ("run", "status", "score", "error", "spend")}
        for record in sweep.records
    ]
    return {
        "folder": str(folder),
        "left": sweep.left,
        "spend": reports.spend_json(sweep.spend),
        "runs": runs,
        "tables": [table.to_json() for table in tables],
    }


def _show_sweep(console: Console, sweep: Sweep, tables: Sequence[comparing.Table], folder: Path) -> None:
    for table in tables:
        _show_table(console, table)
    spend = sweep.spend
    took = (
        f"{words.count(spend.rollouts)} rollouts, {words.count(spend.calls)} calls, {words.count(spend.tokens)} tokens"
    )
    console.print(f"All runs together took {took}, {words.usd(spend.usd)}.", soft_wrap=True)
    if sweep.left:
        console.print(f"{sweep.left} runs are not done; go on with --resume", style="yellow", soft_wrap=True)
    console.print(f"Results: {folder}", soft_wrap=True)
    if (folder / REPORT).exists():
        console.print(f"Report: {folder / REPORT}", soft_wrap=True)


def _show_table(console: Console, table: comparing.Table) -> None:
    shown = Table(title=f"Budget {table.budget}" if table.budget else "Methods", title_justify="left")
    for column in ("method", "test score", "interval", "difference", "p (Holm)", "runs", "rollouts", "cost", "verdict"):
        shown.add_column(column, justify="left" if column in ("method", "verdict") else "right", no_wrap=True)
    compared = {} if table.against is None else {row.method: row for row in table.against.rows}
    for method in table.methods:
        row, spend = compared.get(method.method), method.spend
        verdict = "baseline" if row is None else row.verdict
        shown.add_row(
            method.method,
            *_cells(method.score),
            "" if row is None else f"{row.difference.mean:+.3f}",
            "" if row is None else f"{row.p_holm:.2g}",
            str(method.score.n),
            words.count(spend.get("rollouts", 0)),
            words.usd(spend.get("micros", 0) / 1e6),
            verdict,
            style=_STYLES.get(verdict),
        )
    console.print(shown)
    for said, why in table.verdicts():
        console.print(f"{said}: {why}", soft_wrap=True)
    for note in table.notes:
        console.print(f"Note: {note}.", style="yellow", soft_wrap=True)
    console.print()


def _cells(interval: Interval) -> tuple[str, str]:
    if not math.isfinite(interval.mean):
        return "–", "–"
    return words.score(interval.mean), f"{words.score(interval.low)} to {words.score(interval.high)}"
