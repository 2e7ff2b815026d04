"""The names of the SDK's events, old and new. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Family = Literal["legacy", "canonical"]


class Told(NamedTuple):
    """Something to tell: what it is (a key of the tables below), in words, and as data."""

    name: str
    message: str
    data: Mapping[str, Any]
    level: Literal["info", "warn", "error"] = "info"


_LEGACY = {
    "created": "prompt.learning.created",
    "warning": "prompt.learning.warning",
    "queued": "prompt.learning.queued",
    "running": "prompt.learning.running",
    "paused": "prompt.learning.paused",
    "stopping": "prompt.learning.stopping",
    "phase": "prompt.learning.phase.changed",
    "bootstrapped": "{algorithm}.bootstrap.progress",
    "proposed": "mipro.stage_proposer.called",
    "iteration_started": "mipro.iteration.start",
    "iteration_completed": "mipro.iteration.complete",
    "generation": "prompt.learning.trial.results",
    "progress": "prompt.learning.progress",
    "candidate": "prompt.learning.proposal.scored",
    "best_prompt": "prompt.learning.best.prompt",
    "top_prompt": "prompt.learning.top.prompt.content",
    "validated": "prompt.learning.validation.scored",
    "final": "prompt.learning.final.results",
    "baseline_test": "mipro.baseline.test",
    "top_candidate": "mipro.topk.evaluated",
    "spent": "mipro.budget.summary",
    "summary": "mipro.job.completed",
    "validation_summary": "prompt.learning.validation.summary",
    "rollouts_cost": "prompt.learning.completed",
    "billed": "prompt.learning.billing.end",
    "succeeded": "prompt.learning.{algorithm}.complete",
    "failed": "prompt.learning.{algorithm}.failed",
    "cancelled": "prompt.learning.{algorithm}.cancelled",
}
_CANONICAL = {
    **{
        status: f"learning.policy.{{algorithm}}.job.{status}"
        for status in ("created", "warning", "queued", "paused", "stopping", "failed", "cancelled", "progress")
    },
    "running": "learning.policy.{algorithm}.job.started",
    "phase": "learning.policy.{algorithm}.phase.started",
    "bootstrapped": "learning.policy.{algorithm}.bootstrap.completed",
    "proposed": "learning.policy.{algorithm}.proposals.completed",
    "iteration_started": "learning.policy.mipro.iteration.started",
    "iteration_completed": "learning.policy.mipro.iteration.completed",
    "generation": "learning.policy.gepa.generation.completed",
    "candidate": "learning.policy.gepa.candidate.evaluated",
    # SDK 0.7 looks for results under the names of GEPA alone, whatever the search was.
    "best_prompt": "learning.policy.gepa.candidate.new_best",
    "top_prompt": "learning.policy.gepa.candidate.evaluated",
    "validated": "learning.policy.gepa.validation.completed",
    "spent": "learning.policy.{algorithm}.billing.completed",
    "succeeded": "learning.policy.{algorithm}.job.completed",
}
_OF_BOTH = {
    "trial": "mipro.trial.complete",
    "budget": "mipro.budget.update",
}
_BY_ALGORITHM = {
    ("legacy", "mipro", "planned"): "mipro.job.started",
    ("canonical", "mipro", "planned"): "mipro.job.started",
    ("legacy", "gepa", "planned"): "prompt.learning.gepa.start",
    ("canonical", "gepa", "planned"): "learning.policy.gepa.rollout.started",
    ("legacy", "mipro", "new_best"): "mipro.new_incumbent",
    ("canonical", "mipro", "new_best"): "learning.policy.mipro.candidate.new_best",
    ("legacy", "gepa", "new_best"): "prompt.learning.gepa.new_best",
    ("canonical", "gepa", "new_best"): "learning.policy.gepa.candidate.new_best",
}


def name_of(what: str, family: Family, algorithm: str) -> str:
    """The event's type in a family."""
    own = _BY_ALGORITHM.get((family, algorithm, what)) or _OF_BOTH.get(what)
    table = _LEGACY if family == "legacy" else _CANONICAL
    return own or table[what].format(algorithm=algorithm)
