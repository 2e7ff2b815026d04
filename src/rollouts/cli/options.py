"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The job file.", show_default=False)]
MaybeConfig = Annotated[
    Path | None, typer.Argument(metavar="CONFIG.toml", help="The job file (or --config).", show_default=False)
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="CONFIG.toml", help="The job file, by name.", show_default=False)
]
Method = Annotated[str | None, typer.Option("--method", help="Search algorithm: mipro, gepa, rmipro.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all else goes to stderr.")]
FailUnder = Annotated[
    float | None, typer.Option("--fail-under", metavar="SCORE", help="Exit with 3 below this; failed rows count as 0.")
]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", metavar="PATH|URL", help="Where runs are kept (or ROLLOUTS_STORE)."),
]
Out = Annotated[str | None, typer.Option("--out", metavar="DIR", help="Folder for the result files.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")]
Jobs = Annotated[int | None, typer.Option("-j", "--jobs", metavar="N", help="Rollouts in flight at once.")]
FailFast = Annotated[bool | None, typer.Option("--fail-fast", help="Failed calls are not sent again.")]
Track = Annotated[
    str | None, typer.Option("--track", metavar="TRACKER", help="Tells mlflow or wandb of the run as it goes.")
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Most rows of the data to use.")]
Usd = Annotated[float | None, typer.Option("--budget-usd", metavar="X", help="Hard cap in dollars.")]
Calls = Annotated[int | None, typer.Option("--max-calls", metavar="N", help="Hard cap on model calls.")]
Budget = Annotated[int | None, typer.Option("--budget", metavar="N", help="Hard cap on rollouts.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a setting, e.g. mipro.num_iterations=30."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id, beginning of it, or latest.", show_default=False)]
