"""This project's GEPA on Banking77: `python run_rollouts_gepa_banking77.py --rollouts 100`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.mipro_comparison.commands import run_rollouts  # noqa: E402 - see above

if __name__ == "__main__":
    sys.exit(run_rollouts("rollouts-gepa", __doc__, None))
