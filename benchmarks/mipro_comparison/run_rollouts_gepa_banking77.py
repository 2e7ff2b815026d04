"""This project's GEPA on Banking77: `python run_rollouts_gepa_banking77.py --rollouts 100`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.mipro_comparison.commands import CANDIDATES, add_rollouts, parser_of, run  # noqa: E402 - see above


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    add_rollouts(parser)
    return run(parser, "rollouts-gepa", lambda options: {"cap": CANDIDATES * options.rollouts}, argv)


if __name__ == "__main__":
    sys.exit(main())
