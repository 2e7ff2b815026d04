"""CSV, TSV, JSONL and JSON files, read line by line (JSON excepted) with the line number kept."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rollouts.datasets.spec import DatasetSpec
from rollouts.datasets.tables import Row, Table, fail
from rollouts.errors import DataError

_DELIMITERS = ",;\t|"
_FIRST_ROWS = 1000  # any of them may lack a key
_WIDE = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def lines(path: Path, name: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, without a byte order mark; DataError names the first bad byte."""
    start = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line, start = _without_mark(line, name)
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    bad = line[error.start]
                    raise fail(
                        name,
                        f"byte {start + error.start} (0x{bad:02x}) is not UTF-8; save the file as UTF-8",
                        where=f"line {number}",
                    ) from error
                start += len(line)
    except OSError as error:
        raise fail(name, _why(error)) from error


def _without_mark(line: bytes, name: str) -> tuple[bytes, int]:
    for mark, encoding in _WIDE.items():
        if line.startswith(mark):
            raise fail(name, f"byte 0 starts {encoding} text; save the file as UTF-8", where="line 1")
    if line.startswith(codecs.BOM_UTF8):
        return line[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
    return line, 0


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a file"
    return f"cannot be read ({error.strerror or type(error).__name__})"


def delimited(spec: DatasetSpec, path: Path, default: str) -> Table:
    """A CSV or TSV file; the delimiter is the one that the spec states, else `default` or what the header shows."""
    delimiter = spec.delimiter or (default if spec.columns else _delimiter(spec, path, default))
    quoting = _quotes(spec, delimiter)
    name = spec.name

    def records() -> Iterator[tuple[str, list[str]]]:
        return _records(name, lines(path, name), delimiter, quoting)

    first = next(records(), None)
    if first is None:
        raise fail(name, "the file is empty")
    cells = tuple(first[1])
    # A header that repeats the stated columns is a header, not data.
    has_header = not spec.columns or cells == spec.columns
    columns = cells if has_header else spec.columns
    if has_header:
        _check_header(name, first[0], columns)

    def rows(_: Sequence[str]) -> Iterator[Row]:
        body = itertools.islice(records(), int(has_header), None)
        for number, (where, values) in enumerate(body, start=1):
            if len(values) != len(columns):
                source = "header" if has_header else "list of columns"
                raise fail(
                    name,
                    f"the row has {len(values)} cells and the {source} {len(columns)}; "
                    + ("quote cells that hold the delimiter" if quoting else "if cells are quoted, set quoting = true"),
                    where=where,
                )
            yield Row(number, where, dict(zip(columns, values, strict=True)))

    return Table(name=name, columns=columns, rows=rows, hint=_delimiter_hint(columns, delimiter))


def _records(name: str, text: Iterator[str], delimiter: str, quoting: bool) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(
        text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE, strict=True
    )
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise fail(name, _csv_problem(str(error)), where=where) from error
        if cells is None:
            return
        if cells:
            yield where, cells


def _csv_problem(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quote opens here and never closes"
    if "expected after" in error:
        return "there is text after a closing quote; double the quotes inside a cell"
    if "new-line character" in error:
        return "there is a lone carriage return outside quotes; save the file with \\n line ends"
    if "field larger" in error:
        return f"a cell is longer than {csv.field_size_limit()} characters: a quote that never closes? (else use JSONL)"
    return error


def _check_header(name: str, where: str, columns: Sequence[str]) -> None:
    repeated = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if repeated:
        places = [str(i) for i, column in enumerate(columns, start=1) if column == repeated[0]]
        raise fail(
            name,
            f"the header has this name {len(places)} times (columns {', '.join(places)}); rename all but one, "
            "or list columns if the file has no header",
            where=where,
            column=repeated[0],
        )


def _quotes(spec: DatasetSpec, delimiter: str) -> bool:
    return spec.quoting if spec.quoting is not None else delimiter != "\t"


def _delimiter(spec: DatasetSpec, path: Path, default: str) -> str:
    """`default`, unless the header is one cell by it, or none, and another one divides header and first row alike, as
    in spreadsheets of countries where the comma is a decimal mark."""

    def cells(delimiter: str, records: int) -> list[int]:
        try:
            read = _records(spec.name, lines(path, spec.name), delimiter, _quotes(spec, delimiter))
            return [len(cells) for _, cells in itertools.islice(read, records)]
        except DataError:  # a quote that ends where this one would not; what the file is read with says so again
            return []

    if cells(default, 1) not in ([], [1]):
        return default
    for other in _DELIMITERS.replace(default, ""):
        match cells(other, 2):
            case [header, first] if header == first > 1:
                return other
    return default


def _delimiter_hint(columns: Sequence[str], delimiter: str) -> str:
    if len(columns) == 1:
        for other in _DELIMITERS:
            if other != delimiter and other in columns[0]:
                return f"; the header is one cell: is the delimiter {other!r}?"
    return ""


def json_lines(spec: DatasetSpec, path: Path) -> Table:
    """One JSON object a line; blank lines are skipped."""
    name = spec.name

    def rows(_: Sequence[str]) -> Iterator[Row]:
        number = 0
        for line_number, line in enumerate(lines(path, name), start=1):
            if not line.strip():
                continue
            number += 1
            where = f"line {line_number}"
            yield Row(number, where, _object(name, where, _parsed(name, line.rstrip("\r\n"), line_number)))

    return _of_rows(name, rows)


def json_file(spec: DatasetSpec, path: Path) -> Table:
    """A JSON list of objects, or an object in which exactly one value is a list of objects. Read whole."""
    name = spec.name
    text = "".join(lines(path, name))
    if not text.strip():
        raise fail(name, "the file is empty")
    items = _the_list(name, _parsed(name, text))

    def rows(_: Sequence[str]) -> Iterator[Row]:
        for number, item in enumerate(items, start=1):
            yield Row(number, f"item {number}", _object(name, f"item {number}", item))

    return _of_rows(name, rows)


def _of_rows(name: str, rows: Callable[[Sequence[str]], Iterator[Row]]) -> Table:
    first = list(itertools.islice(rows(()), _FIRST_ROWS))
    if not first:
        raise fail(name, "the file has no rows")
    columns = dict.fromkeys(column for row in first for column in row.values)
    return Table(name=name, columns=tuple(columns), rows=rows)


def _the_list(name: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    lists = {k: v for k, v in value.items() if isinstance(v, list)} if isinstance(value, dict) else {}
    of_objects = {k: v for k, v in lists.items() if v and isinstance(v[0], dict)} or lists
    if len(of_objects) != 1:
        found = f"lists under {', '.join(map(repr, of_objects))}" if of_objects else f"{_kind(value)} without a list"
        raise fail(name, f"must be a list of objects, or an object with one such list; found {found}")
    return next(iter(of_objects.values()))


def _parsed(name: str, text: str, first_line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} (character {error.colno})"
        raise fail(name, problem, where=f"line {first_line + error.lineno - 1}") from error
    except RecursionError as error:
        raise fail(name, "the JSON is nested too deeply", where=f"line {first_line}") from error


def _object(name: str, where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise fail(name, f'must be an object like {{"text": ..., "label": ...}}, not {_kind(value)}', where=where)
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
