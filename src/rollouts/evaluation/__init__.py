"""One program on one sample, and many of them: bounded, budgeted, recorded, with errors kept apart from scores."""

from rollouts.evaluation.evaluator import Cell, Evaluator, Progress
from rollouts.evaluation.failures import FailureLimit
from rollouts.evaluation.paid import Paid
from rollouts.evaluation.rollout import Task, evaluate_sample, rollout_key
from rollouts.evaluation.summary import EvaluationSummary, summarise

__all__ = [
    "Cell",
    "EvaluationSummary",
    "Evaluator",
    "FailureLimit",
    "Paid",
    "Progress",
    "Task",
    "evaluate_sample",
    "rollout_key",
    "summarise",
]
