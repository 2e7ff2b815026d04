"""`rollouts evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rollouts.cli import failures, reports, words
from rollouts.cli.optimizing import below
from rollouts.cli.running import prepared, watched
from rollouts.dtypes import Program
from rollouts.experiments.evaluating import EvaluationReport, choose_rows, evaluate_prompt
from rollouts.experiments.loading import LoadedConfig
from rollouts.prompt_optimization import StudyOptions
from rollouts.prompt_optimization.saving import load_program, load_prompt
from rollouts.store import open_store

_WORST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What to score on which rows, and what to do with the score."""

    prompt: Path | None = None
    part: str = "test"
    limit: int | None = None
    repeats: int = 1
    fail_under: float | None = None
    as_json: bool = False


def evaluate(loaded: LoadedConfig, wishes: Wishes) -> int:
    """Scores a prompt and returns the exit code."""
    console = words.make_console(stderr=wishes.as_json)
    job = prepared(loaded, console)
    program = job.start if wishes.prompt is None else _read(wishes.prompt, job.start)
    rows = choose_rows(job, wishes.part, wishes.limit)
    store = open_store(job.store)

    async def work(options: StudyOptions) -> EvaluationReport:
        return await evaluate_prompt(job, store, program, rows, repeats=wishes.repeats, options=options)

    try:
        ended = watched(console, job.options, work)
    finally:
        store.close()
    report: EvaluationReport = ended.value
    if wishes.as_json:
        failures.print_json(words.plain(report_json(report, wishes.part)))
    else:
        _show(console, report, wishes.part)
    if ended.interrupted is not None:
        return ended.interrupted
    summary = report.summary
    if wishes.fail_under is not None and summary.missing:
        told = f"--fail-under asks for all rows, and {summary.missing} did not fit in the limits"
        console.print(told, style="red", soft_wrap=True)
        return failures.BELOW
    return below(wishes.fail_under, summary.mean, console, scored=summary.scored, failed=summary.failed)


def _read(path: Path, start: Program) -> Program:
    """The job's program with the prompts of a file."""
    if len(start.modules) == 1:
        return start.with_modules(dict.fromkeys(start.modules, load_prompt(path)))
    return start.with_modules(load_program(path, start.run).modules)


def report_json(report: EvaluationReport, part: str) -> dict[str, Any]:
    """The one object of `--json`."""
    summary = report.summary
    return {
        "run_id": report.run_id,
        "split": part,
        "score": reports.interval_json(report.interval),
        "rollouts": {
            "scored": summary.scored,
            "failed": summary.failed,
            "missing": summary.missing,
            "cached": report.cached,
        },
        "failures": dict(summary.failures),
        "repeats": list(report.repeats),
        "unsteady": report.unsteady,
        "notes": list(report.notes),
        "worst": [
            {
                "id": row.sample.id,
                "score": row.score,
                "inputs": dict(row.sample.inputs),
                "expected": row.sample.ground_truth,
                "output": row.output,
                "feedback": row.feedback,
            }
            for row in report.rows[:_WORST]
        ],
        "spend": {"total": reports.spend_json(report.spend), "elapsed_s": report.elapsed_s},
        "stop_reason": report.stop_reason,
    }


def _show(console: Console, report: EvaluationReport, part: str) -> None:
    interval, summary = report.interval, report.summary
    ends = f"{100 * report.confidence:g} %: {words.score(interval.low)} to {words.score(interval.high)}"
    console.print(f"Score on {part}: {words.score(interval.mean)} ({ends}) over {interval.n} rows")
    counts = f"{summary.scored} rollouts scored, {summary.failed} failed, {summary.missing} left out"
    console.print(f"{counts}; {report.cached} were known already")
    if len(report.repeats) > 1:
        means = ", ".join(map(words.score, report.repeats))
        console.print(f"by repeat: {means}; {report.unsteady} of {interval.n} rows changed their score")
    for reason, times in summary.failures.items():
        console.print(f"  failed {times} x: {words.short(reason, 200)}", style="red", soft_wrap=True)
    for note in report.notes:
        console.print(f"Note: {note}.", style="yellow", soft_wrap=True)
    if report.stop_reason:
        console.print(f"ended early: {report.stop_reason}", style="yellow", soft_wrap=True)
    table = Table(title="Worst rows", title_justify="left")
    for column in ("id", "score", "input", "expected", "output"):
        table.add_column(column)
    for row in report.rows[:_WORST]:
        inputs = " ".join(map(words.told, row.sample.inputs.values()))
        table.add_row(
            row.sample.id,
            words.score(row.score),
            words.short(inputs, 60),
            words.short(words.told(row.sample.ground_truth), 30),
            words.short(row.output, 30),
        )
    if report.rows:
        console.print(table)
    spend = report.spend
    console.print(
        f"Spent {words.usd(spend.usd)}, {spend.tokens:,} tokens, {spend.calls:,} calls; "
        f"{words.seconds(report.elapsed_s)}; run {report.run_id}"
    )
