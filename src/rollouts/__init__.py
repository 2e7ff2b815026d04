"""Better prompts for LLM programs, within a hard budget, with an honest verdict."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollouts.budget import Budget, Constraints
    from rollouts.dtypes import (
        Endpoint,
        FewShotExample,
        Message,
        Metric,
        Program,
        PromptTemplate,
        Sample,
        Score,
        Trajectory,
    )
    from rollouts.experiments.estimate import estimate_run
    from rollouts.integrations.exports import export_prompt
    from rollouts.prompt_optimization import (
        GEPAConfig,
        MIPROConfig,
        OptimizationResult,
        RMIPROConfig,
        StudyOptions,
        evaluate_template,
        format_prompt,
        run_gepa,
        run_mipro,
        run_rmipro,
    )
    from rollouts.prompt_optimization.saving import load_program, load_prompt, load_result, save
    from rollouts.store import open_store

__version__ = "0.1.0"

_HOMES = {
    "rollouts.budget": ("Budget", "Constraints"),
    "rollouts.dtypes": (
        "Endpoint",
        "FewShotExample",
        "Message",
        "Metric",
        "Program",
        "PromptTemplate",
        "Sample",
        "Score",
        "Trajectory",
    ),
    "rollouts.experiments.estimate": ("estimate_run",),
    "rollouts.integrations.exports": ("export_prompt",),
    "rollouts.prompt_optimization": (
        "GEPAConfig",
        "MIPROConfig",
        "OptimizationResult",
        "RMIPROConfig",
        "StudyOptions",
        "evaluate_template",
        "format_prompt",
        "run_gepa",
        "run_mipro",
        "run_rmipro",
    ),
    "rollouts.prompt_optimization.saving": ("load_program", "load_prompt", "load_result", "save"),
    "rollouts.store": ("open_store",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Budget",
    "Constraints",
    "Endpoint",
    "FewShotExample",
    "GEPAConfig",
    "MIPROConfig",
    "Message",
    "Metric",
    "OptimizationResult",
    "Program",
    "PromptTemplate",
    "RMIPROConfig",
    "Sample",
    "Score",
    "StudyOptions",
    "Trajectory",
    "estimate_run",
    "evaluate_template",
    "export_prompt",
    "format_prompt",
    "load_program",
    "load_prompt",
    "load_result",
    "open_store",
    "run_gepa",
    "run_mipro",
    "run_rmipro",
    "save",
]


def __getattr__(name: str) -> Any:
    """Names are loaded when they are first used, so that `import rollouts` stays light."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rollouts' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
