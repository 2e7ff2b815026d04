"""Whole numbers for a table of shares, with its margins kept exactly."""

from __future__ import annotations

from collections.abc import Sequence


def controlled_rounding(rows: Sequence[int], columns: Sequence[int]) -> list[list[int]]:
    """A table of whole numbers that sums to `rows` across and to `columns` down.

    Each cell is `rows[i] * columns[j] / total`, rounded up or down, so it is less than 1 away from its share. Both
    margins must have the same total. The method is Cox 1987, "A constructive procedure for unbiased controlled
    rounding", without the random choice: while some cell is fractional, walk along fractional cells, alternately
    across and down, until a cycle closes (it must: a line whose sum is whole has no single fractional cell), and move
    as much as possible between its odd and even cells.
    """
    total = sum(rows)
    table = [[r * c for c in columns] for r in rows]  # in units of 1 / total
    for row in range(len(rows)):
        while (start := _fractional(table[row], total)) is not None:
            _cancel(table, row, start, total)
    return [[cell // total for cell in row] if total else list(row) for row in table]


def _fractional(line: Sequence[int], total: int, skip: int = -1) -> int | None:
    if not total:
        return None
    return next((i for i, cell in enumerate(line) if cell % total and i != skip), None)


def _cancel(table: list[list[int]], row: int, column: int, total: int) -> None:
    """Makes at least one cell of the cycle that the walk from (row, column) runs into whole."""
    path = [(row, column)]
    seen_rows, seen_columns = {row: 0}, {column: 0}
    while True:
        # Down the column to another row, then across that row to another column.
        row = _must(_fractional([line[column] for line in table], total, skip=row))
        path.append((row, column))
        if row in seen_rows:
            cycle = path[seen_rows[row] :]
            break
        seen_rows[row] = len(path)
        column = _must(_fractional(table[row], total, skip=column))
        if column in seen_columns:
            path.append((row, column))
            cycle = path[seen_columns[column] + 1 :]
            break
        seen_columns[column] = len(path)
        path.append((row, column))
    down, up = cycle[::2], cycle[1::2]
    step = min([table[r][c] % total for r, c in down] + [total - table[r][c] % total for r, c in up])
    for r, c in down:
        table[r][c] -= step
    for r, c in up:
        table[r][c] += step


def _must(index: int | None) -> int:
    if index is None:
        raise ValueError("the margins have different totals")
    return index
