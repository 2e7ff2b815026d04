"""CSV, TSV, JSONL and JSON: what is read, and how each kind of damage is told."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.datasets import DatasetSpec, load
from rollouts.errors import ConfigError, DataError

ROWS = [("how do I pay?", "billing"), ('say "hi", twice', "other"), ("two\nlines", "billing"), ("naïve ☃", "other")]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def csv_text(rows: list[tuple[str, str]]) -> str:
    return "".join(f'"{text.replace(chr(34), chr(34) * 2)}",{label}\n' for text, label in rows)


def spec(path: Path, **changes: Any) -> DatasetSpec:
    return DatasetSpec(**{"path": path, "inputs": {"query": "text"}, "ground_truth": "label", **changes})


def pairs(samples: list[Any]) -> list[tuple[Any, Any]]:
    return [(sample["query"], sample.ground_truth) for sample in samples]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_csv_round_trip(tmp_path: Path, newline: str, mark: bytes) -> None:
    body = ("text,label\n" + csv_text(ROWS)).replace("\n", newline)
    samples = load(spec(write(tmp_path / "d.csv", mark + body.encode())))
    assert pairs(samples) == [(text.replace("\n", newline), label) for text, label in ROWS]
    assert [sample.id for sample in samples] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("header", [True, False])
def test_every_text_format_gives_the_same_samples(tmp_path: Path, header: bool) -> None:
    rows = [row for row in ROWS if "\n" not in row[0]]
    objects = [{"text": text, "label": label, "other": 1} for text, label in rows]
    top = "text\tlabel\n" if header else ""
    columns = {} if header else {"columns": ("text", "label")}
    files = [
        spec(write(tmp_path / "d.tsv", top + "".join(f"{text}\t{label}\n" for text, label in rows)), **columns),
        spec(write(tmp_path / "d.csv", top.replace("\t", ",") + csv_text(rows)), **columns),
        spec(write(tmp_path / "d.jsonl", "\n\n".join(json.dumps(row) for row in objects))),
        spec(write(tmp_path / "d.json", json.dumps(objects))),
        spec(write(tmp_path / "e.json", json.dumps({"version": 2, "tags": [], "data": objects}))),
        spec(write(tmp_path / "d.txt", json.dumps(objects)), format="json"),
    ]
    for one in files:
        assert pairs(load(one)) == rows, one.name


def test_columns_that_repeat_the_header_do_not_make_it_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,b\n")
    assert pairs(load(spec(path, columns=["text", "label"]))) == [("a", "b")]


@pytest.mark.parametrize("name", ["d.csv", "d.tsv"])
@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_a_delimiter_that_header_and_first_row_show_is_taken(tmp_path: Path, name: str, delimiter: str) -> None:
    path = write(tmp_path / name, f"text{delimiter}label\na b{delimiter}c\n")
    assert pairs(load(spec(path))) == [("a b", "c")]
    if delimiter != "\t":
        path = write(path, f'{codecs.BOM_UTF8.decode()}"text"{delimiter}label\n"Hello{delimiter} you"{delimiter}c\n')
        assert pairs(load(spec(path, quoting=True))) == [(f"Hello{delimiter} you", "c")]


@pytest.mark.parametrize(
    "text",
    ["query\na; b\n", "query; text\na\n", "query;text\n", 'query\n"a, b"\n'],
    ids=["in a row", "in the header", "no row", "quoted"],
)
def test_a_file_of_one_column_stays_one(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "d.csv", text)
    header = text.partition("\n")[0]
    rows = load(DatasetSpec(path=path)) if text.count("\n") > 1 else []
    assert [list(row.inputs) for row in rows] == [[header]] * len(rows)


def test_tsv_quotes_are_text_unless_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", 'text\tlabel\n"quoted"\tx\n"open\ty\n')
    assert [sample["query"] for sample in load(spec(path))] == ['"quoted"', '"open']
    path = write(tmp_path / "q.tsv", 'text\tlabel\n"a ""b"" c"\tx\n')
    assert load(spec(path, quoting=True))[0]["query"] == 'a "b" c'


def test_values_keep_their_types(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": {"a": [1, 2.5, null]}, "label": 7}\n')
    assert pairs(load(spec(path))) == [({"a": [1, 2.5, None]}, 7)]
    path = write(tmp_path / "d.csv", "text,label\n1,2\n")
    assert pairs(load(spec(path))) == [("1", "2")]


def test_without_inputs_all_other_columns_are_inputs(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ",key,text,label,lang\n0,k1,a,b,en\n")
    (sample,) = load(DatasetSpec(path=path, id="key"))
    assert (dict(sample.inputs), sample.ground_truth, sample.id) == ({"text": "a", "lang": "en"}, "b", "k1")


def test_placeholders_tell_inputs_from_the_ground_truth(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,verdict\na,b\n")
    assert load(DatasetSpec(path=path), placeholders=frozenset({"text"}))[0].ground_truth == "b"
    with pytest.raises(DataError, match=r"candidates are 'text', 'verdict'"):
        load(DatasetSpec(path=path))


def test_a_lone_column_is_an_input(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "id,text\n7,a\n")
    (sample,) = load(DatasetSpec(path=path, id="id"))
    assert (dict(sample.inputs), sample.ground_truth) == ({"text": "a"}, None)


def test_rename_and_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", "".join(json.dumps({"text": i, "label": i % 3}) + "\n" for i in range(9)))
    names = {"0": "zero", "1": "one"}
    assert [s.ground_truth for s in load(spec(path, rename_labels=names))][:3] == ["zero", "one", 2]
    kept = load(spec(path, rename_labels=names, labels=["one", "2"]))
    assert [s.ground_truth for s in kept] == ["one", 2] * 3
    assert [s.id for s in kept] == ["2", "3", "5", "6", "8", "9"]


def test_limit_is_a_uniform_draw_in_file_order(tmp_path: Path) -> None:
    # Sorted by label, as published sets are: the first rows alone would be one class.
    path = write(tmp_path / "d.csv", "text,label\n" + "".join(f"t{i},{'a' if i < 500 else 'b'}\n" for i in range(1000)))
    samples = load(spec(path, limit=100))
    numbers = [int(sample.id) for sample in samples]
    assert len(numbers) == 100
    assert numbers == sorted(set(numbers))
    assert 30 <= sum(sample.ground_truth == "a" for sample in samples) <= 70
    assert samples == load(spec(path, limit=100))
    assert samples != load(spec(path, limit=100, seed=1))
    assert len(load(spec(path, limit=5000))) == 1000


BROKEN = {
    "empty": ("d.csv", "", {}, "the file is empty"),
    "only a mark": ("d.csv", codecs.BOM_UTF8, {}, "the file is empty"),
    "header only": ("d.csv", "text,label\n", {}, "has columns and no rows"),
    "header only, labels": ("d.csv", "text,label\n", {"labels": ["a"]}, "has columns and no rows"),
    "latin-1": ("d.csv", b"text,label\nok,a\ncaf\xe9,b\n", {}, r"line 3: byte 19 \(0xe9\) is not UTF-8"),
    "latin-1 after a mark": ("d.csv", codecs.BOM_UTF8 + b"caf\xe9,b\n", {}, r"line 1: byte 6 \(0xe9\)"),
    "utf-16": ("d.csv", "text,label\n".encode("utf-16"), {}, "line 1: byte 0 starts UTF-16"),
    "open quote": ("d.csv", 'text,label\na,b\n"c,d\ne,f\n', {}, "line 3: a quote opens here and never closes"),
    "stray quote": ("d.csv", 'text,label\n"c"x,d\n', {}, "line 2: there is text after a closing quote"),
    "lone return": ("d.csv", "text,label\ra,b\r", {}, "lone carriage return"),
    "long row": ("d.csv", 'text,label\n"a\nb",x\nc,d,e\n', {}, "line 4: the row has 3 cells and the header 2"),
    "short row": ("d.tsv", "text\tlabel\nc\n", {}, "line 2: the row has 1 cells and the header 2"),
    "ragged without header": ("d.csv", "a,b\nc\n", {"columns": ["text", "label"]}, "line 2.*the list of columns 2"),
    "duplicate column": ("d.csv", "text,label,text\na,b,c\n", {}, r"line 1, column 'text': .*2 times \(columns 1, 3\)"),
    "missing column": ("d.csv", "texts,label\na,b\n", {}, r"column 'text': input \{query\}.*did you mean 'texts'"),
    "case": ("d.csv", "TEXT,label\na,b\n", {}, "did you mean 'TEXT'"),
    "other column": ("d.csv", "q,label\na,b\n", {}, "there are: 'q', 'label'"),
    "wrong delimiter": ("d.csv", "text;label\na;b;c\n", {}, "is the delimiter ';'"),
    "quotes, wrong delimiter": ("d.csv", 'text;label\n"c;d";a;b\n', {}, "is the delimiter ';'"),
    "stated delimiter": ("d.csv", "text;label\na;b\n", {"delimiter": ","}, "is the delimiter ';'"),
    "semicolons, long row": ("d.csv", "text;label\na;b\na;b;c\n", {}, "line 3: the row has 3 cells and the header 2"),
    "no truth": ("d.csv", "text,label\na,b\nc, \n", {}, "line 3, column 'label': the ground truth is empty"),
    "null truth": (
        "d.jsonl",
        '{"text": 1, "label": 2}\n{"text": 1, "label": null}',
        {},
        "line 2, column 'label'.*miss",
    ),
    "absent truth": ("d.jsonl", '{"text": 1, "label": 2}\n\n{"text": 1}', {}, "line 3, column 'label'.*missing"),
    "absent input": ("d.jsonl", '{"text": 1, "label": 2}\n{"label": 1}', {}, "line 2, column 'text'.*input is missing"),
    "first line lacks its input": (
        "d.jsonl",
        '{"label": 2}\n{"text": 1, "label": 2}',
        {},
        "line 1, column 'text'.*missing",
    ),
    "first item lacks its truth": (
        "d.json",
        '[{"text": 1}, {"text": 1, "label": 2}]',
        {},
        "item 1, column 'label'.*miss",
    ),
    "labels of objects": (
        "d.jsonl",
        '{"text": 1, "label": {"a": 1}}\n{"text": 1, "label": [2]}',
        {"labels": ["a"]},
        "column 'label': every ground truth is a list or an object.*leave labels",
    ),
    "label typo": ("d.csv", "text,label\na,billing\n", {"labels": ["biling"]}, "labels: 'biling' never.*'billing'"),
    "rename typo": ("d.csv", "text,label\na,1\n", {"rename_labels": {"9": "x"}}, "'9' never occurs.*'1'"),
    "same id": ("d.csv", "text,label\na,b\nc,d\na,e\n", {"id": "text"}, "line 4, column 'text': the id 'a'.*line 2"),
    "no id": ("d.csv", "text,label,k\na,b,\n", {"id": "k"}, "line 2, column 'k': the id is missing"),
    "bad json line": ("d.jsonl", '{"text": 1, "label": 2}\n{"text": 1,}\n', {}, r"line 2: not JSON: .*character 1"),
    "cut json line": (
        "d.jsonl",
        '{"text": 1, "label": 2}\n{"text": 1,\n{"text": 1, "label": 2}\n',
        {},
        "line 2: not JSON: .*character 12",
    ),
    "cut json line, CRLF": ("d.jsonl", '{"text": 1,\r\n', {}, "line 1: not JSON"),
    "not an object": ("d.jsonl", '["a", "b"]\n', {}, "line 1: must be an object.*not a list"),
    "empty jsonl": ("d.jsonl", "\n \n", {}, "has no rows"),
    "bad json": ("d.json", '[\n{"text": 1},\n{"text" 2}]', {}, "line 3: not JSON"),
    "cut json": ("d.json", '[{"text": 1}', {}, "not JSON"),
    "empty json": ("d.json", "", {}, "the file is empty"),
    "empty list": ("d.json", "[]", {}, "has no rows"),
    "item": ("d.json", '[{"text": 1, "label": 1}, 3]', {}, "item 2: must be an object.*not a number"),
    "two lists": ("d.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', {}, "found lists under 'train', 'test'"),
    "no list": ("d.json", '{"text": "a"}', {}, "found an object without a list"),
    "deep": ("d.jsonl", "[" * 200_000, {}, "line 1: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_damage_is_told_with_its_place(tmp_path: Path, case: str) -> None:
    name, text, changes, message = BROKEN[case]
    with pytest.raises(DataError, match=message) as caught:
        load(spec(write(tmp_path / name, text), **changes))
    assert name in str(caught.value)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    for name in ("no.csv", "no.jsonl", "no.json", "no.parquet"):
        with pytest.raises(DataError, match="there is no such file"):
            load(DatasetSpec(path=tmp_path / name))
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        load(DatasetSpec(path=tmp_path / "dir.csv"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "d.xlsx"}, "extension '.xlsx'; use one of .csv"),
        ({"path": "ticket"}, "built-in data set .banking77, tickets"),
        ({"path": ""}, "no path"),
        ({"path": "d.csv", "format": "yaml"}, "unknown data format 'yaml'"),
        ({"path": "d.csv", "delimiter": "||"}, "one character"),
        ({"path": "d.csv", "limit": 0}, "at least 1"),
        ({"path": "d.csv", "columns": "text"}, "must be a list"),
        ({"path": "d.csv", "columns": ["a", "b", "a"]}, "'a' more than once"),
        ({"path": "d.csv", "inputs": {"q": "label"}, "ground_truth": "label"}, "the prompt would hold the answer"),
        ({"path": "d.json", "columns": ["a"]}, "columns is for CSV and TSV"),
        ({"path": "d.parquet", "delimiter": ";"}, "delimiter is for CSV and TSV"),
        ({"path": "d.csv", "split": "test"}, "split is for hf"),
    ],
)
def test_contradicting_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(DatasetSpec(**changes))


def test_an_input_that_is_the_detected_ground_truth_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match="both an input and the ground truth"):
        load(DatasetSpec(path=path, ground_truth="label"), placeholders=frozenset({"label"}))


def test_labels_need_a_ground_truth(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text\na\n")
    with pytest.raises(DataError, match="there is no ground-truth column"):
        load(DatasetSpec(path=path, labels=["a"]))


@pytest.mark.parametrize("extension", ["csv", "tsv", "json", "jsonl", "parquet"])
@given(data=st.one_of(st.binary(max_size=60), st.text('a,"\t\n\r{}[]:1\x00é', max_size=60).map(str.encode)))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, extension: str, data: bytes) -> None:
    if extension == "parquet":
        pytest.importorskip("pyarrow")
    path = write(tmp_path_factory.getbasetemp() / f"any.{extension}", data)
    try:
        told = "" if load(DatasetSpec(path=path)) else "no samples and no error"
    except DataError as error:
        told = str(error)
    assert not told or path.name in told


def test_a_huge_cell_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\n" + "x" * 140_000 + ",b\n")
    with pytest.raises(DataError, match="line 2: a cell is longer than 131072"):
        load(spec(path))
