"""The real synth-ai 0.7.0 against a real `rollouts serve` process, over a real task app."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rollouts.testing import MockProvider
from tests.service.synth.world import GOOD, KEY, body, reply

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SDK = "synth-ai==0.7.0"
NEEDED = ("pydantic", "requests", "aiohttp", "click", "httpx", "pynacl", "toml")


@pytest.fixture(scope="module")
def sdk_python() -> str:
    """The interpreter of an environment that has the SDK and the few packages that this part of it needs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollouts" / "tests"
    home = cache / SDK.replace("==", "-")
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        commands = (
            [sys.executable, "-m", "venv", "--clear", home],
            [python, "-m", "pip", "install", "-q", "--no-deps", SDK],
            [python, "-m", "pip", "install", "-q", *NEEDED],
        )
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{SDK} cannot be installed: {done.stderr[-300:]}")
        (home / "ready").touch()
    return str(python)


@asynccontextmanager
async def serving(folder: Path, fast: MockProvider, slow: MockProvider) -> AsyncIterator[str]:
    """The address of a `rollouts serve` process whose models are the mock providers."""
    price = "price = { input = 1.0, output = 4.0 }"
    settings = [f'store = "{folder / "service.db"}"', f'results_dir = "{folder / "jobs"}"', "port = 0"]
    settings.append("demo_keys = true")
    for name, mock in (("openai/gpt-4.1-nano", fast), ("openai/gpt-4.1-mini", fast), ("openai/gpt-4o-mini", slow)):
        settings += [f'[models."{name}"]', 'provider = "openai_compatible"', 'model = "mock"', price]
        settings.append(f'base_url = "{mock.base_url}"')
    (folder / "serve.toml").write_text("\n".join(settings))
    rollouts = str(Path(sys.executable).with_name("rollouts"))
    command = (rollouts, "serve", "--config", str(folder / "serve.toml"))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=folder)
    assert process.stdout is not None
    try:
        said = (await process.stdout.readline()).decode()
        found = re.search(r"http://[\d.:]+", said)
        assert found, said
        yield found[0]
    finally:
        process.terminate()
        await process.communicate()


def configs(app_url: str) -> dict[str, Any]:
    made = {name: body(name, app_url)["config_body"] for name in ("mipro", "gepa")}
    slow = body("mipro", app_url)["config_body"]
    slow["prompt_learning"]["policy"]["model"] = "gpt-4o-mini"
    return {**made, "slow": slow}


async def test_what_a_user_of_the_sdk_sees(sdk_python: str, tmp_path: Path, app_url: str) -> None:
    async with (
        MockProvider(reply=reply) as fast,
        MockProvider(reply=reply, latency=0.5) as slow,
        serving(tmp_path, fast, slow) as url,
    ):
        session = Path(__file__).with_name("sdk_session.py")
        process = await asyncio.create_subprocess_exec(
            sdk_python,
            str(session),
            url,
            json.dumps(configs(app_url)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ENVIRONMENT_API_KEY": KEY},
        )
        out, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()[-3000:]
    said = json.loads(out.splitlines()[-1])
    for algorithm in ("mipro", "gepa"):
        job = said[algorithm]
        assert job["job_id"].startswith("pl_")
        assert (job["status"], job["succeeded"], job["best_score"]) == ("succeeded", True, 1.0)
        assert job["best_prompt"]["messages"][0]["pattern"] == GOOD
        assert job["results"]["best_prompt"] == job["best_prompt"]
        assert job["results"]["best_score"] == 1.0
        assert job["results"]["top_prompts"][0]["train_accuracy"] == 1.0
        assert job["text"].startswith(f"[system | system]\n{GOOD}")
        assert job["state"]["workflow_state"]["status"] == job["get_status"] == "succeeded"
    assert said["gepa"]["results"]["optimized_candidates"]
    streamed = said["streamed"]
    assert (streamed["status"], streamed["best_score"]) == ("succeeded", 1.0)
    assert streamed["best_prompt"]["messages"][0]["pattern"] == GOOD
    assert {"mipro.trial.complete", "learning.policy.mipro.iteration.completed"} <= {*streamed["events"]}
    assert said["cancel"]["status"] == "succeeded"
    assert said["cancelled"] == "cancelled"
    online = said["online"]
    assert online["session_id"].startswith("pl_")
    assert online["answered"]
    assert online["told"]["candidate_id"] == online["state"]["best_candidate_id"] == "baseline"
    assert online["state"]["candidates"]["baseline"]["mean_reward"] == 1.0
    assert online["orders"][0] == "paused"
    assert online["orders"][1] in ("queued", "running")
    assert online["orders"][2] == "cancelled"
