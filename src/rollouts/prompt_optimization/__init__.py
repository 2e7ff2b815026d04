"""Optimizers, and the operations they are made of."""

from rollouts.prompt_optimization.demos import DemoSet, build_demo_sets
from rollouts.prompt_optimization.evaluation import evaluate_template
from rollouts.prompt_optimization.formatting import format_prompt
from rollouts.prompt_optimization.mipro import bootstrap_demos, mipro, propose_instructions, run_mipro
from rollouts.prompt_optimization.splits import Splits
from rollouts.prompt_optimization.study import Study, StudyOptions, open_study
from rollouts.prompt_optimization.types import (
    FewShotExample,
    GenerationStats,
    MIPROConfig,
    OptimizationResult,
    PromptTemplate,
    TestReport,
)

__all__ = [
    "DemoSet",
    "FewShotExample",
    "GenerationStats",
    "MIPROConfig",
    "OptimizationResult",
    "PromptTemplate",
    "Splits",
    "Study",
    "StudyOptions",
    "TestReport",
    "bootstrap_demos",
    "build_demo_sets",
    "evaluate_template",
    "format_prompt",
    "mipro",
    "open_study",
    "propose_instructions",
    "run_mipro",
]
