"""Jobs told to real trackers, on this machine's disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rollouts.testing import MockProvider

from .conftest import Cli

Provider = Callable[..., MockProvider]


@pytest.mark.slow
def test_a_job_in_mlflow(cli: Cli, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    provider()
    first = cli("optimize", cli.job, "--track", "mlflow", "--budget", "60", "--json")
    assert first.code == 0, first.err
    again = cli("optimize", cli.job, "--track", "mlflow", "--budget", "200", "--run", first.json["run_id"], "--json")
    assert again.code == 0, again.err
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("rollouts")
    (run,) = client.search_runs([experiment.experiment_id])
    said = again.json
    assert (run.info.run_name, run.info.status) == ("job", "FINISHED")
    assert run.data.tags["rollouts.run_id"] == said["run_id"]
    assert run.data.tags["verdict"] == said["verdict"]
    assert run.data.metrics["test_best"] == pytest.approx(said["test"]["best"]["mean"])
    assert run.data.metrics["calls"] == said["spend"]["total"]["calls"]
    assert run.data.params["prompt_learning.policy.model"] == "mock"
    assert {point.step for point in client.get_metric_history(run.info.run_id, "best")} >= set(range(1, said["trials"]))
    kept = Path(client.download_artifacts(run.info.run_id, "best_prompt.json")).read_text()
    assert json.loads(kept) == json.loads(Path(said["files"]["best_prompt.json"]).read_text())


@pytest.mark.slow
def test_a_job_in_wandb(cli: Cli, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra 'wandb' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    provider()
    answer = cli(
        "optimize", cli.job, "--set", "execution.track=wandb", "--set", "execution.track_project=mine", "--json"
    )
    assert answer.code == 0, answer.err
    (written,) = tmp_path.glob(f"wandb/offline-run-*/run-{answer.json['run_id']}.wandb")
    content = written.read_bytes()
    for words in (b"test_best", b"best_score", answer.json["verdict"].encode(), b"mine", b"best_prompt.json"):
        assert words in content
