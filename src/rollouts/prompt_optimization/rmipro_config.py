"""Settings of r-MIPRO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rollouts.errors import ConfigError
from rollouts.prompt_optimization.configs import MIPROConfig

TextSource = Literal["propose", "reflect"]
_SOURCES: tuple[TextSource, ...] = ("propose", "reflect")


@dataclass(frozen=True, kw_only=True)
class RMIPROConfig(MIPROConfig):
    """r-MIPRO hyperparameters. Rows, demonstrations, texts, verdict, `seed` and `max_concurrent` as in `MIPROConfig`;
    its `selector`, `full_eval_every` and `proposal_rounds` do not apply. target_score: the search stops when the
    incumbent's mean on 20 validation rows, or all, is at least this.

    scheduler: how rounds are divided among the modules (`rollouts.prompt_optimization.scheduling`): "adaptive",
    "uniform", "round_robin", "ucb" or "thompson". num_candidates: texts to write for each text of each module at most;
    they are written when the scheduler asks for them. num_trials: trials at most; a trial compares one candidate of one
    module with the incumbent. minibatch_size: samples of a trial. round_trials: trials between two decisions.
    sources: where texts come from, "propose" (MIPRO's proposers) and "reflect" (GEPA's reflection on runs that went
    wrong). perfect_score: rows with less are worth reflecting on. tie_break: what a module's own score counts for in
    comparisons of its candidates, beside the program's. patience: the search stops after so many trials without a
    better candidate.
    """

    num_candidates: int = 16
    num_trials: int = 400
    minibatch_size: int = 8
    num_demo_sets: int = 8
    scheduler: str = "adaptive"
    round_trials: int = 8
    sources: tuple[TextSource, ...] = _SOURCES
    perfect_score: float = 1.0
    tie_break: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.round_trials < 1:
            raise ConfigError(f"RMIPROConfig.round_trials = {self.round_trials}: must be at least 1")
        if not 0 <= self.tie_break <= 1:
            raise ConfigError(f"RMIPROConfig.tie_break = {self.tie_break}: must be between 0 and 1")
        if not self.sources or set(self.sources) - set(_SOURCES):
            raise ConfigError(f"RMIPROConfig.sources = {self.sources}: name one or both of {_SOURCES}")
