"""A stable name for what a metric computes, so that a changed metric is never served old scores."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

from rollouts.dtypes import digest

_PYTHON = sysconfig.get_path("stdlib")
_INSTALLED = {"site-packages", "dist-packages"}


def metric_identity(score_fn: Callable[..., Any]) -> str:
    """A string that names the metric in rollout keys, the same in every process.

    A metric with a text attribute `identity` (as the built-in ones have) is known by it. Others are known by
    `module:qualname` and a digest of their source code; of the functions and constants (upper-case names) of their
    module that they use, and so on; and of their defaults, closure and bound arguments. Of an instance (a callable one,
    the one of a bound method, and one that is a bound argument) its state counts, and its class with its bases and
    what their methods use; so do instances in that state, as far as their classes are the user's own. Editing any of
    these changes the identity. What is reached otherwise (other modules, files, other state that is not JSON) is not
    seen: give the metric an `identity` and change it when that changes. Code without source is digested as byte code.
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
            yield from _state([list(value.args), value.keywords], seen, walk=True)
        case MethodType():
            seen.add(id(value))
            yield from _parts(value.__func__, seen)
            yield from _instance(value.__self__, seen)
        case FunctionType():
            seen.add(id(value))
            yield from _function(value, seen)
        case type():
            seen.add(id(value))
            yield from _class(value, seen)
        case _ if callable(value):
            yield from _instance(value, seen)
        case _:
            yield from _state(value, seen)


def _instance(value: Any, seen: set[int]) -> Iterator[str]:
    stated = getattr(value, "identity", None)
    if isinstance(value, type) or (isinstance(stated, str) and stated):
        yield from _parts(value, seen)
    elif id(value) not in seen:
        seen.add(id(value))
        yield _name(value)
        yield from _parts(type(value), seen)
        state = {name: getattr(value, name, None) for kind in type(value).__mro__ for name in _slots(kind)}
        state |= getattr(value, "__dict__", {})
        if _sayable(state):
            yield from _state(state, seen, walk=True)
            return
        for name in sorted(state):  # one odd value does not hide the others
            yield name
            yield from _state(state[name], seen, walk=True)


def _slots(kind: type) -> Iterator[str]:
    slots = vars(kind).get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if not name.endswith("__"):
            yield f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name


def _sayable(state: Any) -> bool:
    try:
        json.dumps(state, sort_keys=True, default=lambda item: "")
    except (TypeError, ValueError):
        return False
    return True


def _class(kind: type, seen: set[int]) -> Iterator[str]:
    """Its source; where it is the user's own, also what its methods use, and its bases."""
    source = _source(kind)
    yield source or _name(kind)
    if not _own(kind):
        return
    for _, member in sorted(vars(kind).items()):
        accessors = (member.fget, member.fset) if isinstance(member, property) else (member,)
        for accessor in accessors:
            method: Any = getattr(accessor, "__func__", getattr(accessor, "func", accessor))
            method = inspect.unwrap(method)
            if not isinstance(method, FunctionType) or method.__module__ != kind.__module__:
                continue
            if not source:
                yield from _parts(method, seen)
            elif method.__code__.co_filename != "<string>":  # generated, as for data classes: the source tells all
                yield from _used(method, seen)
    for base in kind.__bases__:
        if _own(base):
            yield from _parts(base, seen)


def _own(kind: type) -> bool:
    """Whether a class is the user's: neither of this package, nor of Python, nor of another package installed."""
    module = kind.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if module.partition(".")[0] == __name__.partition(".")[0]:
        return False
    return module == "__main__" if file is None else not (file.startswith(_PYTHON) or _INSTALLED & {*Path(file).parts})


def _function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    function = inspect.unwrap(function)
    yield _name(function)
    yield _source(function) or _byte_code(function.__code__)
    yield from _state([list(function.__defaults__ or ()), function.__kwdefaults__ or {}], seen)
    yield from _used(function, seen)


def _used(function: FunctionType, seen: set[int]) -> Iterator[str]:
    """What a function uses of its closure and of its module."""
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


def _state(value: Any, seen: set[int], *, walk: bool = False) -> Iterator[str]:
    """`value` as JSON; where it holds functions these count too, with `walk` also the user's own instances, and of
    anything else only the type."""
    inner: list[Any] = []

    def other(item: Any) -> str:
        if callable(item) or (walk and _own(type(item))):
            inner.append(item)
        elif isinstance(item, set | frozenset):
            return repr(sorted(map(_element, item)))
        elif isinstance(item, re.Pattern):
            return repr((item.pattern, item.flags))
        return _name(item)

    try:
        yield json.dumps(value, sort_keys=True, default=other)
    except (TypeError, ValueError):  # keys that can't be sorted, or a circle
        yield _name(value)
    for item in inner:
        yield from _instance(item, seen) if walk and _own(type(item)) else _parts(item, seen)


def _element(value: Any) -> str:
    text = repr(value)
    return _name(value) if " at 0x" in text else text


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
