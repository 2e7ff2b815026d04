"""`rollouts experiment`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rollouts.cli.options import Json

experiment_app = typer.Typer(help="Methods compared over budgets and seeds.", no_args_is_help=True)

Places = Annotated[
    list[Path], typer.Argument(metavar="DIR", help="Folders of experiments, or of single runs.", show_default=False)
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="METHOD", help="What the others are compared with.")
]


@experiment_app.command("run")
def experiment_run(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The experiment file.", show_default=False)],
    *,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, metavar="N", help="Number of seeds.")] = None,
    jobs: Annotated[int | None, typer.Option("-j", "--jobs", min=1, metavar="N", help="Runs at once.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder; default: results/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Goes on with what the folder holds.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Shows all settings and the runs; calls nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Runs every method with every budget and seed, compares them, and writes the report."""
    from rollouts.cli.experimenting import Wishes, run

    wishes = Wishes(out=out, resume=resume, dry_run=dry_run, as_json=as_json)
    return run(file, {"seeds": seeds, "jobs": jobs}, wishes)


@experiment_app.command("compare")
def experiment_compare(
    places: Places,
    *,
    baseline: Baseline = None,
    unit: Annotated[str, typer.Option("--unit", help="What counts as one difference: run, task or seed.")] = "run",
    test: Annotated[str, typer.Option("--test", help="permutation or wilcoxon.")] = "permutation",
    confidence: Annotated[float, typer.Option("--confidence", help="Of intervals and verdicts.")] = 0.95,
    as_json: Json = False,
) -> int:
    """Who is better: a table of the methods, with the verdict in words."""
    from rollouts.cli.experimenting import compare

    return compare(places, baseline=baseline, unit=unit, test=test, confidence=confidence, as_json=as_json)


@experiment_app.command("report")
def experiment_report(
    places: Places,
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: report.html in DIR.")] = None,
    baseline: Baseline = None,
) -> int:
    """Writes one HTML file with tables and plots, which works offline."""
    from rollouts.cli.experimenting import report

    return report(places, out, baseline=baseline)
