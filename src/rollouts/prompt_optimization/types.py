"""What goes into an optimizer and what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

from rollouts.budget import Spend
from rollouts.dtypes import SCHEMA_VERSION, TEXT_PARTS, FewShotExample, Program, PromptTemplate, TextPart, opened
from rollouts.dtypes.prompts import RunFn
from rollouts.errors import ConfigError
from rollouts.stats import Verdict

__all__ = [
    "FewShotExample",
    "GEPAConfig",
    "GenerationStats",
    "MIPROConfig",
    "OptimizationResult",
    "PromptTemplate",
    "ScoredProgram",
    "TestReport",
]


@dataclass(frozen=True, kw_only=True)
class MIPROConfig:
    """MIPRO hyperparameters. With no indices given, the data set is split by `seed` (stratified, no overlap).

    num_candidates: instructions to propose, the starting one not counted; num_trials: trials of the search.
    max_bootstrapped_demos, max_labeled_demos: demonstrations per set, from successful runs and from the data set.
    num_demo_sets: demonstration sets to choose from, the empty and the user's own set not counted. proposal_rounds:
    how often texts are proposed and sets are made; later rounds see what was tried and its scores: texts are written in
    their light, and sets are the best ones with half of the demonstrations exchanged.
    minibatch_size: samples per trial; made smaller when the budget asks for it.
    selector: how candidates are chosen (`rollouts.prompt_optimization.selection`). "racing", "successive_halving" and
    "successive_rejects" spend `num_trials` x `minibatch_size` rollouts as they see fit; "tpe" and "random" make trials.
    full_eval_every (of these two): after so many trials the best candidate so far is evaluated on all validation
    samples (0: only at the end). top_k (likewise): candidates that the race at the end narrows the field to.
    train_seeds, val_seeds, test_seeds: indices into the data set for demonstrations, search and the final check.
    bootstrap_threshold: the score from which a run counts as successful. target_score: the search stops when a fully
    evaluated candidate reaches it. patience ("tpe", "random"): it stops after so many trials without a better one.
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
    `MIPROConfig`). target_score, patience: stop at this estimate, or after so many generations without a better one.
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


Objective = Literal["score", "cost", "latency", "length"]
OBJECTIVES: tuple[Objective, ...] = ("score", "cost", "latency", "length")


def check_parts(owner: str, parts: tuple[str, ...]) -> None:
    """Raises ConfigError for a part that is no text of a template."""
    for part in parts:
        if part not in TEXT_PARTS:
            raise ConfigError(
                f"{owner}.optimize has {part!r}; a prompt has the parts {' and '.join(map(repr, TEXT_PARTS))}"
            )


@dataclass(frozen=True)
class GenerationStats:
    """One trial: the best estimate so far, the trial's own mean (NaN when all its rollouts failed), rollouts in it."""

    generation: int
    best_score: float
    mean_score: float
    num_evaluated: int

    def to_json(self) -> dict[str, Any]:
        """All fields; numbers that are not finite become None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GenerationStats:
        """The inverse of `to_json`; None becomes NaN."""
        fields: dict[str, Any] = {name: math.nan if value is None else value for name, value in data.items()}
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class TestReport:
    """The final check: scores by sample id of the starting prompt and of the winner, on data the search never saw."""

    __test__ = False

    baseline: Mapping[str, float]
    best: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredProgram:
    """A candidate and what the search found out about it.

    `score` is the plain mean of its `n` validation scores, None when it has none. `id` names it within the run,
    `parents` the candidates that it was made from, `generation` the round in which it was made. `objectives` are what
    else it was measured by: `cost` (micro-dollars) and `latency` (seconds) of a rollout, `length` (prompt tokens).
    """

    program: Program
    score: float | None = None
    n: int = 0
    id: str = ""
    parents: tuple[str, ...] = ()
    generation: int = 0
    objectives: Mapping[str, float] = field(default_factory=dict)

    @property
    def template(self) -> PromptTemplate:
        """The template of a one-module program, with its score; raises TemplateError when there are several."""
        return replace(self.program.template, score=self.score, generation=self.generation)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; `from_json` reads them back."""
        fields = {name: getattr(self, name) for name in ("score", "n", "id", "generation")}
        return {
            "program": self.program.to_json(),
            **fields,
            "parents": list(self.parents),
            "objectives": dict(self.objectives),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], run: RunFn | None = None) -> ScoredProgram:
        """The inverse of `to_json`; `run` as in `Program.from_json`."""
        program = Program.from_json(data["program"], run)
        return cls(**{**data, "program": program, "parents": tuple(data["parents"])})


