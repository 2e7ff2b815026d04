"""`rollouts optimize --check`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from rollouts.cli import failures, reports, words
from rollouts.cli.running import watched
from rollouts.experiments.headroom import CheckReport, check_head_room
from rollouts.experiments.job import Job
from rollouts.prompt_optimization import StudyOptions
from rollouts.stats import Interval
from rollouts.store import open_store


def check(job: Job, console: Console, *, as_json: bool) -> int:
    """Says whether the job has anything to gain; the exit code is NOTHING_TO_GAIN when it has not."""
    store = open_store(job.store)

    async def work(options: StudyOptions) -> CheckReport:
        return await check_head_room(job, store, options=options)

    try:
        ended = watched(console, job.options, work)
    finally:
        store.close()
    report: CheckReport = ended.value
    if as_json:
        failures.print_json(words.plain(check_json(report)))
    else:
        _show(console, report)
    if ended.interrupted is not None:
        return ended.interrupted
    return 0 if report.head_room.worth else failures.NOTHING_TO_GAIN


def check_json(report: CheckReport) -> dict[str, Any]:
    """The one object of `--json`."""
    found = report.head_room
    return {
        "run_id": report.run_id,
        **found.to_json(),
        "baseline": reports.interval_json(found.baseline),
        "variants": [{"name": v.name, "score": reports.interval_json(v.score)} for v in report.variants],
        "rows": report.rows,
        "test_rows": report.test_rows,
        "failed": report.failed,
        "spend": {"total": reports.spend_json(report.spend), "elapsed_s": report.elapsed_s},
        "stop_reason": report.stop_reason,
        "check": True,
    }


def _show(console: Console, report: CheckReport) -> None:
    found = report.head_room
    table = Table(title=f"The same {report.rows} validation rows for all", title_justify="left")
    for column in ("prompt", "score", "95 % interval"):
        table.add_column(column, justify="left" if column == "prompt" else "right")
    for name, score in (("yours", found.baseline), *((v.name, v.score) for v in report.variants)):
        table.add_row(name, *_cells(score))
    console.print(table)
    for line in _lines(report):
        console.print(line, soft_wrap=True)
    if report.stop_reason:
        console.print(f"ended early: {report.stop_reason}", style="yellow", soft_wrap=True)
    style = "bold green" if found.worth else "bold yellow"
    console.print(f"Advice: {found.advice}.", style=style, soft_wrap=True)
    spend = report.spend
    console.print(
        f"Spent {words.usd(spend.usd)}, {spend.tokens:,} tokens, {spend.calls:,} calls; {report.failed} failed; "
        f"{words.seconds(report.elapsed_s)}; run {report.run_id}"
    )


def _cells(score: Interval) -> tuple[str, str]:
    return words.score(score.mean), f"{words.score(score.low)} to {words.score(score.high)}"


def _lines(report: CheckReport) -> list[str]:
    found, out = report.head_room, []
    if found.room is not None:
        out.append(f"Below the best possible score: {words.score(found.room)}")
    if found.reached is not None:
        out.append(f"Best of all prompts, row by row: {words.score(found.reached)}")
    if found.spread is not None and found.spread_p is not None:
        chance = "more than" if found.spread_p < 0.05 else "no more than"
        out.append(
            f"Spread of the prompts without noise: {words.score(found.spread)}; {chance} chance explains "
            f"(p = {found.spread_p:.2g})"
        )
    if found.gain is not None:
        gain = found.gain
        out.append(
            f"Gain of the best variant, corrected for the choice: {gain.corrected:+.3f} "
            f"({gain.low:+.3f} to {gain.high:+.3f})"
        )
    if found.needed is not None:
        out.append(
            f"Test rows to see a gain of {found.wanted:g}: about {found.needed:,}; there are {report.test_rows:,}"
        )
    return out
