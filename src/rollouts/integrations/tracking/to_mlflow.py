"""Runs in MLflow, at the server that MLflow's own variables name (`MLFLOW_TRACKING_URI`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rollouts.integrations.tracking.base import Begun, Ended

_TAG = "rollouts.run_id"
_AT_ONCE, _LONGEST = 100, 500
_STATUS = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflowRun:
    """One run of the experiment that is called like the project. The run's id here is its tag `rollouts.run_id`."""

    def __init__(self) -> None:
        self._client: Any = None
        self._id = ""
        self._step = 0

    def begin(self, run: Begun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = client = MlflowClient()
        found = client.get_experiment_by_name(run.project)
        experiment = client.create_experiment(run.project) if found is None else found.experiment_id
        earlier = client.search_runs([experiment], f"tags.`{_TAG}` = '{run.run_id}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return
        self._id = client.create_run(experiment, tags={_TAG: run.run_id}, run_name=run.name).info.run_id
        params = [Param(name, value) for name, value in _flat(run.settings)]
        for first in range(0, len(params), _AT_ONCE):
            client.log_batch(self._id, params=params[first : first + _AT_ONCE])

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        self._step = max(step, self._step)
        now = time.time_ns() // 1_000_000
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def end(self, ended: Ended) -> None:
        self.log(ended.values, self._step)  # what MLflow takes as a metric's last value is that of its last step
        for name, text in ended.facts.items():
            self._client.set_tag(self._id, name, text)
        for name, text in ended.files.items():
            self._client.log_text(self._id, text, name)
        self._client.set_terminated(self._id, _STATUS[ended.status])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The settings by dotted names, as texts; nothing for what is not set."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            yield prefix + name, str(value)[:_LONGEST]
