"""What MIPRO and GEPA are told; r-MIPRO has `rmipro_config`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rollouts.dtypes import TEXT_PARTS, TextPart
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.selection.registry import check_selector

Objective = Literal["score", "cost", "latency", "length"]
OBJECTIVES: tuple[Objective, ...] = ("score", "cost", "latency", "length")


@dataclass(frozen=True, kw_only=True)
class MIPROConfig:
    """MIPRO hyperparameters. With no indices given, the data set is split by `seed` (stratified, no overlap).

    num_candidates: instructions to propose, the starting one not counted; num_trials: size of the search.
    max_bootstrapped_demos, max_labeled_demos: demonstrations per set, from successful runs and from the data set.
    num_demo_sets: demonstration sets to choose from, the empty and the user's own set not counted. proposal_rounds:
    how often texts are proposed and sets are made; later rounds see what was tried and its scores: texts are written in
    their light, and sets are the best ones with half of the demonstrations exchanged.
    minibatch_size: samples per trial; made smaller when the budget asks for it.
    selector: how candidates are chosen (`rollouts.prompt_optimization.selection`). "tpe" and "random" make `num_trials`
    trials and a race of the leaders at the end; "racing", "successive_halving" and "successive_rejects" spend at most
    the rollouts that these would take, `num_trials` x `minibatch_size` and 2 x `top_k` per validation sample, as they
    see fit, "racing" a quarter of them on a race of the leaders. full_eval_every ("tpe", "random"): after so many
    trials the best candidate so far is evaluated on all validation samples (0: only at the end). top_k: candidates that
    the race of the leaders narrows the field to.
    train_seeds, val_seeds, test_seeds: indices into the data set for demonstrations, search and the final check.
    bootstrap_threshold: the score from which a run counts as successful. target_score: the search stops once the best
    candidate has 30 validation scores (or all) and the lower end of its interval is at this score. patience: it stops
    after so many trials without a better one; the other selectors, after as many times `minibatch_size` rollouts.
    optimize: the texts that proposals rewrite, "system" and "user_template"; `optimize_instructions` turns them off.
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

    num_demo_sets: int = 32
    full_eval_every: int = 0
    top_k: int = 3
    optimize: tuple[TextPart, ...] = ("system",)
    optimize_instructions: bool = True
    optimize_demos: bool = True
    selector: str = "racing"
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
        if not (self.optimize_instructions and self.optimize) and not self.optimize_demos:
            raise ConfigError("nothing to optimize: set optimize_instructions or optimize_demos to true")
        check_parts("MIPROConfig", self.optimize)
        check_verdict("MIPROConfig", self.confidence, self.min_effect)
        check_selector(self.selector, "MIPROConfig.selector =")


@dataclass(frozen=True, kw_only=True)
class GEPAConfig:
    """GEPA hyperparameters. Rows, texts, verdict, `seed` and `max_concurrent` as in `MIPROConfig`.

    population_size: candidates that may become parents; generations: rounds of children. children_per_generation: by
    default what the budget pays for, spread over the generations, and at most `population_size` - `elite_size`.
    elite_size: the best candidates, which never leave the population and meet in the race at the end.
    selection: parents are drawn from the per-example Pareto front, by how many examples they are best on ("pareto"), or
    from the elite ("elite"). crossover_rate: share of children that merge two candidates, where two can be merged;
    mutation_rate: share of those that are rewritten, too. All other children are rewrites.
    component: which texts a rewrite changes: one after the other ("round_robin"), all at once ("all"), or those of the
    module that scores worst by the metric's own per-module scores ("credit"; in turn where there are none).
    objective: "score", or several of "score", "cost", "latency" and "length" (prompt tokens): then candidates that are
    cheaper may be up to 3 points worse, and the result holds the front. minibatch_size: training samples that a
    rewrite is made from. perfect_score: samples with less are worth mending. rule_candidates: rewrites by rule, which
    need no model, to begin with. optimize_demos: children may also get another demonstration set (limits as in
    `MIPROConfig`). target_score, patience: stop once the best candidate's mean over all validation samples is this, or
    after so many generations without a better one.
    """

    population_size: int = 20
    generations: int = 10
    mutation_rate: float = 0.3
    crossover_rate: float = 0.5
    elite_size: int = 4

    train_seeds: tuple[int, ...] = ()
    val_seeds: tuple[int, ...] = ()
    test_seeds: tuple[int, ...] = ()

    max_concurrent: int = 10

    selection: Literal["pareto", "elite"] = "pareto"
    objective: tuple[Objective, ...] = ("score",)
    component: Literal["round_robin", "all", "credit"] = "round_robin"
    optimize: tuple[TextPart, ...] = ("system",)
    children_per_generation: int | None = None
    minibatch_size: int = 3
    perfect_score: float = 1.0
    rule_candidates: int = 3
    optimize_demos: bool = False
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 4
    num_demo_sets: int = 8
    bootstrap_threshold: float = 1.0
    seed: int = 0
    target_score: float | None = None
    patience: int | None = None
    max_instruction_tokens: int = 1000
    frozen_spans: tuple[str, ...] = ()
    min_effect: float = 0.0
    confidence: float = 0.95
    description: str = ""

    def __post_init__(self) -> None:
        counts = ("population_size", "generations", "elite_size", "minibatch_size", "max_concurrent")
        for name in (*counts, "children_per_generation"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"GEPAConfig.{name} = {value}: must be at least 1")
        for name in ("mutation_rate", "crossover_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"GEPAConfig.{name} = {getattr(self, name)}: must be between 0 and 1")
        for name, choices in (("selection", ("pareto", "elite")), ("component", ("round_robin", "all", "credit"))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"GEPAConfig.{name} = {getattr(self, name)!r}: must be one of {choices}")
        if self.elite_size > self.population_size:
            raise ConfigError(f"GEPAConfig.elite_size = {self.elite_size} is larger than population_size")
        if not self.optimize and not self.optimize_demos:
            raise ConfigError("nothing to optimize: name a text in `optimize`, or set optimize_demos to true")
        check_parts("GEPAConfig", self.optimize)
        check_verdict("GEPAConfig", self.confidence, self.min_effect)
        if "score" not in self.objective or set(self.objective) - set(OBJECTIVES):
            raise ConfigError(
                f"GEPAConfig.objective = {self.objective}: needs 'score', and may add of {OBJECTIVES[1:]}"
            )

    @property
    def least_rollouts(self) -> int:
        """What a child takes at least: the minibatch twice, and a first block."""
        return 2 * self.minibatch_size + 8

    @property
    def usual_rollouts(self) -> int:
        """What a child is expected to take."""
        return 2 * self.minibatch_size + 16


def check_parts(owner: str, parts: tuple[str, ...]) -> None:
    """Raises ConfigError for a part that is no text of a template."""
    for part in parts:
        if part not in TEXT_PARTS:
            raise ConfigError(
                f"{owner}.optimize has {part!r}; a prompt has the parts {' and '.join(map(repr, TEXT_PARTS))}"
            )


def check_verdict(owner: str, confidence: float, min_effect: float) -> None:
    """Raises ConfigError for what the verdict at the end of a run would refuse: by then the run is paid for."""
    if not 0 < confidence < 1:
        raise ConfigError(f"{owner}.confidence = {confidence}: must lie between 0 and 1, for example 0.95")
    if not (math.isfinite(min_effect) and min_effect >= 0):
        raise ConfigError(f"{owner}.min_effect = {min_effect}: must be a finite number of at least 0")
