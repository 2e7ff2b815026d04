"""Parquet files and Hugging Face data sets."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rollouts.datasets import DatasetSpec, load
from rollouts.errors import DataError

SPEC: dict[str, Any] = {"inputs": {"query": "text"}, "ground_truth": "label"}


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = {
        "text": [f"t{i}" for i in range(10_000)],
        "label": [i % 2 for i in range(10_000)],
        "raw": [b"\x00"] * 10_000,
        "day": [datetime.date(2025, 1, 1)] * 10_000,
    }
    pq.write_table(pa.table(rows), tmp_path / "d.parquet")
    return tmp_path / "d.parquet"


def test_parquet(parquet: Path) -> None:
    samples = load(DatasetSpec(path=parquet, **SPEC))
    assert len(samples) == 10_000
    last = samples[-1]
    assert (dict(last.inputs), last.ground_truth, last.id) == ({"query": "t9999"}, 1, "10000")
    day = load(DatasetSpec(path=parquet, inputs={"d": "day"}, ground_truth="label", limit=1))
    assert day[0]["d"] == "2025-01-01"


def test_parquet_bytes_are_refused_only_when_used(parquet: Path) -> None:
    with pytest.raises(DataError, match="row 1, column 'raw': holds bytes"):
        load(DatasetSpec(path=parquet, ground_truth="label"))


def test_parquet_nulls_and_missing_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, float("nan")]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="row 2, column 'label': the ground truth is missing"):
        load(DatasetSpec(path=tmp_path / "d.parquet", **SPEC))
    with pytest.raises(DataError, match="did you mean 'text'"):
        load(DatasetSpec(path=tmp_path / "d.parquet", inputs={"q": "texts"}, ground_truth="label"))


def test_damaged_parquet(parquet: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"bad\.parquet: not a readable parquet file"):
        load(DatasetSpec(path=bad, **SPEC))
    content = bytearray(parquet.read_bytes())
    content[8:2000] = b"\xff" * 1992
    bad.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load(DatasetSpec(path=bad, **SPEC))


@pytest.mark.parametrize(("path", "extra"), [("d.parquet", "data"), ("hf:owner/name", "hf")])
def test_missing_extras_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, extra: str) -> None:
    (tmp_path / "d.parquet").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("pyarrow", "pyarrow.parquet", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=rf"pip install 'rollouts-optimizer\[{extra}\]'"):
        load(DatasetSpec(path=path, **SPEC))


class FakeDataset:
    def __init__(self, rows: list[dict[str, Any]], names: list[str] | None = None) -> None:
        self.data = rows
        self.features = {"label": SimpleNamespace(names=names)} if names else {}
        self.column_names = list(rows[0])

    def select_columns(self, columns: list[str]) -> FakeDataset:
        chosen = FakeDataset([{column: row[column] for column in columns} for row in self.data])
        chosen.features = self.features
        return chosen

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A `datasets` package that answers with `hub.answer` and notes what it was asked."""
    state = SimpleNamespace(answer=None, asked=None)

    def load_dataset(name: str, config: str | None = None, split: str | None = None) -> Any:
        state.asked = (name, config, split)
        if isinstance(state.answer, Exception):
            raise state.answer
        return state.answer[split] if split and isinstance(state.answer, dict) else state.answer

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return state


@pytest.mark.parametrize(
    ("path", "split", "asked"),
    [
        ("hf:owner/name", None, ("owner/name", None, None)),
        ("hf:name", "dev", ("name", None, "dev")),
        ("hf:owner/name:en", None, ("owner/name", "en", None)),
        ("hf:owner/name@train[:5%]", None, ("owner/name", None, "train[:5%]")),
        ("hf:owner/name:en-US@test", "test", ("owner/name", "en-US", "test")),
    ],
)
def test_hub_addresses(hub: SimpleNamespace, path: str, split: str | None, asked: tuple[str, ...]) -> None:
    hub.answer = FakeDataset([{"text": "a", "label": 1, "image": object()}])
    assert load(DatasetSpec(path=path, split=split, **SPEC))[0].ground_truth == 1
    assert hub.asked == asked


def test_hub_class_numbers_become_names(hub: SimpleNamespace) -> None:
    hub.answer = FakeDataset([{"text": "a", "label": 1}, {"text": "b", "label": 0}], names=["neg", "pos"])
    assert [s.ground_truth for s in load(DatasetSpec(path="hf:o/n", **SPEC))] == ["pos", "neg"]
    hub.answer = FakeDataset([{"text": "a", "label": -1}], names=["neg", "pos"])
    with pytest.raises(DataError, match="row 1, column 'label': the ground truth is missing"):
        load(DatasetSpec(path="hf:o/n", **SPEC))


def test_hub_splits(hub: SimpleNamespace) -> None:
    one, two = (FakeDataset([{"text": name, "label": 1}]) for name in ("one", "two"))
    hub.answer = {"test": two, "train": one}
    assert load(DatasetSpec(path="hf:o/n", **SPEC))[0]["query"] == "one"
    hub.answer = {"test": two}
    assert load(DatasetSpec(path="hf:o/n", **SPEC))[0]["query"] == "two"
    hub.answer = {"dev": one, "test": two}
    with pytest.raises(DataError, match=r"no split 'train'; state one, as in hf:o/n@dev: there are: 'dev', 'test'"):
        load(DatasetSpec(path="hf:o/n", **SPEC))
    with pytest.raises(DataError, match="the path says split 'a' and the setting 'b'"):
        load(DatasetSpec(path="hf:o/n@a", split="b", **SPEC))
    with pytest.raises(DataError, match="must look like hf:owner/name"):
        load(DatasetSpec(path="hf:", **SPEC))


def test_hub_failure_is_told_in_one_line(hub: SimpleNamespace) -> None:
    hub.answer = ConnectionError("Couldn't reach 'o/n' on the Hub\nlong trace")
    with pytest.raises(DataError, match=r"hf:o/n: .*ConnectionError: Couldn't reach.*network") as caught:
        load(DatasetSpec(path="hf:o/n", **SPEC))
    assert "long trace" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_real_library_on_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "d" / "test.csv").write_text("text,label\nc,z\n")
    path = f"hf:{tmp_path}/d"
    assert [s.ground_truth for s in load(DatasetSpec(path=path, **SPEC))] == ["x", "y"]
    assert [s.ground_truth for s in load(DatasetSpec(path=path + "@test", **SPEC))] == ["z"]
    with pytest.raises(DataError, match="cannot be loaded"):
        load(DatasetSpec(path=path + "@dev", **SPEC))
