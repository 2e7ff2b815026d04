"""A data set on disk or on the hub -> samples."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollouts.datasets.catalogue import resolve
from rollouts.datasets.columnar import hub, parquet
from rollouts.datasets.columns import answer_in, detect_ground_truth, is_missing, plain
from rollouts.datasets.spec import DatasetSpec, format_of, is_built_in, text_of
from rollouts.datasets.tables import Row, Table, did_you_mean, fail
from rollouts.datasets.text_files import delimited, json_file, json_lines
from rollouts.dtypes import Sample
from rollouts.errors import ConfigError


def load(
    spec: DatasetSpec,
    *,
    placeholders: frozenset[str] = frozenset(),
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    timeout_s: float = 30.0,
) -> list[Sample]:
    """The samples of a data set, in file order.

    `placeholders` are the names that the prompt uses: where `spec.inputs` is empty they tell inputs from ground
    truth, and rows without a value for one are refused. A named data set is looked for in `data_dir`, else downloaded
    to `cache_dir`, waiting `timeout_s` seconds at most for each piece. Ids are those of `spec.id`, or row numbers
    from 1. A file is read as a stream; only the samples that are kept are held in memory (JSON is read whole).

    Raises DataError, which names file, row and column, and ConfigError when `spec` does not fit the source.
    """
    spec, table = open_table(spec, data_dir=data_dir, cache_dir=cache_dir, timeout_s=timeout_s)
    layout = _layout(spec, table, placeholders)
    labels = _Labels(spec=spec, column=layout.ground_truth or "")
    samples = _unique(table.name, spec.id, _samples(spec, table, layout, labels))
    kept = list(samples) if spec.limit is None else _drawn(samples, spec.limit, spec.seed)
    if not kept and not labels.raw and not labels.others:
        raise fail(table.name, "has columns and no rows")
    labels.check()
    return [sample for _, sample in kept]


def open_table(
    spec: DatasetSpec, *, data_dir: Path | None = None, cache_dir: Path | None = None, timeout_s: float = 30.0
) -> tuple[DatasetSpec, Table]:
    """The source as a table, and the spec with what a built-in name stands for filled in. Raises as `load`."""
    if spec.format is None and is_built_in(spec.path):
        spec, path = resolve(spec, data_dir=data_dir, cache_dir=cache_dir, timeout_s=timeout_s)
        return spec, delimited(spec, path, ",")
    kind, path = format_of(spec), Path(spec.path)
    if kind not in ("csv", "tsv"):
        for name in ("columns", "delimiter", "quoting"):
            if getattr(spec, name) not in (None, ()):
                raise ConfigError(f"{spec.name}: {name} is for CSV and TSV files, this is {kind}")
    if kind != "hf" and spec.split is not None:
        raise ConfigError(f"{spec.name}: split is for hf: sources and banking77, this is a {kind} file")
    if kind == "hf":
        return spec, hub(spec)
    if kind == "parquet":
        return spec, parquet(spec, path)
    if kind in ("csv", "tsv"):
        return spec, delimited(spec, path, "," if kind == "csv" else "\t")
    return spec, json_lines(spec, path) if kind == "jsonl" else json_file(spec, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Placeholder -> column for what a row must have; `others`: the remaining columns are inputs too."""

    inputs: Mapping[str, str]
    others: bool
    ground_truth: str | None
    wanted: tuple[str, ...]


def _layout(spec: DatasetSpec, table: Table, placeholders: frozenset[str]) -> _Layout:
    inputs = spec.inputs or {name: name for name in sorted(placeholders & set(table.columns))}
    for what, column in [
        *((f"input {{{name}}}", c) for name, c in inputs.items()),
        ("ground_truth", spec.ground_truth),
        ("id", spec.id),
    ]:
        if column is not None and column not in table.columns:
            raise fail(
                table.name,
                f"{what} needs this column; {did_you_mean(column, table.columns)}{table.hint}",
                column=column,
            )
    used = set(inputs.values())
    answers = [column for column in table.columns if column != spec.id]
    truth = spec.ground_truth or detect_ground_truth(answers, used, source=table.name)
    if truth is not None and truth in inputs.values():
        raise fail(table.name, "is both an input and the ground truth: the prompt would hold the answer", column=truth)
    if truth is None and (spec.labels or spec.rename_labels):
        raise fail(table.name, "labels and rename_labels need a ground truth, and there is no ground-truth column left")
    if spec.inputs:
        wanted = tuple(column for column in table.columns if column in used or column in (truth, spec.id))
    else:
        wanted = tuple(column for column in table.columns if column)
    return _Layout(inputs=inputs, others=not spec.inputs, ground_truth=truth, wanted=wanted)


