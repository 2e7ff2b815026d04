"""Which address and which key a study calls, and that its answers are known by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from rollouts.datasets import samples_from_dicts
from rollouts.dtypes import Endpoint, Message, Program, PromptTemplate, Request
from rollouts.evaluation import Cell, Task, summarise
from rollouts.evaluation.metrics import exact_match, llm_judge
from rollouts.llm.registry import PROVIDERS
from rollouts.prompt_optimization import StudyOptions
from rollouts.prompt_optimization.opening import running
from rollouts.store import Store, open_store
from rollouts.testing import MockProvider, ScriptedLLM
from tests.taskapp.kit import answering

TEMPLATE = PromptTemplate("Route it.", "{text}")
SAMPLES = samples_from_dicts([{"text": f"question {n}", "label": "billing"} for n in range(3)], TEMPLATE.placeholders)
TASK = Endpoint.parse("openai/gpt-4.1-nano")
OTHER = Endpoint.parse("openai/gpt-4.1")
ASK = Request(endpoint=OTHER, messages=(Message("user", "write an instruction"),), phase="propose")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for spec in PROVIDERS.values():
        for name in (*spec.key_env, *spec.base_url_env):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    made = open_store(tmp_path / "s.db")
    yield made
    made.close()


async def run(store: Store, *, run_id: str = "", resume: bool = False, **options: object) -> tuple[float | None, str]:
    """(the mean score, the answer to a proposer) of a study of three rows."""
    task = Task(endpoint=TASK, score_fn=exact_match())
    opts = StudyOptions(store=store, run_id=run_id, resume=resume, **options)  # type: ignore[arg-type]
    async with running(task, [OTHER], opts) as study:
        cells = [Cell(Program.single(TEMPLATE), sample) for sample in SAMPLES]
        summary = summarise(await study.evaluate(cells, phase="evaluate"))
        answer = await study.generate(ASK)
        assert study.count_tokens("a text") > 0
        assert study.worst_case(ASK).calls == 1
    return summary.mean, answer.text


async def test_another_address_in_the_environment_is_asked_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        MockProvider(reply=lambda body: "billing") as one,
        MockProvider(reply=lambda body: "nothing") as two,
    ):
        for mock, mean, answer in ((one, 1.0, "billing"), (two, 0.0, "nothing")):
            monkeypatch.setenv("OPENAI_BASE_URL", mock.base_url)
            assert await run(store) == (mean, answer)
            assert len(mock.requests) == 4
        monkeypatch.setenv("OPENAI_BASE_URL", one.base_url)
        assert await run(store) == (1.0, "billing")
        assert len(one.requests) == 4


async def test_a_resumed_run_finds_its_rollouts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with MockProvider(reply=lambda body: "billing") as mock:
        monkeypatch.setenv("OPENAI_BASE_URL", mock.base_url)
        first = await run(store, run_id="r")
        assert await run(store, run_id="r", resume=True) == first
        assert len(mock.requests) == 4


async def test_ready_providers_keep_their_keys(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM(lambda request: "billing")
    ready = {TASK.name: llm, OTHER.name: llm}
    await run(store, providers=ready)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    await run(store, providers=ready)
    assert llm.calls == 4


def test_a_judge_is_known_by_its_address(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def generate(request: Request) -> None:
        """Not asked."""

    before = llm_judge(generate, OTHER, "Right?").identity  # type: ignore[arg-type]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert llm_judge(generate, OTHER, "Right?").identity != before  # type: ignore[arg-type]
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    assert llm_judge(generate, OTHER, "Right?").identity == before  # type: ignore[arg-type]


async def test_a_password_in_the_address_is_sent_and_not_stored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Task(endpoint=Endpoint.parse("vllm/m"), score_fn=exact_match())
    async with MockProvider(reply=lambda body: "billing") as mock:
        monkeypatch.setenv("VLLM_BASE_URL", mock.base_url.replace("http://", "http://me:sk-in-the-url@"))
        async with running(own, [], StudyOptions(store=store)) as study:
            await study.evaluate([Cell(Program.single(TEMPLATE), SAMPLES[0])], phase="evaluate")
            assert "sk-in-the-url" not in repr(study.evaluator.task)
        assert len(mock.requests) == 1
    store.flush()
    assert not any(b"sk-in-the-url" in path.read_bytes() for path in tmp_path.iterdir())


async def test_endpoints_that_differ_in_their_keys_alone_are_sent_with_their_own() -> None:
    seen: Counter[str] = Counter()

    async def handle(request: web.Request) -> web.Response:
        seen[request.headers["Authorization"]] += 1
        choice = {"message": {"content": "billing"}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}})

    async with answering(handle) as url:
        one, two = (
            Endpoint(provider="openai_compatible", model="m", base_url=f"{url}/v1", api_key=key)
            for key in ("KEY-ONE", "KEY-TWO")
        )
        async with running(Task(endpoint=one, score_fn=exact_match()), [two], StudyOptions()) as study:
            await study.evaluate([Cell(Program.single(TEMPLATE), SAMPLES[0])], phase="evaluate")
            await study.generate(Request(endpoint=two, messages=ASK.messages, phase="propose"))
    assert seen == {"Bearer KEY-ONE": 1, "Bearer KEY-TWO": 1}