@dataclass(frozen=True, kw_only=True)
class OptimizationResult:
    """Result of prompt optimization.

    `best.score` is the winner's mean on the validation samples; `population` holds all candidates tried, best first.
    `verdict` compares the winner with the start on the test samples. `stop_reason` says in words why the search ended.
    `front` holds the candidates that no other one beats on all objectives, where there was more than one.
    """

    best: ScoredProgram
    population: tuple[ScoredProgram, ...]
    history: tuple[GenerationStats, ...]
    initial: ScoredProgram
    front: tuple[ScoredProgram, ...] = ()
    verdict: Verdict | None = None
    test: TestReport | None = None
    spend: Spend = field(default_factory=Spend)
    spend_by_phase: Mapping[str, Spend] = field(default_factory=dict)
    stop_reason: str = ""
    run_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best_program(self) -> Program:
        """The winner."""
        return self.best.program

    @property
    def best_template(self) -> PromptTemplate:
        """The winner of a one-module program, with its score; raises TemplateError when there are several modules."""
        return self.best.template

    @property
    def initial_template(self) -> PromptTemplate:
        """The start of a one-module program, with its score."""
        return self.initial.template

    @property
    def notes(self) -> tuple[str, ...]:
        """What the run's own data say about whether there is anything to gain, a sentence each; mostly nothing."""
        return tuple(self.details.get("summary", {}).get("notes", ()))

    @property
    def final_population(self) -> tuple[PromptTemplate, ...]:
        """All candidates of a one-module program, best first."""
        return tuple(entry.template for entry in self.population)

    def to_json(self) -> dict[str, Any]:
        """JSON with a schema version, for all fields; numbers that are not finite become None. `details` has to hold
        JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "best": self.best.to_json(),
            "population": [entry.to_json() for entry in self.population],
            "history": [entry.to_json() for entry in self.history],
            "initial": self.initial.to_json(),
            "front": [entry.to_json() for entry in self.front],
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "test": None if self.test is None else {name: dict(part) for name, part in vars(self.test).items()},
            "spend": self.spend.to_json(),
            "spend_by_phase": {phase: spend.to_json() for phase, spend in self.spend_by_phase.items()},
            "stop_reason": self.stop_reason,
            "run_id": self.run_id,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str, run: RunFn | None = None) -> OptimizationResult:
        """The inverse of `to_json`; `run` as in `Program.from_json`. Raises ConfigError on a newer schema version and
        on what is no result."""
        fields = opened(data, "result", required=("best", "population", "history", "initial"))
        scored = partial(ScoredProgram.from_json, run=run)
        verdict, test = fields.pop("verdict", None), fields.pop("test", None)
        try:
            return cls(
                best=scored(fields.pop("best")),
                population=tuple(map(scored, fields.pop("population"))),
                history=tuple(GenerationStats.from_json(entry) for entry in fields.pop("history")),
                initial=scored(fields.pop("initial")),
                front=tuple(map(scored, fields.pop("front", ()))),
                verdict=None if verdict is None else Verdict.from_json(verdict),
                test=None if test is None else TestReport(**test),
                spend=Spend(**fields.pop("spend", {})),
                spend_by_phase={name: Spend(**part) for name, part in fields.pop("spend_by_phase", {}).items()},
                **fields,
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"the result has a key that is wrong or missing: {error}") from None
