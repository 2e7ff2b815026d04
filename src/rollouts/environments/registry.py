"""From a name, as written in a job file, to environments."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rollouts.dtypes import Environment, EnvironmentFactory, canonical_json, digest
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.environments.mcp import MCPEnvironment
from rollouts.errors import ConfigError
from rollouts.imports import import_object

ENVIRONMENTS: Mapping[str, Callable[..., Environment]] = {
    "calculator": CalculatorEnvironment,
    "mcp": MCPEnvironment,
}
"""The ready environments by name; each is made anew, with the same options, for every rollout."""


def make_environment_factory(name: str, **options: Any) -> EnvironmentFactory:
    """A factory of the environments called `name`.

    - `calculator`: a `CalculatorEnvironment`; no options.
    - `mcp`: an `MCPEnvironment`; `options` are its arguments, of which `command` or `url` is needed.
    - `package.module:factory`: imported, with the working directory on the path, and called with the inputs of each
      sample (a dict) and `options`; it returns an environment.

    Rollouts made with another name or other options have other keys. Raises ConfigError for an unknown name (with the
    nearest one), options that do not fit, and an extra that is missing.
    """
    if ":" in name:
        try:
            found = import_object(name)
        except ConfigError as error:
            raise ConfigError(f"environment {name!r} cannot be imported: {error}") from error
        _check(name, found, ({},), options)
        return functools.partial(found, **options)
    make = ENVIRONMENTS.get(name.strip().lower())
    if make is None:
        near = difflib.get_close_matches(name.lower(), ENVIRONMENTS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"unknown environment {name!r}{hint} (known: {', '.join(ENVIRONMENTS)}); "
            "for your own write 'package.module:factory'"
        )
    _check(name, make, (), options)
    make(**options)  # options that do not fit each other are found here, not in the first rollout
    return _Factory(name, lambda sample: make(**options), options)


class _Factory:
    """A factory whose `identity` goes into rollout keys; of `options`, which may hold secrets, only as a digest."""

    def __init__(self, name: str, make: Callable[[dict[str, Any]], Environment], options: Mapping[str, Any]) -> None:
        self._make = make
        try:
            key = digest(canonical_json(dict(options)))
        except TypeError:
            key = digest(repr(sorted(options.items())))
        self.identity = f"environment {name} {key}"

    def __call__(self, sample: dict[str, Any]) -> Environment:
        return self._make(sample)


def _check(name: str, call: Any, given: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    if not callable(call):
        raise ConfigError(f"environment {name!r} is a {type(call).__name__}, not a function of the sample's inputs")
    try:
        signature = inspect.signature(call)
    except ValueError:  # a callable without a signature: the call itself says what is wrong
        return
    try:
        signature.bind(*given, **options)
    except TypeError as problem:
        known = ", ".join(list(signature.parameters)[len(given) :]) or "none"
        raise ConfigError(f"environment {name!r}: {problem} (its options: {known})") from None
