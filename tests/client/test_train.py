"""`rollouts train`, against a service and a task app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rollouts.cli import train as training
from rollouts.cli.app import run
from rollouts.cli.train import read_training_file, write_files
from rollouts.client import Job
from rollouts.errors import ConfigError
from rollouts.testing import MockProvider
from tests.service.conftest import Service, service, start
from tests.service.synth.world import KEY, app, reply
from tests.taskapp.kit import served

__all__ = ["service", "start"]

MIPRO = """\
[prompt_learning.mipro]
num_iterations = 10
top_k = 2
num_bootstrap_seeds = 3
num_instructions_per_module = 4
num_demos = 2
optimize_instructions = true
optimize_demos = true
"""
GEPA = """\
[prompt_learning.gepa]
population_size = 4
num_generations = 3
mutation_rate = 0.3
crossover_rate = 0.5
elite_count = 1
"""
WALKTHROUGH = """\
[prompt_learning]
algorithm = "{algorithm}"
task_app_url = "{url}"
results_folder = "out/results"
[prompt_learning.initial_prompt]
sections = [{{ role = "system", content = "Route the ticket." }}]
[prompt_learning.policy]
provider = "openai"
model = "gpt-4o-mini"
[prompt_learning.termination_config]
budget = 70
max_time_seconds = 1800
target_score = 0.95
{search}
[display]
show_curve = true
verbose_summary = true
show_trial_results = true
"""
FILES = {"best_prompt.json", "score_history.json", "job_metadata.json", "selected_demos.json"}
Train = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    async with MockProvider(reply=reply) as mock:
        yield mock


@pytest.fixture
async def app_url(service: Service) -> AsyncIterator[str]:
    """A task app whose key the service has."""
    async with served(app()) as url, service.client() as client:
        await client.upload_env_key(KEY)
        yield url


@pytest.fixture
def train(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Writes a file and runs the command on it; gives exit code, stdout and stderr."""
    monkeypatch.setenv("ROLLOUTS_URL", service.url)
    monkeypatch.setenv("ROLLOUTS_API_KEY", service.key)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    async def call(text: str, *options: str) -> tuple[int, str, str]:
        Path("job.toml").write_text(text)
        capsys.readouterr()
        code = await asyncio.to_thread(run, ["train", "job.toml", "--poll-interval", "0.05", *options])
        return code, *capsys.readouterr()

    return call


def text_of(algorithm: str, url: str) -> str:
    return WALKTHROUGH.format(algorithm=algorithm, url=url, search=MIPRO if algorithm == "mipro" else GEPA)


def only_job(service: Service) -> str:
    (row,) = service.state.jobs.list("default", status=None, limit=10, before=None)
    return row.id


@pytest.mark.parametrize("algorithm", ["mipro", "gepa"])
async def test_a_file_of_the_walkthrough_leaves_its_four_files(
    service: Service, app_url: str, train: Train, tmp_path: Path, algorithm: str
) -> None:
    code, out, err = await train(text_of(algorithm, app_url), "--poll")
    assert (code, err) == (0, "")
    shown = [line.strip() for line in out.splitlines()]
    assert f"{algorithm.upper()} Prompt Optimization" in shown
    assert f"Job ID: {only_job(service)}" in shown
    assert [line for line in shown if line.startswith(("Iteration 1/", "Generation 1/"))]
    assert [line for line in shown if line.startswith("Best Score: ")]
    (total,) = (line for line in shown if line.startswith("Total Evaluations: "))
    assert 0 < int(total.rpartition(" ")[2]) <= 70
    folder = tmp_path / "out" / "results"
    assert {file.name for file in folder.iterdir()} == FILES
    best = json.loads((folder / "best_prompt.json").read_text())
    assert best["instruction"]["role"] == "system"
    assert best["instruction"]["content"]
    assert all({"query", "label"} <= set(demo) for demo in best["demonstrations"])
    assert best["demonstrations"] == json.loads((folder / "selected_demos.json").read_text())
    assert json.loads((folder / "score_history.json").read_text())["trials"]
    metadata = json.loads((folder / "job_metadata.json").read_text())
    assert metadata["job"]["status"] == "succeeded"
    assert KEY not in json.dumps(metadata)


async def test_the_shortest_file_of_the_walkthrough_is_enough(service: Service, app_url: str, train: Train) -> None:
    code, out, _ = await train(f'[prompt_learning]\nalgorithm = "mipro"\ntask_app_url = "{app_url}"\n\n{MIPRO}')
    assert (code, "openai/gpt-4o-mini is taken" in out) == (0, True)
    async with service.client() as client:
        assert (await client.cancel(only_job(service))).name == "job"


async def test_the_queries_of_demonstrations_are_what_was_asked(app_url: str, train: Train, tmp_path: Path) -> None:
    demos_only = text_of("mipro", app_url).replace("optimize_instructions = true", "optimize_instructions = false")
    without_prompt = "\n".join(line for line in demos_only.splitlines() if "initial_prompt" not in line[:32])
    without_prompt = without_prompt.replace('sections = [{ role = "system", content = "Route the ticket." }]', "")
    assert (await train(without_prompt, "--poll"))[0] == 0
    best = json.loads((tmp_path / "out" / "results" / "best_prompt.json").read_text())
    assert best["demonstrations"]
    assert all(demo["query"].startswith("ticket number ") for demo in best["demonstrations"])


