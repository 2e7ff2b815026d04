"""The command line: `rollouts --help`."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the `rollouts` command."""
    from rollouts.cli.app import run  # typer, which `import rollouts` does without

    sys.exit(run(sys.argv[1:]))
