"""Python functions as tools: schemas from annotations, arguments checked by pydantic."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic_core import to_jsonable_python

from rollouts.dtypes import Tool
from rollouts.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PARAMETER = re.compile(r"^\s*(?::param\s+(?:\S+\s+)?)?\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(\S.*)$")
_SECTION = re.compile(r"^\s*(args|arguments|parameters|params)\s*:?\s*$", re.IGNORECASE)
_OTHER_SECTION = re.compile(r"^\s*(returns?|raises?|yields?|examples?|notes?)\s*:?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Function:
    call: Callable[..., Any]
    tool: Tool
    model: type[BaseModel]


class PythonFunctionsEnvironment:
    """An `Environment` whose tools are the given functions, under their own names.

    Every parameter needs an annotation that pydantic can make a JSON schema of, and may have a default. The docstring
    is the description; lines such as `name: what it is`, under `Args:` or as `:param name:`, describe parameters.
    Arguments are checked and converted by the annotations (`"3"` for an int, a dict for a dataclass or model). A plain
    function runs in a thread of its own, an async one in the event loop, which it must not block. Texts are returned
    as they are, other results as JSON.

    `functions` given by name (a mapping) are called so. Functions of one sample that share a state are best bound
    methods of an object that the factory makes: `lambda sample: PythonFunctionsEnvironment([Shop(sample).buy])`.

    Raises ConfigError, which says what to change, for a function that cannot be a tool.
    """

    def __init__(self, functions: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]]) -> None:
        named = functions if isinstance(functions, Mapping) else {_name(call): call for call in functions}
        if len(named) < len(functions):
            raise ConfigError("two functions have the same name; give them as a mapping from name to function")
        if not named:
            raise ConfigError("an environment of functions needs at least one function")
        self._functions = {name: _function(name, call) for name, call in named.items()}

    async def reset(self, sample: Mapping[str, Any]) -> None:
        """Nothing to prepare: the functions' state is the caller's."""

    def tools(self) -> tuple[Tool, ...]:
        """One per function."""
        return tuple(function.tool for function in self._functions.values())

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The function's result; raises ValueError for arguments that do not fit, and what the function raises."""
        function = self._functions.get(name)
        if function is None:
            raise ValueError(f"no tool {name!r} (there are: {', '.join(self._functions)})")
        try:
            checked = function.model.model_validate(dict(arguments))
        except ValidationError as error:
            raise ValueError(_problems(error)) from None
        given = {field: getattr(checked, field) for field in checked.model_fields_set}
        given = {function.model.model_fields[field].alias or field: value for field, value in given.items()}
        if inspect.iscoroutinefunction(function.call):
            result = await function.call(**given)
        else:
            result = await _in_thread(lambda: function.call(**given))
            if inspect.isawaitable(result):
                result = await result
        return _text(result)

    async def close(self) -> None:
        """Nothing to free. A function that still runs in its thread is left to itself."""


def _name(call: Callable[..., Any]) -> str:
    name = getattr(call, "__name__", "")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{call!r} has no name that a model could call it by; give it one: {{'my_tool': function}} "
            "(letters, digits, - and _, at most 64)"
        )
    return name


def _function(name: str, call: Callable[..., Any]) -> _Function:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a tool's name: letters, digits, - and _, at most 64")
    description, documented = _documentation(call)
    hints = _hints(name, call)
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(inspect.signature(call).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigError(
                f"{name}: {parameter} cannot be given by name; wrap it in a function with plain parameters"
            )
        if parameter.name not in hints:
            raise ConfigError(
                f"{name}: the parameter {parameter.name!r} has no type; write {parameter.name}: str or so"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        # The alias keeps names apart from the model's own (`json`, `_private`, `model_config`).
        described = Field(default, alias=parameter.name, description=documented.get(parameter.name))
        fields[f"p{number}"] = (hints[parameter.name], described)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
        schema = model.model_json_schema(by_alias=True)
    except (PydanticUserError, TypeError) as error:
        raise ConfigError(f"{name}: its parameters have no JSON schema: {str(error).splitlines()[0]}") from None
    return _Function(call, Tool(name=name, description=description, parameters=_plain(schema)), model)


def _hints(name: str, call: Callable[..., Any]) -> dict[str, Any]:
    target = call if inspect.isroutine(call) or inspect.isclass(call) else type(call).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{name}: its annotations cannot be read: {error}") from None


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the titles that pydantic makes of names, which only cost tokens."""
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    return {"properties": {}, **schema}


def _documentation(call: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The docstring without its list of parameters, and what that says of each."""
    told: list[str] = []
    documented: dict[str, str] = {}
    names = set(inspect.signature(call).parameters)
    inside = False
    for line in (inspect.getdoc(call) or "").splitlines():
        described = _PARAMETER.match(line)
        if _SECTION.match(line):
            inside = True
        elif _OTHER_SECTION.match(line) or (inside and line and not line[0].isspace() and not described):
            inside = False
            told.append(line)
        elif described and described[1] in names and (inside or line.lstrip().startswith(":param")):
            documented[described[1]] = described[2].strip()
        elif not inside:
            told.append(line)
    return "\n".join(told).strip(), documented


def _problems(error: ValidationError) -> str:
    found = []
    for problem in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        found.append(f"{where}: {problem['msg']}" if where else problem["msg"])
    return "; ".join(found)


def _text(result: Any) -> str:
    if isinstance(result, str):
        return result
    return json.dumps(to_jsonable_python(result, fallback=str), ensure_ascii=False)


async def _in_thread(work: Callable[[], Any]) -> Any:
    """`work` in a daemon thread: one that hangs delays neither the pool's other users nor the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def finish(result: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_result((result, error))

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(work)
        except BaseException as raised:  # noqa: BLE001 - it belongs to the caller
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, result, error)

    context = contextvars.copy_context()
    threading.Thread(target=run, name="tool", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result
