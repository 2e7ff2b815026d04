"""DSPy's MIPROv2 on Banking77: `python run_dspy_mipro_banking77.py --trials 20`.

The cap is that of the other commands, so that their records are compared. It decides how many trials there are, and
`--trials` how many at most: few trials leave calls unused, which the report shows and the comparison does not make up
for.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.mipro_comparison.commands import CANDIDATES, add_rollouts, parser_of, run  # noqa: E402 - see above
from benchmarks.options import count  # noqa: E402 - see above


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    add_rollouts(parser)
    parser.add_argument("--trials", type=count, help="most trials of the search (default: as many as fit)")
    parser.add_argument("--format", choices=("dspy", "plain"), default="dspy", help="how the task model is asked")
    return run(
        parser,
        "dspy-mipro",
        lambda options: {
            "cap": CANDIDATES * options.rollouts,
            "trials": options.trials,
            "settings": "plain" if options.format == "plain" else "equal",
        },
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
