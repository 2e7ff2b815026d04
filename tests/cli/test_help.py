"""`--help`, and `python -m rollouts`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from rollouts.cli.app import app
from tests.cli.conftest import Cli


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    assert isinstance(command, TyperCommand | TyperGroup)
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize("path", commands(get_command(app)), ids=" ".join)
def test_help_names_no_type_of_python(cli: Cli, path: tuple[str, ...]) -> None:
    shown = cli(*path, "--help")
    assert shown.code == 0
    assert "--help" in shown.out
    assert not re.search(r"<(bool|str|int|float|path|list)", shown.out)


def test_every_command_is_among_those_looked_at() -> None:
    assert {("optimize",), ("runs", "show"), ("keys", "create")} <= set(commands(get_command(app)))


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("optimise", "job.toml"), "rollouts --help"),
        (("runs", "shwo"), "rollouts runs --help"),
        (("runs", "list", "--nope"), "rollouts runs list --help"),
        (("serve-model", "--nope"), "rollouts serve-model --help"),
    ],
)
def test_wrong_usage_points_to_a_command_that_there_is(cli: Cli, arguments: tuple[str, ...], place: str) -> None:
    assert f"(see: {place})" in cli(*arguments).err


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "rollouts", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rollouts ")
