"""The r-MIPRO search in a job file: `[prompt_learning.rmipro]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Strict

from rollouts.experiments.config_base import Parts, Table, setting
from rollouts.prompt_optimization.rmipro_config import RMIPROConfig, TextSource

_OWN = RMIPROConfig()
Sources = Annotated[tuple[TextSource, ...], Strict(False)]


class RmiproTable(Table):
    """The r-MIPRO search: the budget is divided, round by round, among the modules that gain most."""

    scheduler: Literal["adaptive", "uniform", "round_robin", "ucb", "thompson"] = setting(
        "adaptive", "Rule that divides a round among the modules; see the page on r-MIPRO."
    )
    num_trials: int = setting(
        _OWN.num_trials,
        "Most trials; each compares one candidate of one module with the incumbent.",
        aliases=("num_iterations",),
        ge=1,
    )
    round_trials: int = setting(_OWN.round_trials, "Trials between two decisions of the scheduler.", ge=1)
    minibatch_size: int = setting(_OWN.minibatch_size, "Validation rows of one trial.", aliases=("batch_size",), ge=1)
    num_candidates: int = setting(
        _OWN.num_candidates, "Most texts to write for each text of each module; they are written when asked for.", ge=0
    )
    sources: Sources = setting(
        _OWN.sources,
        'Where texts come from: "propose" (MIPRO\'s proposers), "reflect" (GEPA\'s reflection on what went wrong).',
        min_length=1,
    )
    perfect_score: float = setting(_OWN.perfect_score, "Score below which a rollout is worth reflecting on.")
    tie_break: float = setting(
        _OWN.tie_break, "What a module's own score counts for beside the program's, where there is one.", ge=0, le=1
    )
    optimize: Parts = setting(
        _OWN.optimize, 'Texts that are rewritten: "system" (the instruction), "user_template".', min_length=1
    )
    optimize_instructions: bool = setting(_OWN.optimize_instructions, "Search over texts.")
    optimize_demos: bool = setting(_OWN.optimize_demos, "Search over demonstrations.")
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
        ge=0,
        le=1,
    )
    top_k: int = setting(_OWN.top_k, "Half of the programs that meet in the race at the end.", ge=1)
    max_instruction_tokens: int = setting(
        _OWN.max_instruction_tokens, "Most tokens of a rewritten text; longer ones are rejected.", ge=1
    )
