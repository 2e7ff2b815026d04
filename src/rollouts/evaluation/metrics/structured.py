"""Metrics for structured answers, and how JSON is found in a model's text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Sample, Score, Trajectory
from rollouts.errors import ConfigError
from rollouts.evaluation.metrics.base import BuiltIn, score_of, shown

_FENCED = re.compile(r"^\s*```[\w-]*[ \t]*\n(.*)\n?\s*```\s*$", re.DOTALL)
_REPORTED = 3


def json_schema(schema: Mapping[str, Any], *, allow_fence: bool = True) -> BuiltIn:
    """1 when the answer is JSON that fits `schema`, else 0; the feedback names the first problems and where they are.

    `allow_fence` accepts the JSON inside one Markdown code fence; text round it is never accepted. NaN and Infinity
    are no JSON. References to other documents are not fetched. Needs the package `jsonschema`; raises ConfigError
    without it, or when the schema itself is broken.
    """
    try:
        import jsonschema
        import referencing
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"the metric 'json_schema' needs the package 'jsonschema' (no {missing.name!r} here): pip install jsonschema"
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
        errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
        if not errors:
            return score_of("json_schema", True, "Correct.")
        listed = "; ".join(f"{error.json_path}: {error.message[:200]}" for error in errors[:_REPORTED])
        more = f"; and {len(errors) - _REPORTED} more" if len(errors) > _REPORTED else ""
        return score_of("json_schema", False, f"The JSON does not fit the schema: {listed}{more}.")

    return BuiltIn(name="json_schema", options={"schema": dict(schema), "allow_fence": allow_fence}, score=score)


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
