"""Rollouts in a task app: the prompts that reach the model, what is counted, and optimizers that run over it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rollouts.budget import Budget, Constraints
from rollouts.datasets import DatasetSpec, load
from rollouts.dtypes import (
    Agents,
    Evaluation,
    FewShotExample,
    Message,
    Program,
    PromptTemplate,
    Request,
    Response,
    Sample,
    ToolCall,
    Trace,
    Usage,
)
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    ConfigError,
    InvalidRequest,
    ProviderUnavailable,
    TooManyFailures,
)
from rollouts.evaluation import Task, evaluate_sample
from rollouts.evaluation.metrics import exact_match, numeric_match
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    Splits,
    StudyOptions,
    run_gepa,
    run_mipro,
)
from rollouts.store import open_store
from rollouts.taskapp import AppLimits, Asked, LateDesk, RemoteApp, remote_program, reward_of, serve_program
from rollouts.taskapp.program import whole
from rollouts.testing import FakeClock, ScriptedLLM, SimulatedLLM, SimulatedTask

from .kit import KEY, MODEL, FakeDesk, answering, desk_over, seeds, served

START = PromptTemplate("Route the ticket.", "Ticket: {ticket}\nRoute:", id="start")
ROWS = load(DatasetSpec(path="tickets", inputs={"ticket": "ticket"}, ground_truth="route"))[::3]
LABELS = tuple(sorted({str(row.ground_truth) for row in ROWS}))
KNOWN = {row["ticket"] for row in ROWS}


def loud(request: Request) -> str:
    """Answers with the system text, in capitals."""
    return request.messages[0].content.upper()


@asynccontextmanager
async def world(
    llm: Any, program: Any = START, score: Any = None, rows: Any = ROWS, **how: Any
) -> AsyncIterator[tuple[RemoteApp, FakeDesk]]:
    """A served program, its client, and a desk over `llm`."""
    app = serve_program("t", rows, program, score or exact_match(), keys=[KEY], **how)
    async with desk_over(llm) as desk, served(app) as url:
        client = RemoteApp(url, KEY)
        try:
            yield client, desk
        finally:
            await client.close()


async def evaluated(program: Program, seed: int = 0, **settings: Any) -> Evaluation:
    task = Task(endpoint=MODEL, score_fn=reward_of, **settings)
    return await evaluate_sample(program, seeds([seed])[0], task, {}, phase="task/search", repeat=2)


async def test_the_candidate_reaches_the_model_and_the_app_judges_its_answer() -> None:
    demo = FewShotExample("Ticket: x\nRoute:", "y")
    right = str(ROWS[0].ground_truth)
    candidate = START.replace(system=right, few_shot_examples=(demo,))
    llm = ScriptedLLM(lambda request: request.messages[0].content)
    async with world(llm) as (app, desk):
        program = remote_program(app, START, desk, asked=Asked(policy={"model": "any"}))
        baseline = await evaluated(program)
        evaluation = await evaluated(program.with_modules({"main": candidate}))
    assert baseline.value == 0.0
    assert baseline.output == "Route the ticket."
    assert evaluation.value == 1.0
    messages = llm.requests[-1].messages
    assert [m.content for m in messages[:3]] == [right, demo.input, demo.output]
    assert messages[-1].content == f"Ticket: {ROWS[0]['ticket']}\nRoute:"
    spec = desk.opened[-1]
    assert (spec.phase, spec.repeat, spec.module) == ("task/search", 2, "main")
    assert spec.correlation_id == f"trace_{spec.trial_id}"
    assert spec.program.modules["main"] == candidate
    assert spec.baseline.modules["main"] == START
    assert not desk.open_trials


async def test_calls_and_traces_are_the_rollouts_own() -> None:
    async with world(ScriptedLLM(loud)) as (app, desk):
        evaluation = await evaluated(remote_program(app, START, desk))
    assert evaluation.calls == 1
    assert evaluation.latency_s == 0.01
    assert evaluation.usage.total_tokens > 0
    assert evaluation.trajectory is not None
    (trace,) = evaluation.trajectory.traces
    assert (trace.module, dict(trace.values)) == ("main", {"ticket": ROWS[0]["ticket"]})
    assert trace.output == evaluation.output == "ROUTE THE TICKET."
    assert evaluation.score is not None
    assert evaluation.score.feedback


async def chain(sample: Sample, agents: Agents) -> str:
    first = await agents["draft"]({"text": sample["text"]})
    return (await agents["finish"]({"draft": first.output})).output


async def test_every_module_of_a_program_gets_its_own_prompt_and_trace() -> None:
    prompts = {"draft": PromptTemplate("Draft.", "{text}"), "finish": PromptTemplate("Finish.", "Draft: {draft}")}
    program = Program(modules=prompts, run=chain)
    rows = [Sample(inputs={"text": "a"}, ground_truth="DO IT: DRAFT.", id="1")]
    llm = ScriptedLLM(lambda request: f"{request.messages[0].content}: {request.messages[-1].content}".upper())
    async with world(llm, program, lambda trajectory, sample: float("DO IT." in trajectory.output), rows) as (
        app,
        desk,
    ):
        start = remote_program(app, program, desk)
        candidate = start.with_modules({"finish": prompts["finish"].replace(system="Do it.")})
        values = [(await evaluated(one)).value for one in (start, candidate)]
        traces = (await evaluated(candidate)).trajectory
    assert values == [0.0, 1.0]
    assert traces is not None
    assert [(one.module, dict(one.values)) for one in traces.traces] == [
        ("draft", {"text": "a"}),
        ("finish", {"draft": "DRAFT.: A"}),
    ]
    assert traces.output == "DO IT.: DRAFT: DRAFT.: A"


async def test_trials_cannot_be_guessed_and_end_with_their_rollout() -> None:
    async with world(ScriptedLLM(loud)) as (app, desk):
        program = remote_program(app, START, desk)
        for seed in range(5):
            await evaluated(program, seed)
        ids = {spec.trial_id for spec in desk.opened}
    assert len(ids) == 5
    assert all(len(one) == 32 for one in ids)


# What goes wrong.


@pytest.mark.parametrize(
    ("error", "stage"),
    [
        (BudgetExhausted("usd", cap=1, committed=1, wanted=1), "budget"),
        (InvalidRequest("too long"), "call"),
    ],
)
async def test_the_error_of_the_trials_call_is_the_rollouts(error: Exception, stage: str) -> None:
    async with world(ScriptedLLM(lambda request: error)) as (app, desk):
        evaluation = await evaluated(remote_program(app, START, desk, clock=FakeClock(auto=True)))
        assert evaluation.failure is not None
        assert (evaluation.failure.kind, evaluation.failure.stage) == (type(error).__name__, stage)
        assert len(desk.opened) == 1


async def test_a_refused_provider_key_ends_the_run() -> None:
    async with world(ScriptedLLM(lambda request: AuthenticationFailed("wrong key"))) as (app, desk):
        with pytest.raises(AuthenticationFailed):
            await evaluated(remote_program(app, START, desk))


@asynccontextmanager
async def scripted_app(bodies: list[dict[str, Any]], **limits: Any) -> AsyncIterator[tuple[Program, FakeDesk]]:
    """A program over an app that gives these answers in order and calls no model."""
    left = list(bodies)

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(left.pop(0))

    async with desk_over(ScriptedLLM([])) as desk, answering(handler) as url:
        app = RemoteApp(url, limits=AppLimits(**limits))
        yield remote_program(app, START, desk, clock=FakeClock(auto=True)), desk
        await app.close()


RIGHT = {"reward_info": {"outcome_reward": 1.0}}
FAILED = {"error": "rate limited", "metrics": {"mean_return": 0.0}}


async def test_a_failure_that_may_pass_is_tried_again_as_another_trial() -> None:
    async with scripted_app([FAILED, FAILED, RIGHT]) as (program, desk):
        evaluation = await evaluated(program)
    assert evaluation.value == 1.0
    assert len({spec.trial_id for spec in desk.opened}) == 3


@pytest.mark.parametrize(
    ("bodies", "attempts"), [([FAILED] * 3, 2), ([{**FAILED, "success_status": "failure", "error": None}], 3)]
)
async def test_a_failure_is_never_a_score_of_0(bodies: list[dict[str, Any]], attempts: int) -> None:
    async with scripted_app(bodies, max_attempts=attempts) as (program, desk):
        evaluation = await evaluated(program)
    assert evaluation.score is None
    assert evaluation.failure is not None
    assert evaluation.failure.kind == "TaskAppError"
    assert len(desk.opened) == min(attempts, len(bodies))


async def gullible(request: web.Request) -> web.Response:
    """An app that scores an answer which it never got."""
    body = await request.json()
    messages = [{"role": "system", "content": START.system}, {"role": "user", "content": "Ticket: t\nRoute:"}]
    url = body["policy"]["config"]["inference_url"] + "/chat/completions"
    async with aiohttp.request("POST", url, json={"messages": messages}) as answer:
        assert answer.status == 503
    return web.json_response({"reward_info": {"outcome_reward": 0.0}})


async def test_an_app_that_makes_a_failed_call_a_wrong_answer_is_not_believed() -> None:
    llm = ScriptedLLM(lambda request: ProviderUnavailable("down"))
    async with desk_over(llm) as desk, answering(gullible) as url:
        app = RemoteApp(url)
        evaluation = await evaluated(remote_program(app, START, desk, clock=FakeClock(auto=True)))
        await app.close()
    assert evaluation.score is None
    assert evaluation.failure is not None
    assert evaluation.failure.kind == "ProviderUnavailable"
    assert llm.calls == app.limits.max_attempts


async def test_a_vanished_app_stops_the_run_with_its_reason() -> None:
    program = remote_program(RemoteApp("http://127.0.0.1:9", limits=AppLimits(max_attempts=1)), START, LateDesk())
    program.run.desk.bind(FakeDesk(ScriptedLLM([])))  # type: ignore[attr-defined]
    options = StudyOptions(providers={MODEL.name: ScriptedLLM(loud)})
    data = Splits(train=seeds(range(20)), val=seeds(range(20, 40)), test=seeds(range(40, 60)))
    with pytest.raises(TooManyFailures, match="is it running"):
        await run_mipro(program, MIPROConfig(), data, MODEL, MODEL, reward_of, options=options)


async def test_a_latency_cap_holds_for_calls_made_elsewhere() -> None:
    async with world(ScriptedLLM(loud)) as (app, desk):
        evaluation = await evaluated(remote_program(app, START, desk), constraints=Constraints(max_latency_s=0.005))
    assert evaluation.failure is not None
    assert evaluation.failure.stage == "latency"


async def test_outside_a_job_there_is_no_desk_and_no_seed() -> None:
    app = RemoteApp("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="outside a job"):
        await evaluated(remote_program(app, START, LateDesk()))
    program = remote_program(app, START, FakeDesk(ScriptedLLM([])))
    task = Task(endpoint=MODEL, score_fn=reward_of)
    with pytest.raises(ConfigError, match="seeds"):
        await evaluate_sample(program, Sample(inputs={"ticket": "x"}), task, {})
    local = Program(modules={"main": START}, run=plain)
    evaluation = await evaluate_sample(local, seeds([0])[0], task, {})
    assert evaluation.failure is not None
    assert "remote_program" in evaluation.failure.message


async def plain(sample: Sample, agents: Agents) -> str:
    return "x"


def test_programs_are_known_by_app_questions_and_version() -> None:
    app, other = RemoteApp("http://h:1/"), RemoteApp("http://h:2")
    desk = LateDesk()
    programs = [
        remote_program(app, START, desk),
        remote_program(other, START, desk),
        remote_program(app, START, desk, version="2"),
        remote_program(app, START, desk, asked=Asked(policy={"model": "m"})),
        remote_program(app, START, desk, asked=Asked(env={"env_name": "x"})),
        remote_program(app, START.replace(system="Other."), desk),
    ]
    assert len({program.digest for program in programs}) == len(programs)
    assert remote_program(RemoteApp("http://h:1"), START, LateDesk()).digest == programs[0].digest


# Traces.


def trace(*steps: Message, text: str = "q", module: str = "main") -> Trace:
    return Trace(module=module, values={"text": text}, steps=steps)


def called(name: str = "1", text: str = "") -> Message:
    return Message("assistant", text, (ToolCall(id=name, name="f", arguments='{"intent": "a"}'),))


RESULT = Message("tool", "4", tool_call_id="1")
SAID = Message("assistant", "It is 4.")


@pytest.mark.parametrize(
    ("traces", "kept"),
    [
        ([], []),
        ([trace(SAID)], [(SAID,)]),
        ([trace(called()), trace(called(), RESULT, SAID)], [(called(), RESULT, SAID)]),
        ([trace(called())], [(Message("assistant", '{"intent": "a"}'),)]),
        ([trace(called(text="a"))], [(Message("assistant", "a"),)]),
        ([trace(called(), SAID)], [(SAID,)]),
        ([trace()], [(Message("assistant", ""),)]),
        ([trace(SAID), trace(SAID, text="r"), trace(SAID, module="b")], [(SAID,)] * 3),
    ],
)
def test_traces_of_single_calls_become_whole_exchanges(traces: list[Trace], kept: list[Any]) -> None:
    found = whole(traces)
    assert [one.steps for one in found] == kept
    for one in found:
        FewShotExample("q", one.output, one.steps if len(one.steps) > 1 else ())


async def test_an_agent_in_an_app_gives_one_trace_with_its_tool_calls() -> None:
    def reply(request: Request) -> Response | str:
        last = request.messages[-1]
        if last.role == "tool":
            return f"It is {last.content}."
        call = ToolCall(id="c", name="calculate", arguments='{"expression": "6*7"}')
        return Response(text="", tool_calls=(call,), finish_reason="tool_calls", usage=Usage(prompt_tokens=5))

    template = PromptTemplate("Calculate.", "{question}")
    rows = [Sample(inputs={"question": "What is 6 times 7?"}, ground_truth=42, id="1")]
    agent = {"environment_factory": lambda sample: CalculatorEnvironment()}
    async with world(ScriptedLLM(reply), template, numeric_match(), rows, **agent) as (app, desk):
        evaluation = await evaluated(remote_program(app, template, desk))
    assert evaluation.value == 1.0
    assert evaluation.calls == 2
    assert evaluation.trajectory is not None
    (one,) = evaluation.trajectory.traces
    assert [step.role for step in one.steps] == ["assistant", "tool", "assistant"]


# Optimizers.


def simulated() -> SimulatedLLM:
    answers = {row["ticket"]: str(row.ground_truth) for row in ROWS}
    return SimulatedLLM(SimulatedTask(labels=LABELS, answers=answers))


CONFIGS = {
    "mipro": MIPROConfig(num_trials=5, num_candidates=4, minibatch_size=5, num_demo_sets=4),
    "gepa": GEPAConfig(generations=3, population_size=4, minibatch_size=3, rule_candidates=1, optimize_demos=True),
}
BUDGET = {"mipro": 120, "gepa": 200}


async def optimized(app: RemoteApp, desk: FakeDesk, method: str, *, told: bool, **options: Any) -> OptimizationResult:
    """A run over a remote program; `told` says whether the app tells its rows or is known by its seeds alone."""
    late = LateDesk()
    start = remote_program(app, START, late, version="job")
    late.bind(desk)
    parts = [range(24), range(24, 44), range(44, 70)]
    train, val, test = [await app.samples(part) if told else seeds(part) for part in parts]
    data = Splits(train=train, val=val, test=test)
    opts = StudyOptions(budget=Budget(max_rollouts=BUDGET[method]), providers={MODEL.name: desk.llm}, **options)
    run: Any = run_mipro if method == "mipro" else run_gepa
    result: OptimizationResult = await run(start, CONFIGS[method], data, MODEL, MODEL, reward_of, options=opts)
    return result


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_optimizers_run_over_a_task_app(method: str, told: bool) -> None:
    async with world(simulated()) as (app, desk):
        result = await optimized(app, desk, method, told=told)
    assert result.best.score is not None
    assert result.initial.score is not None
    assert result.best.score > result.initial.score or method == "gepa"
    assert result.verdict is not None
    assert len(desk.opened) == result.spend.rollouts <= BUDGET[method]
    assert not desk.open_trials
    assert len({request.messages[0].content for request in desk.requests}) >= 2
    demos = [message for request in desk.requests for message in request.messages[1:-1]]
    assert {message.role for message in demos} == {"user", "assistant"}
    for message in demos:
        ticket = message.content.removeprefix("Ticket: ").removesuffix("\nRoute:")
        assert ticket in KNOWN if message.role == "user" else message.content in LABELS


async def test_reflection_reads_what_the_app_asked_and_what_the_model_said() -> None:
    asked: list[str] = []

    def reply(request: Request) -> str:
        if request.phase == "propose":
            asked.append(request.messages[0].content)
            return f"<instruction>Route it, rule {len(asked)}.</instruction>"
        return "nowhere"

    async with world(ScriptedLLM(reply)) as (app, desk):
        await optimized(app, desk, "gepa", told=False)
    assert asked
    for text in asked:
        (given, *_) = re.findall(r"Input: Ticket: (.*)\nRoute:\nAnswer: nowhere\nScore: 0\nFeedback: Expected", text)
        assert given in KNOWN


async def test_what_is_in_the_store_is_not_run_again() -> None:
    """Values and answers come back from there too: the second run takes the same decisions."""
    store = open_store(None)
    async with world(simulated()) as (app, desk):
        first = await optimized(app, desk, "mipro", told=False, store=store)
        made = len(desk.opened)
        second = await optimized(app, desk, "mipro", told=False, store=store)
        assert len(desk.opened) - made < made / 4
    assert second.best.program.digest == first.best.program.digest
