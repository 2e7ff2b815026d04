"""What the commands for one method share: options, the run, what is said of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.mipro_comparison.one import add_model_options, line, model_of, record
from benchmarks.mipro_comparison.outcome import Key
from benchmarks.mipro_comparison.served import serve
from benchmarks.mipro_comparison.tasks import TASKS
from benchmarks.options import count
from rollouts.errors import RolloutsError

CANDIDATES = 9
"""`--rollouts` is meant for each of so many candidates: the default of 100 gives the cap of a comparison, 900."""
Chosen = Callable[[argparse.Namespace], dict[str, Any]]


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that every command has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="banking77")
    parser.add_argument("--seed", type=int, default=0)
    add_model_options(parser)
    parser.set_defaults(train_size=100, val_size=50)
    return parser


def add_rollouts(parser: argparse.ArgumentParser) -> None:
    """`--rollouts`."""
    parser.add_argument(
        "--rollouts",
        type=count,
        default=100,
        help=f"rollouts for each of {CANDIDATES} candidates; their product is a hard budget, which the search divides "
        "as it sees fit (default: 100)",
    )


def run_rollouts(method: str, description: str | None, argv: Sequence[str] | None) -> int:
    """The whole command of a method that takes nothing but `--rollouts`."""
    parser = parser_of(description)
    add_rollouts(parser)
    return run(parser, method, lambda options: {"cap": CANDIDATES * options.rollouts}, argv)


def run(parser: argparse.ArgumentParser, method: str, chosen: Chosen, argv: Sequence[str] | None) -> int:
    """Runs `method` as the options say, and saves its record under the seed's name.

    `chosen` gives `cap`, and maybe `settings` and what else the search takes.
    """
    options = parser.parse_args(argv)
    more = chosen(options)
    key = Key(
        task=options.task,
        method=method,
        settings=more.pop("settings", "equal"),
        cap=more.pop("cap"),
        seed=options.seed,
    )
    try:
        with serve(model_of(options)) as served:
            outcome, path = record(served, key, options, plain=True, more=more)
    except RolloutsError as error:
        print(error, file=sys.stderr)
        return 2
    print(line(outcome))
    print(f"the record: {_shown(path)}")
    return int(outcome.error is not None)


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
