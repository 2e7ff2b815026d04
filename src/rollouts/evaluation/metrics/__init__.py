"""Score functions: the built-in ones by name, a user's own by import, and what makes either safe to cache."""

from rollouts.evaluation.metrics.base import BuiltIn
from rollouts.evaluation.metrics.coerce import to_score
from rollouts.evaluation.metrics.identity import metric_identity
from rollouts.evaluation.metrics.judge import llm_judge
from rollouts.evaluation.metrics.numeric import numeric_match, parse_number
from rollouts.evaluation.metrics.registry import METRICS, resolve_metric
from rollouts.evaluation.metrics.structured import json_schema
from rollouts.evaluation.metrics.text import contains, exact_match, f1, normalise_answer, regex

__all__ = [
    "METRICS",
    "BuiltIn",
    "contains",
    "exact_match",
    "f1",
    "json_schema",
    "llm_judge",
    "metric_identity",
    "normalise_answer",
    "numeric_match",
    "parse_number",
    "regex",
    "resolve_metric",
    "to_score",
]
