"""DSPy's MIPROv2 on Banking77: `python run_dspy_mipro_banking77.py --trials 20`.

The trials decide how many calls are made; in the record the cap is 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.mipro_comparison.commands import parser_of, run  # noqa: E402 - the checkout is on the path only now


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--trials", type=int, default=20, help="trials of the search (default: 20)")
    parser.add_argument("--format", choices=("dspy", "plain"), default="dspy", help="how the task model is asked")
    return run(
        parser,
        "dspy-mipro",
        lambda options: {
            "cap": 0,
            "trials": options.trials,
            "settings": "plain" if options.format == "plain" else "equal",
        },
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
