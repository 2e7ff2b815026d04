"""Optimizers, and the operations they are made of."""

from rollouts.prompt_optimization.configs import GEPAConfig, MIPROConfig
from rollouts.prompt_optimization.demos import DemoSet, build_demo_sets
from rollouts.prompt_optimization.evaluation import evaluate_template
from rollouts.prompt_optimization.formatting import format_prompt
from rollouts.prompt_optimization.gepa import crossover_templates, gepa, mutate_template, run_gepa, select_elites
from rollouts.prompt_optimization.mipro import bootstrap_demos, mipro, propose_instructions, run_mipro
from rollouts.prompt_optimization.opening import open_study
from rollouts.prompt_optimization.rmipro import RMIPROConfig, rmipro, run_rmipro
from rollouts.prompt_optimization.splits import Splits
from rollouts.prompt_optimization.study import Study, StudyOptions
from rollouts.prompt_optimization.types import (
    FewShotExample,
    GenerationStats,
    OptimizationResult,
    PromptTemplate,
    ScoredProgram,
    TestReport,
)

__all__ = [
    "DemoSet",
    "FewShotExample",
    "GEPAConfig",
    "GenerationStats",
    "MIPROConfig",
    "OptimizationResult",
    "PromptTemplate",
    "RMIPROConfig",
    "ScoredProgram",
    "Splits",
    "Study",
    "StudyOptions",
    "TestReport",
    "bootstrap_demos",
    "build_demo_sets",
    "crossover_templates",
    "evaluate_template",
    "format_prompt",
    "gepa",
    "mipro",
    "mutate_template",
    "open_study",
    "propose_instructions",
    "rmipro",
    "run_gepa",
    "run_mipro",
    "run_rmipro",
    "select_elites",
]
