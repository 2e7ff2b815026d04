"""Everything that is wrong with a job file, in plain words: which key, what stands there, what is expected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from pydantic import ValidationError

from rollouts.dtypes import digest_of
from rollouts.errors import ConfigError
from rollouts.experiments.config_base import Path, Table, items_of, named_of, names_of, table_of, type_in_words

_NEAR = 0.7
_SECRET = re.compile(
    r"(^|[_-])(api[_-]?key|apikey|authorization|password|passwd|secret|bearer)$"
    r"|^(?!(.*[_-])?(max|min)[_-]).*(token|access[_-]?key|subscription[_-]?key)$",
    re.I,
)
_SENT = frozenset({"extra_headers", "extra_query", "headers", "env"})
"""Tables of the user's own names, any of which may be a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to change. `key` is dotted, as the user wrote it; empty for the file as a whole."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


def config_error(source: str, problems: Iterable[Problem]) -> ConfigError:
    """One error for all problems of `source`, one line each, in the order found."""
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    if len(lines) == 1:
        return ConfigError(f"{source}: {lines[0]}")
    return ConfigError("\n  ".join([f"{source}: {len(lines)} problems", *lines]))


def dotted(path: Iterable[str]) -> str:
    """Keys as TOML writes them: `a.b`, with list positions as `a[0].b`."""
    out = ""
    for key in path:
        out += f"[{key}]" if key.isdigit() else f".{key}" if out else key
    return out


def is_secret(name: str) -> bool:
    """Whether a setting of this name would hold a key or password."""
    return _SECRET.search(name) is not None


def without_secrets(settings: Any) -> Any:
    """Settings to store and show: what is sent in headers, queries and environments is replaced by a mark of it. Other
    values have other marks, so that a change is still noticed."""
    if isinstance(settings, Mapping):
        return {
            key: _marked(value) if key in _SENT and isinstance(value, Mapping) else without_secrets(value)
            for key, value in settings.items()
        }
    return [without_secrets(item) for item in settings] if isinstance(settings, list) else settings


def _marked(table: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"[redacted {digest_of([key, value])[:8]}]" for key, value in table.items()}


def show(value: Any) -> str:
    """A value as it stands in the file, shortened; of a table that may hold more than texts and numbers, nothing."""
    if isinstance(value, Mapping):
        plain = value and all(isinstance(v, str | int | float) and not is_secret(str(k)) for k, v in value.items())
        if not plain:
            return "a table"
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return "a list of tables"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:56] + " ..."


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `name` was most likely meant to be; None when none is near."""
    plain = name.lower().replace("-", "_")
    scored = [(SequenceMatcher(None, plain, other.lower()).ratio(), other) for other in names]
    ratio, best = max(scored, key=lambda pair: (pair[0], -abs(len(pair[1]) - len(plain))), default=(0.0, ""))
    return best if ratio >= _NEAR or (ratio > 0.6 and len(best) < 4) else None


def unknown_key(table: type[Table], where: str, name: str, homes: Mapping[str, str]) -> str:
    """The message for a key that `table`, written as `where`, does not have.

    `homes` are the names of all other settings -> the dotted key where they belong.
    """
    foreign = () if table.model_fields else (*table.moved, *table.no_effect)
    keys = ", ".join(sorted((*table.model_fields, *foreign)))
    known = {*names_of(table), *table.moved, *table.foreign, *foreign}
    guess = nearest(name, known)
    if guess is None:
        guess = homes.get(name) or homes.get(nearest(name, homes) or "")
    hint = f"; did you mean '{guess}'?" if guess else ""
    return f"unknown key{hint} Keys of [{where}]: {keys}" if hint else f"unknown key. Keys of [{where}]: {keys}"


def from_pydantic(error: ValidationError, root: type[Table], data: Any, written: Mapping[Path, str]) -> list[Problem]:
    """What a failed validation of `data` says. `written` are the keys as they stand in the file, where that differs."""
    problems: dict[Path, Problem] = {}
    for entry in error.errors(include_url=False, include_context=False):
        path, words, kind = _place(root, tuple(str(part) for part in entry["loc"]))
        key, expected = written.get(path) or dotted(path), _article(words)
        missing = entry["type"] == "missing"
        message = f"missing; expected {expected}" if missing else f"{show(_at(data, path))}: expected {expected}"
        if kind == "secret" and not missing:
            message = f"expected {expected}"
        problems.setdefault(path, Problem(key=key, message=message))
    return list(problems.values())


def _place(root: type[Table], loc: Path) -> tuple[Path, str, str]:
    """(path of the setting, what it may hold, `secret` where its value is not to be shown) for pydantic's location.

    Pydantic adds the members of unions to locations; they are left out.
    """
    table: type[Table] = root
    path: Path = ()
    rest = list(loc)
    while rest:
        name = rest.pop(0)
        if name not in table.model_fields:
            return (*path, name), "no such key", "secret"
        field = table.model_fields[name]
        inner, items = table_of(field), items_of(field)
        if inner is not None and rest:
            table, path = inner, (*path, name)
        elif (named := named_of(field)) is not None and rest:
            table, path = named, (*path, name, rest.pop(0))
        elif items is not None and len(rest) > 1 and rest[0].isdigit():
            path = (*path, name, rest.pop(0))
            table = items
        else:
            position = next((part for part in rest if part.isdigit()), None) if items is not None else None
            here = (*path, name) if position is None else (*path, name, position)
            expected = "table" if position is not None else type_in_words(table, name)
            return here, expected, "secret" if name in ("api_key_env", "base_url", "store") else ""
    return path, "table", ""


def _article(words: str) -> str:
    head = words.partition(" ")[0]
    article = {"integer": "an ", "number": "a ", "list": "a ", "table": "a ", "non-empty": "a ", "name": "the "}.get(
        head, ""
    )
    return article + words


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[int(key)] if isinstance(data, list | tuple) else data[key]
    return data
