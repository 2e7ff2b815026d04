"""This project's MIPRO on Banking77: `python run_rollouts_mipro_banking77.py --rollouts 100`.

Offline (the default) it searches on training and validation rows in this process; with `--local` the same search is a
job of a service on this machine, which asks a task app for rollouts. With `--mode online` a session of the service
serves prompts to traffic made of the same rows, and learns from the rewards.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.mipro_comparison.commands import CANDIDATES, add_rollouts, parser_of, run  # noqa: E402 - see above


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    add_rollouts(parser)
    parser.add_argument("--mode", choices=("offline", "online"), default="offline")
    parser.add_argument("--local", action="store_true", help="by a service and a task app on this machine")

    def chosen(options: argparse.Namespace) -> dict[str, Any]:
        if options.local and options.mode == "online":
            parser.error("--local is for offline searches: --mode online goes by a service on this machine anyway")
        settings = "online" if options.mode == "online" else "local" if options.local else "equal"
        return {"cap": CANDIDATES * options.rollouts, "settings": settings}

    return run(parser, "rollouts-mipro", chosen, argv)


if __name__ == "__main__":
    sys.exit(main())
