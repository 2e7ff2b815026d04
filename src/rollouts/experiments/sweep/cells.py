"""The runs of an experiment: one for every method, budget and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from rollouts.budget import MICROS, Budget
from rollouts.errors import ConfigError
from rollouts.experiments.sweep.config import Experiment
from rollouts.experiments.sweep.methods import START

_SPARE = 32
_SHARED = ("max_rollouts", "max_calls", "max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run. The start is run once for each seed and has no `budget`."""

    method: str
    budget: str
    seed: int

    @property
    def name(self) -> str:
        """Its run id, and the name of its folder."""
        return "-".join(filter(None, (self.method, self.budget, f"s{self.seed}")))


def grid(experiment: Experiment) -> list[Cell]:
    """All runs, seed by seed, so that an experiment that ends early still has whole pairs to compare.

    Raises ConfigError where names of methods and budgets make two runs of one name.
    """
    cells = [
        Cell(method=name, budget="" if method.algorithm == START else budget, seed=seed)
        for seed in experiment.config.all_seeds
        for budget in experiment.config.budgets
        for name, method in experiment.methods.items()
    ]
    cells = list(dict.fromkeys(cells))
    (name, times), *_ = Counter(cell.name for cell in cells).most_common(1)
    if times > 1:
        raise ConfigError(f"two runs would have the name {name}; rename a method or a budget")
    return cells


def caps_of(experiment: Experiment, cell: Cell, cells: Sequence[Cell], test_rows: int) -> Budget:
    """What one run may spend: its budget, and an equal share of what only the total limits.

    The start takes one rollout for each test row, and else has the caps of the first budget. It may take more, because
    a run that is killed may lose what was authorised and not used.
    """
    budgets, total = experiment.config.budgets, experiment.config.total.budget
    caps = (budgets[cell.budget] if cell.budget else next(iter(budgets.values()))).budget
    if not cell.budget:
        caps = replace(caps, max_rollouts=2 * test_rows + _SPARE)
    shares = {
        name: whole // len(cells)
        for name in _SHARED
        if getattr(caps, name) is None and (whole := getattr(total, name)) is not None
    }
    if caps.max_cost_usd is None and total.max_micros is not None:
        return replace(caps, **shares, max_cost_usd=Decimal(total.max_micros // len(cells)) / MICROS)
    return replace(caps, **shares)
