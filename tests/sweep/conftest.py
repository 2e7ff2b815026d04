"""The desk task under its name, wherever experiments look for tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollouts.experiments.sweep import config, subject
from rollouts.experiments.sweep.config import parse_experiment
from rollouts.experiments.sweep.run import Runner
from rollouts.llm.client import Provider
from tests.sweep.desk import SMALL, DeskLLM, desk

Making = Callable[..., Runner]


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Provider]], None]:
    """The desk is the one task; what is returned sets its model."""

    def answer_with(simulate: Callable[[int], Provider]) -> None:
        monkeypatch.setattr(subject, "load_task", lambda name: desk(simulate))

    monkeypatch.setattr(config, "task_names", lambda: ("desk",))
    answer_with(DeskLLM)
    return answer_with


@pytest.fixture
def runner(tmp_path: Path) -> Making:
    """A runner of the small experiment with some of it changed, in a folder of its own."""

    def make(*, resume: bool = False, folder: str = "out", told: Any = None, **changes: Any) -> Runner:
        return Runner(parse_experiment({**SMALL, **changes}), tmp_path / folder, resume=resume, told=told)

    return make
