"""What goes into an optimizer and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import FewShotExample, PromptTemplate
from rollouts.errors import ConfigError
from rollouts.stats import Verdict

__all__ = ["FewShotExample", "GenerationStats", "MIPROConfig", "OptimizationResult", "PromptTemplate", "TestReport"]


@dataclass(frozen=True, kw_only=True)
class MIPROConfig:
    """MIPRO hyperparameters. With no indices given, the data set is split by `seed` (stratified, no overlap).

    num_candidates: instructions to propose, the starting one not counted; num_trials: minibatch trials of the search.
    max_bootstrapped_demos, max_labeled_demos: demonstrations per set, from successful runs and from the data set.
    num_demo_sets: demonstration sets to choose from, the empty and the user's own set not counted.
    minibatch_size: samples per trial; made smaller when the budget asks for it. full_eval_every: after so many trials
    the best candidate so far is evaluated on all validation samples (0: only at the end). top_k: candidates that the
    race at the end narrows the field to; they see all validation samples where the budget reaches.
    train_seeds, val_seeds, test_seeds: indices into the data set for demonstrations, search and the final check.
    bootstrap_threshold: the score from which a run counts as successful. target_score: the search stops when a fully
    evaluated candidate reaches it. patience: the search stops after so many trials without a better one.
    proposal_rounds: how often instructions are proposed; later rounds see what was tried and its scores.
    max_instruction_tokens: longer proposals are rejected. frozen_spans: texts of `system` that every proposal must keep
    word for word. min_effect, confidence: what the verdict asks for before it says `ship`. description: what the
    program is for, told to the proposer. max_concurrent: slots.
    """

    num_candidates: int = 50
    num_trials: int = 100
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 4
    minibatch_size: int = 35

    train_seeds: tuple[int, ...] = ()
    val_seeds: tuple[int, ...] = ()
    test_seeds: tuple[int, ...] = ()

    num_demo_sets: int = 16
    full_eval_every: int = 0
    top_k: int = 3
    optimize_instructions: bool = True
    optimize_demos: bool = True
    selector: str = "tpe"
    seed: int = 0
    bootstrap_threshold: float = 1.0
    target_score: float | None = None
    patience: int | None = None
    proposal_rounds: int = 2
    max_instruction_tokens: int = 600
    frozen_spans: tuple[str, ...] = ()
    min_effect: float = 0.0
    confidence: float = 0.95
    description: str = ""
    max_concurrent: int = 16

    def __post_init__(self) -> None:
        at_least = {"num_trials": 1, "minibatch_size": 1, "top_k": 1, "max_concurrent": 1, "proposal_rounds": 1}
        counts = ("num_candidates", "max_bootstrapped_demos", "max_labeled_demos", "num_demo_sets", "full_eval_every")
        for name in (*at_least, *counts):
            least = at_least.get(name, 0)
            if getattr(self, name) < least:
                raise ConfigError(f"MIPROConfig.{name} = {getattr(self, name)}: must be at least {least}")
        if not (self.optimize_instructions or self.optimize_demos):
            raise ConfigError("nothing to optimize: set optimize_instructions or optimize_demos to true")


@dataclass(frozen=True)
class GenerationStats:
    """One trial: the best estimate so far, the trial's own mean (NaN when all its rollouts failed), rollouts in it."""

    generation: int
    best_score: float
    mean_score: float
    num_evaluated: int


@dataclass(frozen=True, kw_only=True)
class TestReport:
    """The final check: scores by sample id of the starting prompt and of the winner, on data the search never saw."""

    __test__ = False

    baseline: Mapping[str, float]
    best: Mapping[str, float]


@dataclass(frozen=True)
class OptimizationResult:
    """Result of prompt optimization.

    `best_template.score` is its mean on the validation samples. `verdict` compares it with the starting prompt on the
    test samples. `stop_reason` says in words why the search ended.
    """

    best_template: PromptTemplate
    final_population: tuple[PromptTemplate, ...]
    history: tuple[GenerationStats, ...]
    initial_template: PromptTemplate | None = None
    verdict: Verdict | None = None
    test: TestReport | None = None
    spend: Spend = field(default_factory=Spend)
    spend_by_phase: Mapping[str, Spend] = field(default_factory=dict)
    stop_reason: str = ""
    run_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
