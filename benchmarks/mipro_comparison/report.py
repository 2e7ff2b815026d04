"""Tables and plot of the comparison, from the records of its runs alone:

python -m benchmarks.mipro_comparison.report RESULTS_DIR [--markdown FILE] [--plot FILE.svg|FILE.html]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.mipro_comparison.contrasts import Contrast, ablations, at_a_third, at_equal_calls
from benchmarks.mipro_comparison.outcome import Outcome, outcomes
from benchmarks.mipro_comparison.plot import page, svg
from benchmarks.mipro_comparison.runs import (
    OURS,
    PEER,
    Group,
    accuracy,
    calls,
    elapsed,
    grouped,
    model_seconds,
    tasks_of,
    tokens,
)

_METHODS = (
    "Accuracy is held out: on test rows that no search saw, the mean over seeds with a 95 % interval (over seeds; over "
    "test rows where there is one seed, or all seeds have the same accuracy). Calls are task calls of the search as "
    "the proxy counted them; tokens those of the search and its proposals (scripted ones have none); seconds the wall "
    "time of the search, short where answers came from a file; model seconds those of all its calls together. All are "
    "means over seeds."
)
_CONTRASTS = (
    "Differences are in points of accuracy, paired by seed, with a 95 % interval over seeds, within tasks (Student's "
    "t; from nine degrees of freedom and five pairs to a task on the bootstrap). p compares the same test rows of all "
    "seeds (McNemar, mid-p), corrected by Holm for the tasks of a table; over all tasks it is a sign-flip test on the "
    "runs. Better or worse is said of five pairs or more where p is below 0.05 and the interval leaves out 0."
)


def report(directory: Path) -> str:
    """The report in Markdown; says so where there is no run."""
    return markdown(outcomes(directory).values())


def markdown(runs: Iterable[Outcome]) -> str:
    """The report on these runs."""
    groups = grouped(runs)
    if not groups:
        return "No runs yet.\n"
    parts = [_METHODS, *(_task(task, [group for group in groups if group.task == task]) for task in tasks_of(groups))]
    tables = [
        *(_contrasts(f"At equal calls: {OURS} against {PEER}", table) for table in at_equal_calls(groups)),
        *(_contrasts(f"At a third of the calls: {OURS} against {PEER}", table) for table in at_a_third(groups)),
        *(_contrasts("Ablation: a variant against ours as it comes", table) for table in ablations(groups)),
    ]
    if tables:
        parts += [_CONTRASTS, *tables]
    if failed := [run for group in groups for run in group.runs if run.key.seed not in group.scored]:
        parts.append(_failures(failed))
    return "\n\n".join(parts) + "\n"


def _task(task: str, groups: Sequence[Group]) -> str:
    ranked = sorted(groups, key=lambda group: (group.cap, -_or(group.mean(accuracy), -1.0)))
    rows = [
        (
            group.method,
            group.settings,
            f"{group.cap:,}" if group.cap else "-",
            _count(group.mean(calls)),
            _count(group.mean(tokens)),
            _count(group.mean(elapsed)),
            _count(group.mean(model_seconds)),
            _accuracy(group),
            str(len(group.scored)) + (f" of {len(group.runs)}" if len(group.scored) < len(group.runs) else ""),
        )
        for group in ranked
    ]
    head = ("method", "settings", "cap", "calls", "tokens", "seconds", "model seconds", "accuracy", "seeds")
    return f"### {task}\n\n{_table(head, rows)}"


def _accuracy(group: Group) -> str:
    if not group.scored:
        return "failed"
    found = group.accuracy()
    return f"{_percent(found.mean)} ({_percent(found.low)} to {_percent(found.high)})"


def _contrasts(title: str, table: Sequence[Contrast]) -> str:
    first = table[0]
    rows = [
        (
            row.task,
            f"{row.share:.2f}",
            _percent(row.means[0]),
            _percent(row.means[1]),
            f"{100 * row.difference.mean:+.1f}",
            f"{_points(row.difference.low)} to {_points(row.difference.high)}",
            f"{row.p_value:.2g}",
            f"{row.p_holm:.2g}",
            row.finding,
            f"{row.missing}" if row.missing else "",
        )
        for row in table
    ]
    head = (
        "task",
        "calls",
        first.ours,
        first.theirs,
        "difference",
        "95 %",
        "p",
        "p (Holm)",
        "finding",
        "seeds without pair",
    )
    caps = " and ".join(f"{cap:,}" for cap in dict.fromkeys(first.caps))
    return f"### {title}, cap {caps}\n\n{_table(head, rows)}"


def _failures(runs: Iterable[Outcome]) -> str:
    lines = []
    for run in runs:
        said = (run.error or "").strip().splitlines() or ["no score"]
        lines.append(f"- {run.key.name}: {said[-1][:200]}")
    return "### Failed runs\n\n" + "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value


def _count(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}" if math.isfinite(share) else "?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with the records of runs")
    parser.add_argument("--markdown", type=Path, help="write the tables here instead of printing them")
    parser.add_argument(
        "--plot", type=Path, help="write the plot here, by its suffix as .svg or as .html with the tables"
    )
    options = parser.parse_args()
    if not options.results.is_dir():
        parser.error(f"there is no folder {options.results}; run_comparison.py writes one")
    runs = list(outcomes(options.results).values())
    text = markdown(runs)
    if options.markdown is None:
        print(text, end="")
    else:
        options.markdown.write_text(text, encoding="utf-8")
    if options.plot is not None:
        drawn = svg(grouped(runs))
        options.plot.write_text(page(drawn, text) if options.plot.suffix == ".html" else drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
