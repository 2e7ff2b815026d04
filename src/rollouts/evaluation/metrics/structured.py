"""Metrics for structured answers, and how JSON is found in a model's text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollouts.dtypes import Sample, Score, Trajectory
from rollouts.errors import ConfigError, EvaluationError
from rollouts.evaluation.metrics.base import BuiltIn, score_of, shown

_FENCED = re.compile(r"^\s*```[\w-]*[ \t]*\n(.*)\n?\s*```\s*$", re.DOTALL)
_REPORTED = 3


def json_schema(
    schema: Mapping[str, Any] | None = None, *, schema_path: str | Path | None = None, allow_fence: bool = True
) -> BuiltIn:
    """1 when the answer is JSON that fits the schema, else 0; the feedback names the first problems and where they are.

    The schema is given as `schema`, or read once from the JSON file `schema_path`. `allow_fence` accepts the JSON
    inside one Markdown code fence; text round it is never accepted. NaN and Infinity are no JSON. References to other
    documents are not fetched. Needs the package `jsonschema`; raises ConfigError without it, or when the schema is
    missing, unreadable or broken.
    """
    if (schema is None) == (schema_path is None):
        raise ConfigError("the metric 'json_schema' takes either 'schema' or 'schema_path'")
    if schema is None:
        schema = _read(Path(str(schema_path)))
    try:
        import jsonschema
        import referencing.exceptions
    except ModuleNotFoundError as missing:
        raise ConfigError(
            "the metric 'json_schema' needs the package 'jsonschema': pip install jsonschema "
            f"(the module {missing.name!r} is missing)"
        ) from None
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except jsonschema.SchemaError as problem:
        raise ConfigError(f"the JSON schema is broken at {problem.json_path}: {problem.message}") from None
    validator = kind(schema, registry=referencing.Registry())

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        try:
            value = parse_json(trajectory.output, allow_fence=allow_fence)
        except ValueError as problem:
            return score_of("json_schema", False, f"The answer is not JSON ({problem}): {shown(trajectory.output)}.")
        try:
            errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
        except referencing.exceptions.Unresolvable as problem:
            raise EvaluationError(f"the JSON schema refers to {problem.ref!r}, which can't be resolved") from None
        if not errors:
            return score_of("json_schema", True, "Correct.")
        listed = "; ".join(f"{error.json_path}: {error.message[:200]}" for error in errors[:_REPORTED])
        more = f"; and {len(errors) - _REPORTED} more" if len(errors) > _REPORTED else ""
        return score_of("json_schema", False, f"The JSON does not fit the schema: {listed}{more}.")

    return BuiltIn(name="json_schema", options={"schema": dict(schema), "allow_fence": allow_fence}, score=score)


def _read(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise ConfigError(f"the JSON schema {str(path)!r} can't be read: {problem.strerror}") from None
    except ValueError as problem:
        raise ConfigError(f"the JSON schema {str(path)!r} is not JSON: {problem}") from None
    if not isinstance(schema, dict):
        raise ConfigError(f"the JSON schema {str(path)!r} must be an object, not a {type(schema).__name__}")
    return schema


def parse_json(text: str, *, allow_fence: bool = True) -> Any:
    """The JSON value that is the whole of `text`, or of its one code fence. Raises ValueError with a short reason."""
    fenced = _FENCED.match(text) if allow_fence else None
    try:
        return json.loads(fenced.group(1) if fenced else text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects that stand in a text, outermost ones only, in order."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
            found.append(value)
        except (ValueError, RecursionError):
            at += 1
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
