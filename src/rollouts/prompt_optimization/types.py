"""What comes out of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import SCHEMA_VERSION, FewShotExample, Program, PromptTemplate, opened
from rollouts.dtypes.prompts import RunFn
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.notebook import result_html
from rollouts.stats import Verdict

__all__ = [
    "FewShotExample",
    "GenerationStats",
    "OptimizationResult",
    "PromptTemplate",
    "ScoredProgram",
    "TestReport",
]


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

    def _repr_html_(self) -> str:
        """What a notebook shows: verdict, scores, the search as a curve, and the best prompt."""
        return result_html(self)

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
