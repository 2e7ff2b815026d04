"""From the tables of the searches to the settings of the optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rollouts.dtypes import Program, TextPart
from rollouts.experiments.config import JobConfig, MiproTable
from rollouts.experiments.config_convert import to_template
from rollouts.experiments.config_rmipro import RmiproTable
from rollouts.prompt_optimization import GEPAConfig

_NUM_DEMOS = 2
_SAME_NAME = (
    "num_demo_sets",
    "bootstrap_threshold",
    "minibatch_size",
    "full_eval_every",
    "top_k",
    "optimize",
    "optimize_instructions",
    "proposal_rounds",
    "max_instruction_tokens",
    "selector",
)
_GEPA_SAME_NAME = (
    "population_size",
    "mutation_rate",
    "crossover_rate",
    "selection",
    "component",
    "optimize",
    "children_per_generation",
    "minibatch_size",
    "perfect_score",
    "rule_candidates",
    "optimize_demos",
    "max_bootstrapped_demos",
    "max_labeled_demos",
    "num_demo_sets",
    "bootstrap_threshold",
    "max_instruction_tokens",
)
_RMIPRO_SAME_NAME = tuple(name for name in RmiproTable.model_fields if name != "num_trials")


def mipro_settings(job: JobConfig, start: Program | None = None) -> dict[str, Any]:
    """The arguments of `MIPROConfig`, with those filled in that follow from others. `start` is the program to improve,
    by default the starting prompt."""
    mipro, stop, demos = job.mipro, job.termination_config, most_demos(job.mipro)
    proposed = mipro.num_bootstrap_seeds * mipro.num_instructions_per_module
    settings: dict[str, Any] = {name: getattr(mipro, name) for name in _SAME_NAME}
    settings |= {
        "num_trials": min(mipro.num_iterations, stop.max_trials or mipro.num_iterations),
        "num_candidates": proposed if mipro.num_candidates is None else mipro.num_candidates,
        "max_bootstrapped_demos": demos if mipro.max_bootstrapped_demos is None else mipro.max_bootstrapped_demos,
        "max_labeled_demos": demos if mipro.max_labeled_demos is None else mipro.max_labeled_demos,
        "optimize_demos": searches_demos(mipro),
    }
    return settings | _shared(job, mipro.optimize, start)


def gepa_settings(job: JobConfig, start: Program | None = None) -> dict[str, Any]:
    """The arguments of `GEPAConfig`, as `mipro_settings`."""
    gepa, stop = job.gepa, job.termination_config
    objective, size = gepa.objective, gepa.population_size
    settings: dict[str, Any] = {name: getattr(gepa, name) for name in _GEPA_SAME_NAME}
    settings |= {
        "generations": min(gepa.generations, stop.max_trials or gepa.generations),
        "elite_size": gepa.elite_size or min(GEPAConfig().elite_size, max(1, size // 2)),
        "objective": (objective,) if isinstance(objective, str) else objective,
    }
    return settings | _shared(job, gepa.optimize, start)


def rmipro_settings(job: JobConfig, start: Program | None = None) -> dict[str, Any]:
    """The arguments of `RMIPROConfig`, as `mipro_settings`."""
    rmipro, stop = job.rmipro, job.termination_config
    settings: dict[str, Any] = {name: getattr(rmipro, name) for name in _RMIPRO_SAME_NAME}
    settings["num_trials"] = min(rmipro.num_trials, stop.max_trials or rmipro.num_trials)
    return settings | _shared(job, rmipro.optimize, start)


def _shared(job: JobConfig, optimize: Sequence[TextPart], start: Program | None) -> dict[str, Any]:
    """What all searches take alike."""
    stop = job.termination_config
    start = Program.single(to_template(job)) if start is None else start
    texts = [getattr(template, part) for template in start.modules.values() for part in optimize]
    settings: dict[str, Any] = {
        "target_score": stop.target_score,
        "patience": stop.patience,
        "seed": job.seed,
        "min_effect": job.score.min_effect,
        "confidence": job.score.confidence,
        "description": job.description,
        # What stands in no text that is rewritten needs no watching.
        "frozen_spans": tuple(span for span in job.initial_prompt.frozen if any(span in text for text in texts)),
    }
    if job.execution.slots is not None:
        settings["max_concurrent"] = job.execution.slots
    return settings


def most_demos(mipro: MiproTable) -> int:
    """Most demonstrations of a kind: `num_demos`, or the larger of the two kinds' limits where only those are set."""
    if mipro.num_demos is not None:
        return mipro.num_demos
    kinds = [most for most in (mipro.max_bootstrapped_demos, mipro.max_labeled_demos) if most is not None]
    return max(kinds, default=_NUM_DEMOS)


def searches_demos(mipro: MiproTable) -> bool:
    """Whether demonstrations are searched over: as said, else whenever there may be any."""
    return most_demos(mipro) > 0 if mipro.optimize_demos is None else mipro.optimize_demos
