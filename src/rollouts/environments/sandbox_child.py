"""What runs inside the sandbox: gives up every right that it can, then runs the code from its standard input.

A script that `rollouts.environments.sandbox` starts with the limits as arguments; it is never imported.
"""

# ruff: noqa: F401 - what generated code may import is loaded now: later no module can be

import collections
import datetime
import decimal
import fractions
import functools
import itertools
import json
import math
import os
import random
import re
import resource
import statistics
import string
import sys
from typing import Any

_NOBODY = 65534
_MEGABYTE = 1 << 20


# All that the guard uses is bound here: the code that it guards against may replace any global or builtin.
def _guard(
    event: str,
    args: tuple[Any, ...],
    allowed: frozenset[str] = frozenset(
        {"compile", "exec", "sys._getframe", "sys.unraisablehook", "builtins.id", "time.sleep"}
    ),
    is_a: type[type] = type,
    text: type[str] = str,
    denied: type[PermissionError] = PermissionError,
) -> None:
    """Allows what computes, and files of the working directory by their plain names.

    Of the ways to open a file only the builtin one is let through, whose event has a mode: `os.open` could start at
    another directory.
    """
    if event in allowed or text.startswith(event, "cpython."):
        return
    if event == "open" and is_a(args[0]) is is_a(args[1]) is text and text.find(args[0], "/") < 0:
        return
    raise denied("not allowed in the sandbox: " + event)


def _limit(seconds: str, memory_mb: str, file_mb: str) -> None:
    memory, size = int(float(memory_mb) * _MEGABYTE), int(float(file_mb) * _MEGABYTE)
    for what, most in (
        (resource.RLIMIT_CPU, int(float(seconds)) + 1),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:  # the limit on processes does not bind root
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def _main() -> None:
    code = sys.stdin.read()
    _limit(*sys.argv[1:])
    sys.argv[1:] = []
    sys.addaudithook(_guard)
    try:
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})  # noqa: S102 - the purpose of this program
    except Exception as error:  # noqa: BLE001 - whatever the code raises is its result
        print(f"{type(error).__name__}: {error}")  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    _main()
