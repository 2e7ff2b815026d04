"""`rollouts runs diff RUN --rows`: the rows of the final check that became better or worse."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from rollouts.cli import failures, words
from rollouts.cli.runs import check_search, find_search, stored
from rollouts.errors import ConfigError
from rollouts.experiments.rows import RowPair, counted, tested_rows


def diff_rows(place: str | None, run_id: str, second: str | None, *, limit: int, as_json: bool) -> int:
    """Rows with both answers, worst first. Raises ConfigError for two runs, whose rows need not be the same."""
    if second is not None:
        raise ConfigError("--rows compares the start and the best prompt of one run; leave out the second one")
    with stored(place) as store:
        run = find_search(store, run_id)
        check_search(run)
        pairs = tested_rows(store, run)
    counts, changed = counted(pairs), [pair for pair in pairs if pair.change != 0]
    if as_json:
        rows = [_json(pair) for pair in changed[:limit]]
        failures.print_json(words.plain({"run_id": run.id, **counts, "rows": rows}))
        return 0
    console = words.make_console()
    failed = f", {counts['failed']} not scored" if counts["failed"] else ""
    console.print(
        f"{run.id}: of {len(pairs)} test rows {counts['better']} better, {counts['worse']} worse, "
        f"{counts['same']} as before{failed}",
        soft_wrap=True,
    )
    if changed:
        console.print(_table(changed[:limit]))
    if len(changed) > limit:
        console.print(f"the first {limit} of {len(changed)}; more with --limit")
    return 0


def _table(pairs: list[RowPair]) -> Table:
    table = Table()
    for column in ("row", "change", "input", "expected", "start", "best"):
        table.add_column(column, overflow="fold")
    for pair in pairs:
        table.add_row(
            pair.sample_id,
            "–" if pair.change is None else f"{pair.change:+.2g}",
            words.short(_told(pair.inputs), 160),
            words.short(words.told(pair.ground_truth), 60),
            words.short(words.answer(pair.start.output, pair.start.failure), 80),
            words.short(words.answer(pair.best.output, pair.best.failure), 80),
        )
    return table


def _told(inputs: Any) -> str:
    """Inputs as a reader wants them: a single one alone, JSON of several."""
    if isinstance(inputs, dict) and len(inputs) == 1:
        (inputs,) = inputs.values()
    return words.told(inputs)


def _json(pair: RowPair) -> dict[str, Any]:
    return {
        "sample_id": pair.sample_id,
        "change": pair.change,
        "inputs": pair.inputs,
        "ground_truth": pair.ground_truth,
        **{
            which: {"score": row.score, "output": row.output, "failure": row.failure}
            for which, row in (("start", pair.start), ("best", pair.best))
        },
    }
