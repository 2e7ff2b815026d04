"""Which candidate to try on which samples: pure ask/tell objects, with no event loop and no I/O."""

from rollouts.prompt_optimization.selection.base import (
    Candidate,
    Cell,
    Recommendation,
    Result,
    Selector,
    Space,
)
from rollouts.prompt_optimization.selection.registry import SELECTORS, TRIAL_SELECTORS, make_selector
from rollouts.prompt_optimization.selection.table import ScoreTable

__all__ = [
    "SELECTORS",
    "TRIAL_SELECTORS",
    "Candidate",
    "Cell",
    "Recommendation",
    "Result",
    "ScoreTable",
    "Selector",
    "Space",
    "make_selector",
]