async def test_json_is_one_event_a_line(service: Service, app_url: str, train: Train) -> None:
    code, out, _ = await train(text_of("mipro", app_url), "--poll", "--stream-format", "json")
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert (events[0]["kind"], events[0]["data"]["job"]["id"]) == ("begin", only_job(service))
    assert [event["seq"] for event in events[1:-1]] == list(range(1, len(events) - 1))
    assert (events[-2]["kind"], events[-2]["data"]["status"]) == ("job", "succeeded")
    assert events[-1]["kind"] == "end"
    assert set(events[-1]["data"]["files"]) == FILES
    assert events[-1]["data"]["job"]["id"] == only_job(service)


async def test_a_job_goes_on_when_nobody_follows(
    service: Service, app_url: str, provider: MockProvider, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of("mipro", app_url)
    code, out, _ = await train(text)
    job_id = only_job(service)
    assert (code, f"rollouts train job.toml --job {job_id}" in out) == (0, True)
    assert not list(Path("out/results").iterdir())
    async with service.client() as client:
        await client.pause(job_id)
        code, out, _ = await train(text, "--job", job_id, "--poll-timeout", "0")
        assert (code, "the job is not over; it goes on" in out) == (1, True)

        def interrupt(_: float) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(training.time, "sleep", interrupt)
            code, out, _ = await train(text, "--job", job_id)
        assert (code, f"rollouts jobs cancel {job_id}" in out) == (130, True)
        assert (await client.job(job_id)).status == "paused"
        await client.resume(job_id)
    code, out, _ = await train(text, "--job", job_id, "--out", "out/results")
    assert (code, "MIPRO Prompt Optimization" in out, "Optimization Complete" in out) == (0, True, True)
    assert {file.name for file in Path("out/results").iterdir()} == FILES


async def test_a_job_that_is_cancelled_ends_with_1(service: Service, app_url: str, train: Train) -> None:
    text = text_of("mipro", app_url)
    await train(text)
    job_id = only_job(service)
    async with service.client() as client:
        await client.cancel(job_id)
    code, out, _ = await train(text, "--job", job_id)
    assert (code, "Optimization Cancelled" in out) == (1, True)


async def test_what_has_no_effect_is_told(app_url: str, train: Train) -> None:
    extra = 'unknown_thing = 1\nenv_file_path = ".env"\n[prompt_learning.initial_prompt]'
    text = text_of("mipro", app_url).replace("[prompt_learning.initial_prompt]", extra) + "show_curves = true\n"
    code, out, err = await train(text, "--stream-format", "json")
    assert (code, [json.loads(line)["kind"] for line in out.splitlines()]) == (0, ["begin"])
    assert "display.show_curves has no effect" in err
    assert "env_file_path has no effect" in err
    assert "unknown_thing has no effect" in err


async def test_wrong_files_end_with_2(service: Service, app_url: str, train: Train) -> None:
    for text, said in (
        ("prompt_learning = ", "job.toml"),
        ("[training]\n", "a training file has the table [prompt_learning]"),
        (text_of("mipro", app_url).replace("show_curve = true", 'show_curve = "yes"'), "display.show_curve"),
        (text_of("mipro", app_url).replace('"out/results"', "1"), "results_folder: expected text"),
        (text_of("mipro", app_url).replace("task_app_url", "task_app_name"), "task_app_url: missing"),
        (text_of("mipro", app_url).replace("budget = 70", "budget = -1"), "termination_config.budget"),
        (text_of("rmipro", app_url), "cannot run here"),
    ):
        code, _, err = await train(text, "--poll")
        assert (code, said in err) == (2, True), err
    assert service.state.jobs.list("default", status=None, limit=10, before=None) == []


async def test_a_task_app_that_is_not_there_ends_with_1(train: Train) -> None:
    code, _, err = await train(text_of("mipro", "http://127.0.0.1:9"), "--poll")
    assert (code, "127.0.0.1:9" in err) == (1, True)


def test_a_service_cannot_write_elsewhere(tmp_path: Path) -> None:
    job = Job.from_json({"id": "pl_0123456789abcdef", "status": "succeeded"})
    (tmp_path / "in").mkdir()
    names = ("../out.json", "/tmp/out.json", "sub/out.json", ".bashrc", "..", "fine.json")
    assert set(write_files(tmp_path / "in", dict.fromkeys(names, 1), job)) == {"fine.json"}
    assert [file.name for file in tmp_path.rglob("*.json")] == ["fine.json"]


def test_results_go_where_the_file_or_the_command_says(tmp_path: Path) -> None:
    file = tmp_path / "my_job.toml"
    file.write_text('[policy_optimization]\nlocalapi_url = "http://127.0.0.1:1"\n')
    assert read_training_file(file).folder == Path("results/my_job")
    assert read_training_file(file, out="there").folder == Path("there")
    assert read_training_file(file).job["prompt_learning"]["name"] == "my_job"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_training_file(tmp_path / "none.toml")
