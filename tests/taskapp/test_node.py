"""The example app in JavaScript: another language, the same rollouts."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import PromptTemplate, Request
from rollouts.errors import ConfigError, ProviderUnavailable, TaskAppError
from rollouts.evaluation import Task, evaluate_sample
from rollouts.prompt_optimization import MIPROConfig, Splits, StudyOptions, run_mipro
from rollouts.taskapp import AppLimits, RemoteApp, remote_program, reward_of
from rollouts.testing import ScriptedLLM

from .kit import KEY, MODEL, desk_over, rollout_body, seeds

EXAMPLE = Path(__file__).parents[2] / "examples" / "task_apps" / "sentiment.mjs"
REVIEWS = dict(re.findall(r'^  \["(.+)", "(.+)"\],$', EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
START = PromptTemplate("Say how the reviewer feels.", "Review: {review}")

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@asynccontextmanager
async def node_app() -> AsyncIterator[RemoteApp]:
    environment = {**os.environ, "PORT": "0", "ENVIRONMENT_API_KEY": KEY}
    process = await asyncio.create_subprocess_exec(
        "node", str(EXAMPLE), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    app = RemoteApp((await process.stdout.readline()).decode().strip(), KEY, limits=AppLimits(max_attempts=1))
    try:
        yield app
    finally:
        await app.close()
        process.terminate()
        await process.wait()


def reply(request: Request) -> str:
    """Gives the label alone when it is told to, or shown how."""
    if request.phase == "propose":
        return "<instruction>Answer with one word: positive or negative.</instruction>"
    label = REVIEWS[request.messages[-1].content.removeprefix("Review: ")]
    shown = "one word" in request.messages[0].content or len(request.messages) > 2
    return label if shown else f"I think {label}."


async def test_a_job_runs_over_it() -> None:
    async with node_app() as app, desk_over(ScriptedLLM(reply)) as desk:
        await app.check()
        info = await app.info()
        assert (info.name, info.size, info.labels) == ("sentiment", 12, ("negative", "positive"))
        assert [sample.inputs for sample in await app.samples([0, 1])] == [{"seed": 0}, {"seed": 1}]
        options = StudyOptions(budget=Budget(max_rollouts=60), providers={MODEL.name: desk.llm})
        data = Splits(train=seeds(range(4)), val=seeds(range(4, 8)), test=seeds(range(8, 12)))
        start = remote_program(app, START, desk)
        result = await run_mipro(start, MIPROConfig(num_trials=2), data, MODEL, MODEL, reward_of, options=options)
    assert result.initial.score == 0.0
    assert result.best.score == 1.0
    assert result.best_template.placeholders == {"review"}


async def test_its_failures_are_no_scores() -> None:
    llm = ScriptedLLM(lambda request: ProviderUnavailable("down"))
    async with node_app() as app, desk_over(llm) as desk:
        task = Task(endpoint=MODEL, score_fn=reward_of)
        evaluation = await evaluate_sample(remote_program(app, START, desk), seeds([3])[0], task, {})
        assert evaluation.failure is not None
        assert evaluation.failure.kind == "ProviderUnavailable"
        with pytest.raises(TaskAppError, match="no model at the inference URL"):
            await app.rollout(rollout_body())
        with pytest.raises(TaskAppError, match="status 422"):
            await app.rollout(rollout_body("nowhere"))
        other = RemoteApp(app.url, "wrong")
        with pytest.raises(ConfigError, match="refuses the environment key"):
            await other.check()
        await other.close()
