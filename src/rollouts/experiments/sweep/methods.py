"""The methods of an experiment: a search with settings of its own, or the start as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rollouts.budget import Budget
from rollouts.errors import ConfigError
from rollouts.experiments.config_errors import Problem, show
from rollouts.experiments.near_names import did_you_mean
from rollouts.prompt_optimization import GEPAConfig, MIPROConfig, RMIPROConfig
from rollouts.prompt_optimization.scheduling import SCHEDULERS
from rollouts.prompt_optimization.selection import SELECTORS

START = "start"
"""The algorithm that searches nothing: the starting prompt on the test rows."""

Search = MIPROConfig | GEPAConfig
"""Settings of a search; those of r-MIPRO are MIPRO's and more."""

SEARCHES: Mapping[str, type[Search]] = {"mipro": MIPROConfig, "gepa": GEPAConfig, "rmipro": RMIPROConfig}
ALGORITHMS = (START, *SEARCHES)
_NOT_HERE = {
    "seed": "seeds",
    "train_seeds": "data",
    "val_seeds": "data",
    "test_seeds": "data",
    "max_concurrent": "slots",
}
_CHOICES = {"scheduler": tuple(SCHEDULERS), "selector": tuple(SELECTORS)}
_MODULES = "module_budgets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method. `settings` is None for the start; `module_budgets` is what r-MIPRO may spend on single modules."""

    algorithm: str
    settings: Search | None = None
    module_budgets: Mapping[str, Budget] = field(default_factory=dict)

    def for_run(self, seed: int, slots: int, job: Search) -> Search:
        """The settings of one run. What the texts are for, and what must stay in them, is told by the job's own
        settings where the method says nothing."""
        own = self.settings or job
        told = {name: getattr(own, name) or getattr(job, name) for name in ("description", "frozen_spans")}
        return replace(own, seed=seed, max_concurrent=slots, **told)

    def to_json(self) -> dict[str, Any]:
        """All settings but those that the experiment makes, as JSON values."""
        settings = {} if self.settings is None else asdict(self.settings)
        plain = {key: value for key, value in settings.items() if key not in _NOT_HERE and value is not None}
        budgets = {name: _given(budget) for name, budget in self.module_budgets.items()}
        own = {_MODULES: budgets} if budgets else {}
        return dict(json.loads(json.dumps({"algorithm": self.algorithm, **plain, **own})))


def methods_of(tables: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Method], list[Problem]]:
    """The methods of an experiment file, and everything that is wrong with them."""
    methods: dict[str, Method] = {}
    problems: list[Problem] = []
    for name, table in tables.items():
        reader = _Reader(f"methods.{name}")
        method = reader.method(table)
        problems += reader.problems
        if method is not None and not reader.problems:
            methods[name] = method
    return methods, problems


class _Reader:
    def __init__(self, where: str) -> None:
        self._where = where
        self.problems: list[Problem] = []

    def method(self, table: Mapping[str, Any]) -> Method | None:
        values = dict(table)
        algorithm = values.pop("algorithm", None)
        if algorithm not in ALGORITHMS:
            self._problem("algorithm", f"{show(algorithm)}: expected one of {', '.join(ALGORITHMS)}")
            return None
        budgets = values.pop(_MODULES, {}) if algorithm == "rmipro" else {}
        if algorithm == START:
            for key in values:
                self._problem(key, "the start has no settings; take it out")
            return Method(algorithm=algorithm)
        settings = self._dataclass(SEARCHES[algorithm], values)
        return Method(algorithm=algorithm, settings=settings, module_budgets=self._budgets(budgets))

    def _dataclass(self, kind: type[Any], values: Mapping[str, Any], below: str = "") -> Any:
        """An instance of the dataclass `kind`; None when something is wrong."""
        before = len(self.problems)
        known = [entry.name for entry in fields(kind) if entry.name not in _NOT_HERE]
        for key, value in values.items():
            if key in _NOT_HERE:
                self._problem(below + key, f"the experiment says this for all methods, in '{_NOT_HERE[key]}'")
            elif key not in known:
                keys = ", ".join(sorted(known))
                self._problem(below + key, f"unknown key{did_you_mean(key, known)} Keys: {keys}")
            elif key in _CHOICES and value not in _CHOICES[key]:
                self._problem(below + key, f"{show(value)}: expected one of {', '.join(_CHOICES[key])}")
        if len(self.problems) > before:
            return None
        try:
            # In JSON a list stands for a tuple, also where types are taken strictly.
            return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            for entry in error.errors(include_url=False, include_context=False):
                key = str(entry["loc"][0])
                self._problem(below + key, f"{show(values.get(key))}: {entry['msg'].lower()}")
        except ConfigError as error:
            self._problem("", str(error))
        return None

    def _budgets(self, tables: Any) -> dict[str, Budget]:
        if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
            self._problem(_MODULES, "expected a table of tables: module -> caps")
            return {}
        return {name: self._dataclass(Budget, table, f"{_MODULES}.{name}.") for name, table in tables.items()}

    def _problem(self, key: str, message: str) -> None:
        self.problems.append(Problem(key=f"{self._where}.{key}" if key else self._where, message=message))


def _given(budget: Budget) -> dict[str, Any]:
    caps = {entry.name: getattr(budget, entry.name) for entry in fields(budget)}
    return {name: cap if isinstance(cap, int | float) else str(cap) for name, cap in caps.items() if cap is not None}
