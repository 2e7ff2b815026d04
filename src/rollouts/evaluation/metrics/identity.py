"""A stable name for what a metric computes, so that a changed metric is never served old scores."""

from __future__ import annotations

import functools
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

from rollouts.dtypes import digest


def metric_identity(score_fn: Callable[..., Any]) -> str:
    """A string that names the metric in rollout keys, the same in every process.

    A metric with a text attribute `identity` (as the built-in ones have) is known by it. Others are known by
    `module:qualname` and a digest of their source code; of the functions and constants (upper-case names) of their
    module that they use, and so on; and of their defaults, closure and bound arguments. Editing any of these changes
    the identity. What is reached otherwise (other modules, files, state that is not JSON) is not seen: give the metric
    an `identity` and change it when that changes. Code without source is digested as byte code.
    """
    stated = getattr(score_fn, "identity", None)
    if isinstance(stated, str) and stated:
        return stated
    return f"{_name(score_fn)}#{digest(*_parts(score_fn, set()))}"


def _name(value: Any) -> str:
    value = value.func if isinstance(value, functools.partial) else value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '?')}:{named.__qualname__}"


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    """The texts that decide what `value` computes; `seen` holds the ids of what was already walked."""
    if id(value) in seen:
        return
    stated = getattr(value, "identity", None)
    if isinstance(stated, str) and stated:
        yield stated
        return
    match value:
        case functools.partial():
            seen.add(id(value))
            yield from _parts(value.func, seen)
            yield from _state([list(value.args), value.keywords], seen)
        case MethodType():
            seen.add(id(value))
            yield from _parts(value.__func__, seen)
            yield from _parts(value.__self__, seen)
        case FunctionType():
            seen.add(id(value))
            yield from _function(value, seen)
        case type():
            seen.add(id(value))
            yield _source(value) or _name(value)
        case _ if callable(value):
            seen.add(id(value))
            yield _name(value)
            yield from _parts(type(value), seen)
            slots = {name: getattr(value, name, None) for name in getattr(type(value), "__slots__", ())}
            yield from _state({**slots, **getattr(value, "__dict__", {})}, seen)
        case _:
            yield from _state(value, seen)


def _function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    function = inspect.unwrap(function)
    yield _name(function)
    yield _source(function) or _byte_code(function.__code__)
    yield from _state([list(function.__defaults__ or ()), function.__kwdefaults__ or {}], seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # a cell that is not filled yet
            continue
    for name in sorted(_globals_used(function.__code__)):
        used = function.__globals__.get(name)
        local = getattr(used, "__module__", None) == function.__module__
        if isinstance(used, FunctionType | type) and local:
            yield from _parts(used, seen)
        elif name.isupper() and name in function.__globals__:
            yield name
            yield from _state(used, seen)


def _state(value: Any, seen: set[int]) -> Iterator[str]:
    """`value` as JSON; where it holds functions these count too, and of anything else only the type."""
    inner: list[Any] = []

    def other(item: Any) -> str:
        if callable(item):
            inner.append(item)
        elif isinstance(item, set | frozenset):
            return repr(sorted(map(repr, item)))
        elif isinstance(item, re.Pattern):
            return repr((item.pattern, item.flags))
        return _name(item)

    try:
        yield json.dumps(value, sort_keys=True, default=other)
    except (TypeError, ValueError):  # keys that can't be sorted, or a circle
        yield _name(value)
    for item in inner:
        yield from _parts(item, seen)


def _globals_used(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _globals_used(constant)
    return names


def _source(thing: type | Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(thing)).strip()
    except (OSError, TypeError):
        return ""


def _byte_code(code: CodeType) -> str:
    constants = [_byte_code(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    return digest(code.co_code.hex(), *code.co_names, *code.co_varnames, *constants)


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
