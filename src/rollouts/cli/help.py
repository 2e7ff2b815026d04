"""What `--help` shows beside a name: nothing for a flag or an argument, a word in capitals for any other option."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def plain_help(app: typer.Typer) -> None:
    """Lets the commands of `app`, and of all below it, show words instead of Python's types."""
    app.info.cls = _Group
    for command in app.registered_commands:
        command.cls = _Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            plain_help(group.typer_instance)


def _worded(params: list[Any]) -> list[Any]:
    for param in params:
        if param.param_type_name == "argument" or param.is_flag:
            vars(param)["display_type_rich"] = lambda ctx: None
        elif param.metavar is None:
            param.metavar = param.name.upper()
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _worded(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _worded(super().get_params(ctx))
