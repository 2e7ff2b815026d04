"""From the keys that users write to the settings they mean: aliases, keys of other tools, unknown keys, secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from rollouts.experiments.config import ConfigFile, JobConfig
from rollouts.experiments.config_base import Path, Table, items_of, named_of, names_of, table_of
from rollouts.experiments.config_errors import Problem, dotted, is_secret, show, unknown_key

JOB = "prompt_learning"
ALGORITHMS = ("mipro", "gepa", "rmipro")
"""The searches, each of which has a table of its name; the first is the default."""
_KEEP_OUT = "keys belong in the environment or .env: set api_key_env to the name of the variable, and take the key out"
_OWN_FACTORY = "keys belong in the environment: name a factory of your own that reads it, and take the key out"


class Settings:
    """The settings of a job file under their own names, gathered key by key.

    `values` is what the models validate; `written` tells how a setting was written where that is not its own name;
    `notes` are the accepted keys that have no effect; `problems` what is wrong so far. With an `algorithm`, the tables
    of the others are checked for wrong keys, and nothing else is taken from them. `root` is the model of the file.
    """

    def __init__(self, algorithm: str = "", root: type[Table] = ConfigFile) -> None:
        self._algorithm, self._root = algorithm, root
        self.values: dict[str, Any] = {}
        self.written: dict[Path, str] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self._change: Callable[[Path, Any], Any] | None = None
        self._merge = False
        self._fixed: set[Path] = set()

    def add_file(self, data: Mapping[str, Any]) -> None:
        """Takes all keys of a parsed file. A setting that stands there under two names is a problem."""
        self._table(self._root, data, (), ())
        self._fixed.clear()

    def add_override(self, path: Path, value: Any, change: Callable[[Path, Any], Any]) -> None:
        """Sets one key over what is there; `change(path, value)` gives the value to store for a setting."""
        nested = value
        for key in reversed(path):
            nested = {key: nested}
        self._change, self._merge = change, not isinstance(value, Mapping)
        self._table(ConfigFile, nested, (), ())
        self._change, self._merge = None, False
        self._fixed.clear()

    def _table(self, table: type[Table], data: Mapping[str, Any], where: Path, written: Path) -> None:
        for name, value in data.items():
            if value is not None:
                self._key(table, name, value, where, (*written, name))

    def _key(self, table: type[Table], name: str, value: Any, where: Path, written: Path) -> None:
        field = names_of(table).get(name)
        if field is not None:
            self._setting(table, field, value, (*where, field), written)
        elif name in table.moved:
            target = (JOB, *table.moved[name].split("."))
            owner, field = _owner(target)
            self._setting(owner, field, value, target, written)
        elif name in table.foreign and isinstance(value, Mapping):
            self._table(table.foreign[name], value, (), written)
        elif name in table.foreign:
            self.problems.append(Problem(key=dotted(written), message=f"{show(value)}: expected a table"))
        elif name in table.no_effect:
            self.notes.append(f"{dotted(written)} has no effect here: {table.no_effect[name]}")
        elif is_secret(name):
            self.problems.append(Problem(key=dotted(written), message=_KEEP_OUT))
        else:
            known = homes() if self._root is ConfigFile else {}
            message = unknown_key(table, dotted(written[:-1]) or "file", name, known)
            self.problems.append(Problem(key=dotted(written), message=message))

    def _setting(self, table: type[Table], field: str, value: Any, path: Path, written: Path) -> None:
        info = table.model_fields[field]
        inner, items = table_of(info), items_of(info)
        if self._algorithm and path[0] == JOB and path[1:] in _idle(self._algorithm):
            self.notes.append(f"{dotted(written)} has no effect here: the algorithm is {self._algorithm}")
            apart = Settings()
            apart._setting(table, field, value, path, written)
            self.problems += apart.problems
            return
        if inner is not None and isinstance(value, Mapping):
            _branch(self.values, path)
            self._table(inner, value, path, written)
            return
        named = named_of(info)
        if named is not None and isinstance(value, Mapping):
            self._named(named, value, path, written)
            return
        if items is not None and isinstance(value, list):
            value = [self._item(items, item, (*path, str(n)), (*written, str(n))) for n, item in enumerate(value)]
        columns = path[:2] == (JOB, "dataset")  # a column or a label may have any name
        for secret in () if columns else _secrets(value, written):
            message = _OWN_FACTORY if path[:2] == (JOB, "environment") else _KEEP_OUT
            self.problems.append(Problem(key=dotted(secret), message=message))
        self._put(path, value, written)

    def _named(self, table: type[Table], tables: Mapping[str, Any], path: Path, written: Path) -> None:
        for name, value in tables.items():
            if isinstance(value, Mapping):
                _branch(self.values, (*path, name))
                self._table(table, value, (*path, name), (*written, name))
            elif value is not None:
                self._put((*path, name), value, (*written, name))

    def _item(self, table: type[Table], item: Any, path: Path, written: Path) -> Any:
        if not isinstance(item, Mapping):
            return item
        inner = Settings()
        inner._table(table, item, (), written)
        self.notes += inner.notes
        self.problems += inner.problems
        self.written.update({(*path, *key): text for key, text in inner.written.items()})
        return inner.values

    def _put(self, path: Path, value: Any, written: Path) -> None:
        if path in self._fixed:
            other = self.written.get(path) or dotted(path)
            message = f"the same setting as {other}; keep one of the two"
            self.problems.append(Problem(key=dotted(written), message=message))
            return
        self._fixed.add(path)
        self.written[path] = dotted(written)
        parent, last = _branch(self.values, path[:-1]), path[-1]
        if self._change is not None:
            value = self._change(path, value)
        if self._merge and isinstance(value, Mapping) and isinstance(parent.get(last), Mapping):
            value = {**parent[last], **value}
        parent[last] = value


def _idle(algorithm: str) -> set[Path]:
    return {(name,) for name in ALGORITHMS if name != algorithm}


@cache
def homes() -> dict[str, str]:
    """Every name of every setting -> its dotted key in the file, the outermost first."""
    found: dict[str, str] = {}
    for path, table in sorted(tables(), key=lambda entry: len(entry[0])):
        for name in names_of(table):
            found.setdefault(name, dotted((*path, name)))
    return found


def tables(path: Path = (JOB,), table: type[Table] = JobConfig) -> Iterator[tuple[Path, type[Table]]]:
    """(path, model) of every table of a job file, each followed by the tables inside it."""
    yield path, table
    for name, field in table.model_fields.items():
        inner = table_of(field)
        if inner is not None:
            yield from tables((*path, name), inner)


def _owner(path: Path) -> tuple[type[Table], str]:
    table: type[Table] = ConfigFile
    for key in path[:-1]:
        inner = table_of(table.model_fields[key])
        assert inner is not None, path
        table = inner
    return table, path[-1]


def _branch(values: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in path:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    return values


def _secrets(value: Any, written: Path) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if is_secret(str(key)) and isinstance(inner, str):
                yield (*written, str(key))
            else:
                yield from _secrets(inner, (*written, str(key)))
    elif isinstance(value, list | tuple):
        for n, inner in enumerate(value):
            yield from _secrets(inner, (*written, str(n)))