def _samples(spec: DatasetSpec, table: Table, layout: _Layout, labels: _Labels) -> Iterator[tuple[Row, Sample]]:
    hidden = {layout.ground_truth, spec.id, ""}
    for row in table.rows(layout.wanted):
        truth = None
        if layout.ground_truth is not None:
            truth, kept = labels.take(_answer(table.name, row, layout.ground_truth))
            if not kept:
                continue
        inputs = {name: _input(table.name, row, column) for name, column in layout.inputs.items()}
        if layout.others:
            for column, value in row.values.items():
                if column not in hidden and column not in inputs:
                    inputs[column] = plain(value, table.name, row.where, column)
        yield row, Sample(inputs=inputs, ground_truth=truth, id=_id(table.name, row, spec.id))


def _answer(name: str, row: Row, column: str) -> Any:
    value = answer_in(row.values, column, name, row.where)
    if isinstance(value, str) and not value.strip():
        raise fail(name, "the ground truth is empty; fill it in or remove the row", where=row.where, column=column)
    return value


def _input(name: str, row: Row, column: str) -> Any:
    value = row.values.get(column)
    if is_missing(value):
        raise fail(name, "the input is missing or null; fill it in or remove the row", where=row.where, column=column)
    return plain(value, name, row.where, column)


def _id(name: str, row: Row, column: str | None) -> str:
    if column is None:
        return str(row.number)
    value = row.values.get(column)
    if is_missing(value) or value == "":
        raise fail(name, "the id is missing", where=row.where, column=column)
    return str(value)


def _unique(name: str, column: str | None, samples: Iterable[tuple[Row, Sample]]) -> Iterator[tuple[Row, Sample]]:
    """Passes samples on; raises DataError at the first repeated id. Row numbers cannot repeat."""
    seen: dict[str, str] = {}
    for row, sample in samples:
        if column is not None:
            if sample.id in seen:
                raise fail(
                    name,
                    f"the id {sample.id!r} is already that of {seen[sample.id]}; ids must be unique",
                    where=row.where,
                    column=column,
                )
            seen[sample.id] = row.where
        yield row, sample


def _drawn(samples: Iterable[tuple[Row, Sample]], limit: int, seed: int) -> list[tuple[Row, Sample]]:
    """A uniform sample of `limit`, in the given order, holding no more than that (Vitter 1985, algorithm R)."""
    rng = random.Random(seed)
    kept: list[tuple[Row, Sample]] = []
    for count, item in enumerate(samples):
        if count < limit:
            kept.append(item)
        elif (place := rng.randrange(count + 1)) < limit:
            kept[place] = item
    return sorted(kept, key=lambda item: item[0].number)


@dataclass(slots=True, kw_only=True)
class _Labels:
    """Renames ground truths, keeps the wanted ones, and remembers which occurred; `others` are no labels."""

    spec: DatasetSpec
    column: str
    others: int = 0
    raw: set[str] = field(default_factory=set)
    renamed: set[str] = field(default_factory=set)

    def take(self, value: Any) -> tuple[Any, bool]:
        """The renamed value, and whether its row is kept."""
        if not self.spec.rename_labels and not self.spec.labels:
            return value, True
        text = text_of(value)
        if text is None:
            self.others += 1
            return value, not self.spec.labels
        self.raw.add(text)
        value = self.spec.rename_labels.get(text, value)
        label = self.spec.rename_labels.get(text, text)
        self.renamed.add(label)
        return value, not self.spec.labels or label in self.spec.labels

    def check(self) -> None:
        """Raises DataError when a wanted label never occurred, or no label that is to be renamed did."""
        rename = self.spec.rename_labels
        if self.others and not self.raw:
            raise fail(
                self.spec.name,
                "every ground truth is a list or an object, which is no label; leave labels and rename_labels out",
                column=self.column,
            )
        if rename and not self.raw & set(rename):
            name = next(iter(rename))
            raise fail(
                self.spec.name,
                f"rename_labels: {name!r} never occurs; {did_you_mean(name, sorted(self.raw))}",
                column=self.column,
            )
        for name in self.spec.labels:
            if name not in self.renamed:
                raise fail(
                    self.spec.name,
                    f"labels: {name!r} never occurs; {did_you_mean(name, sorted(self.renamed))}",
                    column=self.column,
                )
