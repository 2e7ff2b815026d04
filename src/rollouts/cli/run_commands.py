"""`rollouts runs`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rollouts.cli.options import Json, Run, StorePlace

runs_app = typer.Typer(help="What the store knows of earlier runs.", no_args_is_help=True)


@runs_app.command("list")
def runs_list(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most runs to show.")] = 50,
    status: Annotated[
        str | None, typer.Option("--status", help="running, unfinished, done, stopped or failed.")
    ] = None,
    store: StorePlace = None,
    as_json: Json = False,
) -> int:
    """The newest runs."""
    from rollouts.cli.runs import list_runs

    return list_runs(store, limit=limit, status=status, as_json=as_json)


@runs_app.command("show")
def runs_show(
    run_id: Run,
    *,
    rollouts: Annotated[bool, typer.Option("--rollouts", help="Shows rollouts.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed rollouts.")] = False,
    program: Annotated[str | None, typer.Option("--program", help="Only of this program (digest).")] = None,
    events: Annotated[bool, typer.Option("--events", help="Shows all events.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most rollouts or events.")] = 100,
    store: StorePlace = None,
    as_json: Json = False,
) -> int:
    """One run: settings, trials, GEPA's lineage, verdict, spend."""
    from rollouts.cli import runs

    if events:
        return runs.show_events(store, run_id, limit=limit, as_json=as_json)
    if rollouts or failed or program:
        return runs.show_rollouts(store, run_id, failed=failed, program=program, limit=limit, as_json=as_json)
    return runs.show(store, run_id, as_json=as_json)


@runs_app.command("candidates")
def runs_candidates(
    run_id: Run,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most candidates.")] = 20,
    store: StorePlace = None,
    as_json: Json = False,
) -> int:
    """What a run has tried, the best mean first: score, rows, prompt."""
    from rollouts.cli.runs import show_candidates

    return show_candidates(store, run_id, limit=limit, as_json=as_json)


@runs_app.command("bottleneck")
def runs_bottleneck(run_id: Run, store: StorePlace = None, as_json: Json = False) -> int:
    """r-MIPRO's modules by head-room, and why the trials went where they did."""
    from rollouts.cli.bottleneck import bottleneck

    return bottleneck(store, run_id, as_json=as_json)


@runs_app.command("diff")
def runs_diff(
    run_a: Run,
    run_b: Annotated[str | None, typer.Argument(metavar="[RUN_B]", help="Another run.")] = None,
    *,
    rows: Annotated[bool, typer.Option("--rows", help="Shows the test rows that became better or worse.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most rows to show.")] = 20,
    store: StorePlace = None,
    as_json: Json = False,
) -> int:
    """What a run made of its prompt or of its test rows, or how two runs differ."""
    if rows:
        from rollouts.cli.rows import diff_rows

        return diff_rows(store, run_a, run_b, limit=limit, as_json=as_json)
    from rollouts.cli.runs import diff

    return diff(store, run_a, run_b, as_json=as_json)


@runs_app.command("export")
def runs_export(
    run_id: Run,
    *,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="messages, text, openai, anthropic, langchain, dspy, promptfoo, jinja, json; jsonl for all rollouts.",
        ),
    ] = "messages",
    which: Annotated[
        str, typer.Option("--which", help="best, start, or a candidate (see `rollouts runs candidates`).")
    ] = "best",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="File; default: stdout.")] = None,
    store: StorePlace = None,
) -> int:
    """The best prompt, ready to send, in the form of another tool; or all rollouts."""
    from rollouts.cli.runs import export

    return export(store, run_id, form=form, which=which, out=out)
