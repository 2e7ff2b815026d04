"""The experiment files of the repository: one on the embedded and one on the simulated model for every task."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollouts.experiments.sweep.config import load_experiment
from rollouts.experiments.tasks import load_task, task_names

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.parametrize("kind", ["local", "simulated"])
@pytest.mark.parametrize("task", task_names())
def test_the_file_of_a_task_loads(task: str, kind: str) -> None:
    experiment = load_experiment(FOLDER / f"{task}-{kind}.toml")
    assert experiment.config.task == task
    assert experiment.config.simulated == (kind == "simulated")
    searches = {method.algorithm for method in experiment.methods.values()}
    assert "rmipro" in searches if len(load_task(task).program.modules) > 1 else searches == {"start", "mipro", "gepa"}
    assert not experiment.notes


def test_there_are_no_other_files() -> None:
    assert len(list(FOLDER.iterdir())) == 2 * len(task_names())
