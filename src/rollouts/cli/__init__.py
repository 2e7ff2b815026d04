"""The command line: `rollouts --help`."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the `rollouts` command."""
    try:
        from rollouts.cli.app import run  # typer, which `import rollouts` does without

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # `failures.INTERRUPTED`, in a module that may not be loaded yet
    sys.exit(code)
