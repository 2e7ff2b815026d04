"""The GEPA search in a job file: `[prompt_learning.gepa]`, flat as we write it or in the tables of the synth-ai SDK."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Strict

from rollouts.experiments import config_compat as compat
from rollouts.experiments.config_base import Parts, Table, setting
from rollouts.prompt_optimization.configs import GEPAConfig, Objective

_OWN = GEPAConfig()
Objectives = Objective | Annotated[tuple[Objective, ...], Strict(False)]


class RolloutTable(Table):
    """`gepa.rollout` of the synth-ai SDK."""

    moved = compat.GEPA_ROLLOUT_MOVED


class EvaluationTable(Table):
    """`gepa.evaluation` of the synth-ai SDK."""

    no_effect = compat.GEPA_EVALUATION
    moved = compat.GEPA_EVALUATION_MOVED


class MutationTable(Table):
    """`gepa.mutation` of the synth-ai SDK."""

    no_effect = compat.GEPA_MUTATION
    moved = compat.GEPA_MUTATION_MOVED


class PopulationTable(Table):
    """`gepa.population` of the synth-ai SDK."""

    no_effect = compat.GEPA_POPULATION
    moved = compat.GEPA_POPULATION_MOVED


class ArchiveTable(Table):
    """`gepa.archive` of the synth-ai SDK."""

    no_effect = compat.GEPA_ARCHIVE


class TokenTable(Table):
    """`gepa.token` of the synth-ai SDK."""

    no_effect = compat.GEPA_TOKEN
    moved = compat.GEPA_TOKEN_MOVED


class GepaTable(Table):
    """The GEPA search: texts are rewritten by a model that reads what went wrong, and evolve."""

    no_effect = compat.GEPA
    moved = compat.GEPA_MOVED
    foreign = {  # noqa: RUF012 - a ClassVar of the base
        "rollout": RolloutTable,
        "evaluation": EvaluationTable,
        "mutation": MutationTable,
        "population": PopulationTable,
        "archive": ArchiveTable,
        "token": TokenTable,
    }
    generations: int = setting(_OWN.generations, "Rounds of children.", aliases=("num_generations",), ge=1)
    population_size: int = setting(
        _OWN.population_size, "Candidates that may become parents.", aliases=("initial_population_size",), ge=1
    )
    elite_size: int | None = setting(
        None,
        "Best candidates, which never leave the population and meet in the race at the end.",
        aliases=("elite_count",),
        shown=f"{_OWN.elite_size}, or half of `population_size` where that is less",
        ge=1,
    )
    children_per_generation: int | None = setting(
        None,
        "Children of one generation.",
        shown="what the budget pays for, and at most `population_size` - `elite_size`",
        ge=1,
    )
    crossover_rate: float = setting(
        _OWN.crossover_rate, "Share of children that merge two candidates, where two can be merged.", ge=0, le=1
    )
    mutation_rate: float = setting(_OWN.mutation_rate, "Share of merged children that are rewritten, too.", ge=0, le=1)
    selection: Literal["pareto", "elite"] = setting(
        _OWN.selection,
        "Where parents come from: the per-example Pareto front, by how many rows they are best on; or the best ones.",
    )
    component: Literal["round_robin", "all", "credit"] = setting(
        _OWN.component,
        "Texts that one rewrite changes: one after the other; all; or those of the module that scores worst.",
    )
    objective: Objectives = setting(
        "score",
        "What is improved: `score`, or a list of it and `cost`, `latency`, `length`; then the front is reported.",
        kind='"score", or a list of "score" and others of "cost", "latency", "length"',
    )
    minibatch_size: int = setting(_OWN.minibatch_size, "Training rows that one rewrite is made from.", ge=1)
    perfect_score: float = setting(_OWN.perfect_score, "Score below which a rollout is worth mending.")
    rule_candidates: int = setting(_OWN.rule_candidates, "Rewrites by rule, which need no model, to begin with.", ge=0)
    optimize: Parts = setting(_OWN.optimize, 'Texts that are rewritten: "system" (the instruction), "user_template".')
    optimize_demos: bool = setting(_OWN.optimize_demos, "Children may get other demonstrations, too.")
    max_bootstrapped_demos: int = setting(
        _OWN.max_bootstrapped_demos, "Most demonstrations taken from the task model's own good answers.", ge=0
    )
    max_labeled_demos: int = setting(_OWN.max_labeled_demos, "Most demonstrations taken from labelled rows.", ge=0)
    num_demo_sets: int = setting(
        _OWN.num_demo_sets, "Demonstration sets to choose from, beside none and your own.", ge=1
    )
    bootstrap_threshold: float = setting(
        _OWN.bootstrap_threshold,
        "Least score of a rollout, or of a module by its own score, whose answer may become a demonstration.",
        aliases=("few_shot_score_threshold",),
        ge=0,
        le=1,
    )
    max_instruction_tokens: int = setting(
        _OWN.max_instruction_tokens,
        "Most tokens of a rewritten text; longer ones are rejected.",
        aliases=("proposed_prompt_max_tokens",),
        ge=1,
    )
