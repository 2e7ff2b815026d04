"""From errors to messages and exit codes: the one place that decides both."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from rollouts.errors import ConfigError, DataError, RolloutsError, RunNotFound, StoreError

FAILED, USAGE, BELOW, STORE, NOTHING_TO_GAIN = 1, 2, 3, 4, 5
INTERRUPTED = 130
CLOSED_PIPE = 141

EXIT_CODES = """\
Exit codes: 0 ok; 1 the run failed (provider, metric, results not writable); 2 wrong usage, configuration or data;
3 the score is below --fail-under; 4 the store cannot be used (locked, newer, disk full);
5 --check found nothing to gain; 130 or 143 interrupted."""

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigError, USAGE),
    (DataError, USAGE),
    (RunNotFound, USAGE),
    (StoreError, STORE),
    (RolloutsError, FAILED),
)


def exit_code(error: BaseException) -> int:
    """The exit code that an error ends the command with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def report(error: BaseException, arguments: list[str]) -> int:
    """Prints what went wrong on stderr, and with `--json` as an object on stdout too; returns the exit code."""
    code = exit_code(error)
    debug = "--debug" in arguments or os.environ.get("ROLLOUTS_DEBUG", "") not in ("", "0")
    if debug:
        traceback.print_exception(error)
    if isinstance(error, RolloutsError):
        message = str(error)
    else:
        message = f"unexpected {type(error).__name__}: {error}; this is a bug in rollouts or in your own code"
        if not debug:
            message += f" (traceback: {_written(error)})"
        if arguments[:1] == ["optimize"]:
            message += ". What was paid for is in the store: go on with rollouts optimize CONFIG --resume"
    fail(message, kind=type(error).__name__, code=code, as_json="--json" in arguments)
    return code


def fail(message: str, *, kind: str, code: int, as_json: bool) -> None:
    """Prints `error: message`, and the JSON object of a failed command where it was asked for."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    if as_json:
        print_json({"error": {"kind": kind, "message": message, "exit_code": code}})


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str, allow_nan=False))  # noqa: T201


def _written(error: BaseException) -> str:
    handle, name = tempfile.mkstemp(prefix="rollouts-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return str(Path(name))
