"""The example programs run: with a model that plays its part, and (marked) with the embedded one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rollouts import Budget, Endpoint, StudyOptions
from rollouts.dtypes import Request, Response, ToolCall, Usage
from rollouts.testing import ScriptedLLM

ROOT = Path(__file__).parents[1]
ENDPOINT = Endpoint(provider="sim", model="m")
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k" / "train.jsonl"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "examples" / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(reply: object, **budget: int) -> tuple[ScriptedLLM, StudyOptions]:
    llm = ScriptedLLM(reply)  # type: ignore[arg-type]
    return llm, StudyOptions(budget=Budget(**budget), providers={ENDPOINT.name: llm})


# ── the three snippets of the native API ──


def intent_reply(request: Request) -> str:
    """Answers right when it is told to name the label alone, or is shown how."""
    system = request.messages[0].content
    if request.phase == "propose":
        return "<instruction>Classify the query. Answer with the label alone.</instruction>"
    asked = request.messages[-1].content
    known = {row["query"]: row["intent"] for row in seed_api().dataset}
    query = asked.split("\n")[0].removeprefix("Query: ")
    alone = "alone" in system or "exactly one" in system or len(request.messages) > 2
    return known[query] if alone else f"I think that this is about {known[query]}."


_LOADED: dict[str, ModuleType] = {}


def seed_api() -> ModuleType:
    if "seed_api" not in _LOADED:
        _LOADED["seed_api"] = example("seed_api.py")
    return _LOADED["seed_api"]


@pytest.mark.parametrize("name", ["gepa", "gepa_with_tools", "mipro"])
async def test_the_snippets_of_the_seed_run(name: str) -> None:
    llm, opts = options(intent_reply, max_rollouts=250)
    result = await getattr(seed_api(), name)(ENDPOINT, opts)
    assert result.initial_template.score == 0
    assert result.best_template.score == 1
    assert result.best_template.user_template == seed_api().template.user_template
    assert result.spend.calls == llm.calls
    assert result.spend.rollouts <= 250
    assert result.history
    assert all(entry.num_evaluated >= 0 for entry in result.history)
    assert len(result.final_population) > 1
    if name == "gepa_with_tools":
        assert any(tool.name == "calculate" for request in llm.requests for tool in request.tools)


# ── agents ──


def agent_reply(request: Request) -> Response | str:
    """Uses the calculator when its instruction says how; then says what the tool said."""
    if request.phase == "propose":
        return "<instruction>Call the calculator with one whole expression, then give the number.</instruction>"
    last = request.messages[-1]
    if last.role == "tool":
        return f"It is {last.content}."
    if "expression" not in request.messages[0].content and len(request.messages) < 4:
        return "I cannot tell."
    first, second = re.findall(r"\d+", last.content)[:2]
    call = ToolCall(id="c1", name="calculate", arguments=f'{{"expression": "{first}*{second}"}}')
    return Response(
        text="", tool_calls=(call,), finish_reason="tool_calls", usage=Usage(prompt_tokens=9, completion_tokens=9)
    )


async def test_the_calculator_example_finds_tool_using_demonstrations(monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("prompt_optimization/calculator_mipro.py")
    llm = ScriptedLLM(agent_reply)
    monkeypatch.setattr(module, "StudyOptions", lambda **given: StudyOptions(**given, providers={ENDPOINT.name: llm}))
    result = await module.optimize(ENDPOINT, 150)
    assert result.best_template.score > result.initial_template.score
    assert result.verdict.decision in ("ship", "undecided")
    assert any("expression" in template.system for template in result.final_population)
    tools = [message for request in llm.requests for message in request.messages if message.role == "tool"]
    assert tools


@pytest.mark.parametrize("path", [None, GSM8K])
async def test_the_word_problem_agent_runs(path: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if path is not None and not path.exists():
        pytest.skip("needs ../shared/data/gsm8k")
    module = example("prompt_optimization/gsm8k_agent_gepa.py")
    llm = ScriptedLLM(agent_reply)
    monkeypatch.setattr(module, "StudyOptions", lambda **given: StudyOptions(**given, providers={ENDPOINT.name: llm}))
    result = await module.optimize(module.rows(None if path is None else str(path)), ENDPOINT, 300)
    assert result.spend.rollouts <= 300
    assert result.best.score >= (result.initial.score or 0)
    assert any("expression" in request.messages[0].content for request in llm.requests if request.phase != "propose")


def test_the_shipped_word_problems_are_answered_right() -> None:
    """Our own arithmetic, checked a second time."""
    module = example("prompt_optimization/gsm8k_agent_gepa.py")
    right = (7 * 24 - 19, (5 * 3 + 8) * 4, 540 - 180 - 75, 100 - 76 - 12, 28 // 4 * 15, 420 / 35, 41 - 17 + 9 - 6)
    right += (12 * 9 - 65, 516 // 12 * 3, 118 + 14, 174 / 6 + 4, 22 * 15, 45 * 3, 33 + 5, 50 - 8 * 4.5, 13 * 16 - 27)
    right += (85 * 3.5, 1320 / 55, 96 % 7, 320 * 0.85)
    assert [answer for _, answer in module.PROBLEMS] == pytest.approx(list(right))


# ── the embedded model ──


@pytest.mark.model
@pytest.mark.timeout(900)
def test_the_snippets_run_on_the_embedded_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "seed_api.py")],
        cwd=tmp_path,
        env={**os.environ, "ROLLOUTS_BUDGET": "40", "ROLLOUTS_ENDPOINT": "local"},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(\w+): best score", done.stdout) == ["gepa", "gepa_with_tools", "mipro"]


@pytest.mark.model
@pytest.mark.timeout(600)
def test_gepa_on_the_shipped_tickets_with_the_embedded_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "prompt_optimization" / "banking77_gepa.py"), "tickets", "120"],
        cwd=tmp_path,
        env={**os.environ, "ROLLOUTS_BUDGET": "60", "ROLLOUTS_ENDPOINT": "local"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rollouts, " in done.stdout
