"""The report of experiments: one HTML file that needs nothing else."""

from rollouts.experiments.sweep.report.page import write_report

__all__ = ["write_report"]
