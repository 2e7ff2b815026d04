"""Parquet files and Hugging Face data sets. Both need extras, which are imported when they are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from rollouts.datasets.spec import DatasetSpec
from rollouts.datasets.tables import Row, Table, did_you_mean, fail

_HUB = re.compile(r"hf:(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^@]+))?")
_BATCH = 4096


def parquet(spec: DatasetSpec, path: Path) -> Table:
    """A parquet file, read in batches and only the columns that are asked for."""
    name = spec.name
    if not path.is_file():
        raise fail(name, "there is no such file")
    pq = _extra("pyarrow.parquet", "data", name)
    arrow = _extra("pyarrow", "data", name)
    try:
        columns = tuple(pq.ParquetFile(path).schema_arrow.names)
    except (arrow.ArrowException, OSError) as error:
        raise fail(name, f"not a readable parquet file ({type(error).__name__})") from error

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH, columns=list(wanted)):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(number, f"row {number}", values)
        except (arrow.ArrowException, OSError) as error:
            raise fail(
                name, f"the parquet data is damaged ({type(error).__name__})", where=f"row {number + 1}"
            ) from error

    return Table(name=name, columns=columns, rows=rows)


def hub(spec: DatasetSpec) -> Table:
    """`hf:owner/name[:config][@split]`. Class numbers become class names.

    Without a split the only one is taken, else `train`; raises DataError when there is no `train`, and when the data
    set cannot be loaded (no such name, no network).
    """
    match = _HUB.fullmatch(spec.name)
    if match is None:
        raise fail(spec.name, "must look like hf:owner/name, hf:owner/name:config or hf:owner/name:config@split")
    stated = match["split"]
    if stated and spec.split and stated != spec.split:
        raise fail(spec.name, f"the path says split {stated!r} and the setting {spec.split!r}; state one")
    library = _extra("datasets", "hf", spec.name)
    data = _loaded(library, spec.name, match["name"], match["config"], stated or spec.split)
    if isinstance(data, Mapping):
        data = _one_split(spec.name, data)
    columns = tuple(data.column_names)
    names = {column: _class_names(data.features.get(column)) for column in columns}

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        for number, values in enumerate(data.select_columns(list(wanted)), start=1):
            yield Row(number, f"row {number}", {column: names[column](value) for column, value in values.items()})

    return Table(name=spec.name, columns=columns, rows=rows)


def _loaded(library: ModuleType, source: str, name: str, config: str | None, split: str | None) -> Any:
    try:
        return library.load_dataset(name, config, split=split)
    # The library downloads, unpacks and parses: any kind of error means that the data cannot be had.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")[:300]
        raise fail(
            source,
            f"the Hugging Face data set cannot be loaded ({type(error).__name__}: {reason}); check name, "
            "configuration, split and network, or download it and give the file's path",
        ) from error


def _one_split(source: str, splits: Mapping[str, Any]) -> Any:
    if len(splits) == 1:
        return next(iter(splits.values()))
    if "train" in splits:
        return splits["train"]
    raise fail(
        source,
        f"has no split 'train'; state one, as in {source}@{next(iter(splits), 'test')}: "
        + did_you_mean("train", list(splits)),
    )


def _class_names(feature: Any) -> Callable[[Any], Any]:
    """ClassLabel features store numbers; -1 marks a hidden answer there."""
    labels = getattr(feature, "names", None)
    if not labels:
        return lambda value: value
    return lambda value: labels[value] if isinstance(value, int) and 0 <= value < len(labels) else None


def _extra(module: str, extra: str, source: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise fail(source, f"needs the package {package!r}: pip install 'rollouts-optimizer[{extra}]'") from error
