"""This project's MIPRO by way of its service: as a job that asks a task app for rollouts, and as an online session.

The service is the one of `rollouts serve`, on free ports of this machine, in this process. Its models are those of the
proxy, so its calls are counted like everyone's.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from benchmarks.mipro_comparison.ours import found_of, metric, sample_of, splits_of, start_of
from benchmarks.mipro_comparison.outcome import Found, Row, score
from benchmarks.mipro_comparison.proxy import PROPOSER, TASK_MODEL
from benchmarks.mipro_comparison.tasks import Data, Task
from rollouts.client import AsyncClient
from rollouts.dtypes import PromptTemplate, render
from rollouts.errors import RolloutsError
from rollouts.prompt_optimization import MIPROConfig
from rollouts.service import ServiceSettings, create_app
from rollouts.service.server import bind, serving
from rollouts.taskapp import serve_program
from rollouts.taskapp.ports import listen

_SESSIONS = "/api/prompt-learning/online/mipro/sessions"
_SETTINGS = ("num_candidates", "max_bootstrapped_demos", "minibatch_size", "num_demo_sets", "proposal_rounds", "top_k")
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: its address, and a key that may do everything."""

    url: str
    key: str


def search_local(base_url: str, task: Task, data: Data, *, cap: int, seed: int, settings: str, slots: int) -> Found:
    """The search of `ours.search_mipro` as a job of the service; a task app makes the rollouts."""
    return asyncio.run(_job(base_url, task, data, cap, seed, slots))


def search_online(base_url: str, task: Task, data: Data, *, cap: int, seed: int, settings: str, slots: int) -> Found:
    """A session that serves prompts to `cap` requests, made of the training and validation rows over and over, and is
    told after each whether the answer was right. It learns instructions, no demonstrations."""
    return asyncio.run(_session(base_url, task, data, cap, seed, slots))


async def _job(base_url: str, task: Task, data: Data, cap: int, seed: int, slots: int) -> Found:
    splits = splits_of(task, data)
    parts = {"train_seeds": splits.train, "val_seeds": splits.val, "test_seeds": splits.test}
    samples = [sample for part in parts.values() for sample in part]
    number = {sample.id: index for index, sample in enumerate(samples)}
    key = secrets.token_hex(16)
    app = serve_program(task.name, samples, start_of(task), metric, keys=[key])
    config = {"prompt_learning": {**_section(task, cap, seed), "mipro": _mipro(task)}}
    async with (
        _service(base_url, slots) as service,
        _served(app) as url,
        AsyncClient(service.url, service.key) as client,
    ):
        await client.upload_env_key(key)
        seeds = {name: [number[sample.id] for sample in part] for name, part in parts.items()}
        job = await client.create_job(config, task_app={"url": url, "slots": slots, **seeds})
        job = await client.wait_for(job.id)
        if job.status != "succeeded":
            raise RolloutsError(f"the job {job.status}: {job.data.get('error')}")
        best = await client.best_prompt(job.id)
    template = PromptTemplate.from_json(best["prompt"]["template"])
    notes = {"val_score": best["score"], "verdict": (best["verdict"] or {}).get("decision")}
    return found_of(task, template, "few-shot + instruction", slots, notes)


async def _session(base_url: str, task: Task, data: Data, cap: int, seed: int, slots: int) -> Found:
    section = _section(task, cap, seed)
    section["initial_prompt"] = {"system": task.instruction, "user": task.user}
    async with (
        _service(base_url, slots) as service,
        aiohttp.ClientSession(
            service.url, headers={"X-API-Key": service.key}, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)
        ) as http,
    ):
        session = await _ask(http, "POST", _SESSIONS, {"config_body": {"prompt_learning": section}})
        own = f"{_SESSIONS}/{session['session_id']}"
        traffic = enumerate(_traffic(data, cap, seed))

        async def application() -> None:
            for index, row in traffic:
                await _request(http, own, task, row, f"request_{index}")

        await asyncio.gather(*(application() for _ in range(slots)))
        state = (await _ask(http, "GET", own))["state"]
        await _ask(http, "POST", f"{own}/cancel", {})
    candidates = state["candidates"]
    best = candidates[state["best_candidate_id"]]
    template = PromptTemplate(best["deltas"]["instruction_text"], task.user)
    notes = {"candidates": len(candidates), "mean_reward": best["mean_reward"]}
    return found_of(task, template, "instruction-only", slots, notes)


def _traffic(data: Data, cap: int, seed: int) -> list[Row]:
    """`cap` rows: all training and validation rows in random order, again and again."""
    rng, rows = random.Random(f"traffic-{seed}"), [*data.train, *data.val]
    return [row for _ in range(-(-cap // len(rows))) for row in rng.sample(rows, len(rows))][:cap]


async def _request(http: aiohttp.ClientSession, own: str, task: Task, row: Row, name: str) -> None:
    """One request of a live application, which knows its own prompt alone, and what the answer was worth."""
    where = await _ask(http, "GET", f"{own}/prompt?correlation_id={name}")
    messages = [message.to_json() for message in render(start_of(task), sample_of(task, row).inputs)]
    body = {"model": TASK_MODEL, "temperature": 0, "max_tokens": task.max_tokens, "messages": messages}
    answer = await _ask(http, "POST", where["chat_completions_url"], body)
    reward = score(answer["choices"][0]["message"]["content"] or "", row["label"])
    told = {"correlation_id": name, "reward_info": {"outcome_reward": float(reward)}}
    await _ask(http, "POST", f"{own}/reward", told)


async def _ask(http: aiohttp.ClientSession, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
    async with http.request(method, url, json=body) as response:
        if response.status >= 400:
            raise RolloutsError(f"the service answered {response.status}: {(await response.text())[:500]}")
        return await response.json()


def _section(task: Task, cap: int, seed: int) -> dict[str, Any]:
    return {
        "algorithm": "mipro",
        "seed": seed,
        "policy": {
            "provider": "openai",
            "model": TASK_MODEL,
            "temperature": 0.0,
            "max_completion_tokens": task.max_tokens,
        },
        "proposer": {"provider": "openai", "model": PROPOSER},
        "termination_config": {"budget": cap},
    }


def _mipro(task: Task) -> dict[str, Any]:
    """The library's defaults under the names of a job file."""
    usual = MIPROConfig(max_labeled_demos=task.demos)
    settings = {name: getattr(usual, name) for name in _SETTINGS}
    return {**settings, "num_iterations": usual.num_trials, "max_labeled_demos": usual.max_labeled_demos}


@asynccontextmanager
async def _service(base_url: str, slots: int) -> AsyncIterator[Service]:
    """A service that keeps everything in a folder of its own, which goes with it."""

    def model(name: str) -> dict[str, Any]:
        return {"provider": "openai_compatible", "model": name, "base_url": base_url, "timeout_s": _TIMEOUT_S}

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = ServiceSettings.model_validate(
            {
                "port": 0,
                "store": str(Path(folder, "service.db")),
                "results_dir": Path(folder, "jobs"),
                "slots": slots,
                "models": {f"openai/{name}": model(name) for name in (TASK_MODEL, PROPOSER)},
            }
        )
        with bind(settings) as listener:
            host, port = listener.getsockname()[:2]
            app = create_app(settings.model_copy(update={"port": port}))
            async with serving(app, listener):
                key, _ = app.state.keys.create(name="comparison", scopes=("admin",))
                yield Service(f"http://{host}:{port}", key)


@asynccontextmanager
async def _served(app: Any) -> AsyncIterator[str]:
    """The task app on a free port."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
