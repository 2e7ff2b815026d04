"""Where a data set is and which columns of it are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from rollouts.errors import ConfigError

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "hf"]
FORMATS: tuple[str, ...] = get_args(Format)
BUILT_IN = ("banking77", "tickets")
_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set and how its rows become samples.

    `path` is a file, a built-in name (`tickets`, `banking77`) or `hf:owner/name[:config][@split]`. `format` overrides
    what the extension says. `columns` names the columns of a CSV or TSV file that has no header.

    `inputs` maps placeholder to column; empty means every column but ground truth and id, under its own name.
    `ground_truth` is the column with the expected answer; None means that it is detected (see `detect_ground_truth`).
    `rename_labels` maps ground truths, written as text, to what the model should answer; `labels` then keeps only
    the rows with these (renamed) ground truths. `id` is a column with unique values; None numbers the rows from 1.

    `delimiter` (one character) and `quoting` belong to CSV and TSV; quotes are read as quotes in CSV and as plain
    text in TSV unless `quoting` says otherwise. `split` is for `hf:` and `banking77`. `limit` keeps at most that many
    rows: a uniform sample drawn with `seed`, in file order, because files are often sorted by label.

    Raises ConfigError when the fields contradict each other.
    """

    path: str | Path
    format: Format | None = None
    columns: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict, hash=False)
    ground_truth: str | None = None
    rename_labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: tuple[str, ...] = ()
    id: str | None = None
    delimiter: str | None = None
    quoting: bool | None = None
    split: str | None = None
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("columns", "labels"):
            if isinstance(value := getattr(self, name), str):
                raise ConfigError(f"dataset {name} must be a list of names, not the text {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not str(self.path):
            raise ConfigError("the data set has no path: give a file, 'hf:owner/name' or one of " + ", ".join(BUILT_IN))
        if self.format is not None and self.format not in FORMATS:
            raise ConfigError(f"unknown data format {self.format!r}; one of {', '.join(FORMATS)}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"delimiter must be one character, not {self.delimiter!r}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, not {self.limit}")
        if repeated := [name for name in dict.fromkeys(self.columns) if self.columns.count(name) > 1]:
            raise ConfigError(f"columns names {', '.join(map(repr, repeated))} more than once")
        leaks = [name for name, column in self.inputs.items() if column == self.ground_truth]
        if leaks:
            raise ConfigError(
                f"input {leaks[0]!r} is the ground-truth column {self.ground_truth!r}: the prompt would hold the answer"
            )

    @property
    def name(self) -> str:
        """How messages call the data set: the path as it was given."""
        return str(self.path)


def is_file_path(path: str | Path) -> bool:
    """Whether `path` means a file, so that a relative one is to be resolved; names and `hf:` sources are not files."""
    return not is_built_in(path) and not str(path).startswith("hf:")


def is_built_in(path: str | Path) -> bool:
    """Whether `path` is the name of a built-in data set, with or without `@split`; a `Path` never is."""
    return isinstance(path, str) and path.partition("@")[0] in BUILT_IN


def format_of(spec: DatasetSpec) -> str:
    """The stated format, or what the path's prefix or extension says; raises ConfigError when neither is known."""
    if spec.format is not None:
        return spec.format
    if spec.name.startswith("hf:"):
        return "hf"
    extension = PurePath(spec.name).suffix.lower()
    if extension not in _EXTENSIONS:
        known = ", ".join(_EXTENSIONS)
        raise ConfigError(
            f"{spec.name}: cannot tell the format from the extension {extension!r}; "
            f"use one of {known}, set format, or name a built-in data set ({', '.join(BUILT_IN)})"
        )
    return _EXTENSIONS[extension]


def text_of(value: Any) -> str | None:
    """A label as text, as `labels` and `rename_labels` write it; None for what is no label (null, list, object)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None
