"""From a metric's name, as written in a config or on the command line, to the score function."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, cast

from rollouts.dtypes import ScoreFn
from rollouts.errors import ConfigError
from rollouts.evaluation.metrics.judge import llm_judge
from rollouts.evaluation.metrics.numeric import numeric_match
from rollouts.evaluation.metrics.structured import json_schema
from rollouts.evaluation.metrics.text import contains, exact_match, f1, regex
from rollouts.imports import import_object

METRICS: dict[str, Callable[..., ScoreFn]] = {
    "contains": contains,
    "exact_match": exact_match,
    "f1": f1,
    "judge": llm_judge,
    "json_schema": json_schema,
    "llm_judge": llm_judge,
    "numeric_match": numeric_match,
    "regex": regex,
}
"""The built-in metrics: name -> factory that takes the metric's options."""


def resolve_metric(metric: str | ScoreFn, **options: Any) -> ScoreFn:
    """The score function behind a name, an import path or a callable.

    - A name of `METRICS` (`exact_match` or `exact-match`): the factory is called with `options`.
    - `package.module:function`: imported, with the working directory on the path. Without options it is the score
      function itself; with options it is a factory that is called with them and returns one.
    - A callable is returned as it is, and takes no options.

    Raises ConfigError that says what was not found or does not fit, with the nearest known names. An error inside the
    user's module other than a failed import is passed on as it is.
    """
    if not isinstance(metric, str):
        if not callable(metric):
            raise ConfigError(
                f"a metric is a name or a function (trajectory, sample) -> Score, not {type(metric).__name__}"
            )
        if options:
            raise ConfigError(f"options {sorted(options)} need a metric named by text; this one is already a function")
        return metric
    name = metric.strip()
    if ":" in name:
        found = import_object(name)
        return _built(name, found, options) if options else _callable(name, found)
    factory = METRICS.get(name.lower().replace("-", "_"))
    if factory is None:
        raise ConfigError(_unknown(name))
    return _built(name, factory, options)


def _built(name: str, factory: Any, options: dict[str, Any]) -> ScoreFn:
    _callable(name, factory)
    try:
        signature = inspect.signature(factory)
    except ValueError:  # a callable without a signature: the call itself says what is wrong
        signature = None
    if signature is not None:
        try:
            signature.bind(**options)
        except TypeError as problem:
            known = ", ".join(signature.parameters) or "none"
            raise ConfigError(f"metric {name!r}: {problem} (its options: {known})") from None
    return _callable(name, factory(**options))


def _callable(name: str, found: Any) -> ScoreFn:
    if not callable(found):
        raise ConfigError(f"metric {name!r} is a {type(found).__name__}, not a function (trajectory, sample) -> Score")
    return cast(ScoreFn, found)


def _unknown(name: str) -> str:
    module, dot, attribute = name.rpartition(".")
    hint = f"; for your own function write '{module}:{attribute}'" if dot and attribute != "py" else ""
    own = hint or "; for your own function write 'package.module:function'"
    return f"unknown metric {name!r}{_near(name, list(METRICS))} (known: {', '.join(sorted(METRICS))}){own}"


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
