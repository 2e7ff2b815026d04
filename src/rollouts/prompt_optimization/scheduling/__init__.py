"""Division of a search's trials among the modules of a program. Pure: no I/O, no clock."""

from rollouts.prompt_optimization.scheduling.base import (
    Allocation,
    ModuleState,
    Scheduler,
    Share,
    State,
    TrialResult,
)
from rollouts.prompt_optimization.scheduling.registry import SCHEDULERS, make_scheduler
from rollouts.prompt_optimization.scheduling.swaps import Swaps
from rollouts.prompt_optimization.scheduling.trials import Adopted, Outcome, Trial

__all__ = [
    "SCHEDULERS",
    "Adopted",
    "Allocation",
    "ModuleState",
    "Outcome",
    "Scheduler",
    "Share",
    "State",
    "Swaps",
    "Trial",
    "TrialResult",
    "make_scheduler",
]
