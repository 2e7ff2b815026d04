"""Runs in Weights & Biases, with its own login (`WANDB_API_KEY`, `WANDB_MODE`, `WANDB_BASE_URL`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rollouts.errors import ConfigError
from rollouts.integrations.tracking.base import Begun, Ended


class WandbRun:
    """One run of the project, with the run's id here as its id."""

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, run: Begun) -> None:
        import wandb

        settings = wandb.Settings(console="off", silent=True)
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise ConfigError("Weights & Biases has no key: set WANDB_API_KEY, or WANDB_MODE=offline")
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            id=run.run_id,
            resume="allow",
            config=dict(run.settings),
            reinit="create_new",
            settings=settings,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def end(self, ended: Ended) -> None:
        import wandb

        self._run.summary.update({**ended.values, **ended.facts})
        if ended.files:
            result = wandb.Artifact(f"result-{self._run.id}", type="prompt")
            with TemporaryDirectory() as folder:
                for name, text in ended.files.items():
                    Path(folder, name).write_text(text, encoding="utf-8")
                result.add_dir(folder)
            self._run.log_artifact(result)
        self._run.finish(exit_code=int(ended.status == "failed"))
