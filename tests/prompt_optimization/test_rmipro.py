"""r-MIPRO on programs of several modules: it finds the one that holds the program back, within every budget."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from rollouts.budget import Budget, Constraints
from rollouts.dtypes import Agent, Evaluation, Failure, Program, PromptTemplate, Request, Sample, Score, Trajectory
from rollouts.dtypes.scoring import Metric
from rollouts.errors import ConfigError, StoreError
from rollouts.prompt_optimization.rmipro import RMIPROConfig, run_rmipro
from rollouts.prompt_optimization.scheduling import SCHEDULERS
from rollouts.prompt_optimization.scheduling.credit import bottleneck_table
from rollouts.prompt_optimization.traces import went_well
from rollouts.store import MemoryStore, open_store
from rollouts.testing import FaultyStore

from .two_steps import DECIDE, ENDPOINT, FIND, TwoSteps, plain_score, program, score, splits

SMALL: dict[str, Any] = {"max_bootstrapped_demos": 3, "num_demo_sets": 4, "num_candidates": 8, "minibatch_size": 6}
Events = list[tuple[str, Mapping[str, Any]]]


async def optimized(
    model: TwoSteps, start: Program, score_fn: Any = plain_score, events: Events | None = None, **changes: Any
) -> Any:
    caps = {"budget": Budget(max_rollouts=500), **changes.pop("options", {})}
    listen = (lambda kind, data: None if events is None else events.append((kind, data)),)
    return await run_rmipro(
        start,
        RMIPROConfig(**{**SMALL, **changes.pop("config", {})}),
        changes.pop("data", splits()),
        ENDPOINT,
        ENDPOINT,
        score_fn,
        options=model.options(listeners=listen, **caps),
        **changes,
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("weak", ["find", "decide"])
async def test_the_weak_module_is_improved(scheduler: str, weak: str) -> None:
    start = program(decide=DECIDE) if weak == "find" else program(find=FIND)
    model = TwoSteps()
    result = await optimized(model, start, config={"scheduler": scheduler})
    assert (result.initial.score, result.best.score) == (0, 1)
    assert result.verdict.decision == "ship"
    assert result.spend.calls == model.llm.calls
    assert result.details["bottleneck"]["modules"][0]["module"] == weak


async def test_comparisons_begin_with_samples_of_every_label() -> None:
    for seed in range(3):
        asked: dict[str, str] = {}

        def seen(trajectory: Any, sample: Sample, asked: dict[str, str] = asked) -> float:
            if sample.id.startswith("val"):
                asked.setdefault(sample.id, sample.ground_truth)
            return plain_score(trajectory, sample)

        await optimized(TwoSteps(), program(find=FIND), seen, config={"seed": seed, "num_trials": 4})
        first = Counter(list(asked.values())[:8])
        assert sorted(first.values()) == [2, 2, 2, 2]


async def test_a_modules_own_score_shows_the_way_where_the_programs_is_flat() -> None:
    """`decide` cannot be right before `find` is, so no single change moves the program's score at first."""
    result = await optimized(TwoSteps(), program(), score)
    best = result.best_program
    assert result.best.score == 1
    assert FIND in best.modules["find"].system
    assert DECIDE in best.modules["decide"].system
    assert {entry["source"] for entry in result.details["bottleneck"]["modules"]} == {"scores"}


async def test_demonstrations_of_modules_come_from_rollouts_that_failed_as_a_whole() -> None:
    """`decide` is always wrong at first, so no rollout is right; the good runs of `find` are examples all the same."""
    for score_fn, expected in ((score, True), (plain_score, False)):
        events: Events = []
        await optimized(TwoSteps(), program(find=FIND), score_fn, events=events, config={"num_trials": 8})
        sources = next(data["sources"] for kind, data in events if kind == "demo_sets")
        assert ("bootstrapped" in sources["find"]) == expected
        assert "bootstrapped" not in sources["decide"]


@pytest.mark.parametrize(
    ("start", "value", "own", "good"),
    [
        (program(), 0.0, {"find": 1.0, "decide": 0.0}, {"find"}),
        (program(), 0.0, {"find": 0.5}, set()),
        (program(), 0.0, {}, set()),
        (program(), 1.0, {"find": 0.0}, {"decide"}),
        (program(), 1.0, {}, {"find", "decide"}),
        (Program.single(PromptTemplate("", "{message}")), 0.0, {"main": 1.0}, set()),
        (Program.single(PromptTemplate("", "{message}")), 1.0, {"main": 1.0}, {"main"}),
    ],
)
def test_which_runs_are_examples_to_follow(start: Program, value: float, own: dict[str, float], good: set[str]) -> None:
    told = Score(metrics=(Metric("right", value),), modules=own)
    evaluation = Evaluation(key="k", program="p", sample_id="s", score=told, output="cards")
    assert went_well(start, evaluation, 1.0) == good
    failed = Evaluation(
        key="k", program="p", sample_id="s", failure=Failure(kind="TimeoutError", message="late", stage="timeout")
    )
    assert went_well(start, failed, 1.0) == set()


@pytest.mark.parametrize("source", ["propose", "reflect"])
async def test_texts_come_from_both_kinds_of_writers(source: str) -> None:
    model, events = TwoSteps(), []
    result = await optimized(model, program(find=FIND), events=events, config={"sources": (source,)})
    assert result.best.score == 1
    adopted = [data for kind, data in events if kind == "adopted"]
    assert {data["source"] for data in adopted} <= {"llm", "rules"} if source == "propose" else {"reflection"}
    assert any("What happened with it" in text for text in model.asked) == (source == "reflect")


@pytest.mark.parametrize(("perfect", "reflects"), [(10.0, True), (1.0, False)])
async def test_what_is_worth_reflecting_on_is_a_setting(perfect: float, reflects: bool) -> None:
    def from_1_to_10(trajectory: Trajectory, sample: Sample) -> float:
        return 10.0 if trajectory.output == sample.ground_truth else 1.0

    model = TwoSteps()
    config = {"sources": ("reflect",), "optimize_demos": False, "perfect_score": perfect}
    result = await optimized(model, program(find=FIND), from_1_to_10, config=config)
    assert any("What happened with it" in text for text in model.asked) is reflects
    assert (result.best.score == 10) is reflects


async def test_every_round_says_where_the_trials_went_and_why() -> None:
    events: Events = []
    result = await optimized(TwoSteps(), program(find=FIND), events=events)
    rounds = [data for kind, data in events if kind == "allocation"]
    trials = [data for kind, data in events if kind == "trial"]
    assert len(rounds) == len(trials) == len(result.history) > 1
    for data, trial in zip(rounds, trials, strict=True):
        assert data["reason"]
        assert data["scarcest"] == "rollouts"
        assert set(data["modules"]) == {"find", "decide"}
        assert sum(m["new"] + m["more"] for m in data["modules"].values()) >= trial["candidates"]
        assert all(m["low"] <= m["room"] <= m["high"] for m in data["modules"].values())
    assert [line.to_json() for line in bottleneck_table(rounds)] == result.details["bottleneck"]["modules"]


def told(result: Any) -> Any:
    return {
        "best": result.best.program.digest,
        "population": [(entry.id, entry.program.digest, entry.score) for entry in result.population],
        "history": [repr(entry) for entry in result.history],
        "verdict": result.verdict,
        "modules": result.details["bottleneck"]["modules"],
    }


async def test_the_order_of_arrival_changes_nothing() -> None:
    results = []
    for slots in (8, 8, 3):
        model = TwoSteps()
        if len(results) == 1:
            inner = model.llm.complete

            async def late(request: Request, inner: Any = inner) -> Any:
                for _ in range(zlib.crc32(request.key().encode()) % 7):
                    await asyncio.sleep(0)
                return await inner(request)

            model.llm.complete = late  # type: ignore[method-assign]
        results.append(told(await optimized(model, program(find=FIND), score, options={"slots": slots})))
    assert results[0] == results[1] == results[2]


async def test_a_replay_makes_no_call() -> None:
    store, results = MemoryStore(), []
    for _ in range(2):
        model = TwoSteps()
        results.append(await optimized(model, program(find=FIND), options={"store": store}))
    assert model.llm.calls == 0
    assert told(results[0]) == told(results[1])


@pytest.mark.parametrize("fail_after", [20, 90, 250, 420])
async def test_a_killed_run_goes_on_with_the_same_decisions_and_caps(tmp_path: Any, fail_after: int) -> None:
    budgets = {"module_budgets": {"decide": Budget(max_calls=260)}}
    whole = await optimized(TwoSteps(), program(find=FIND), score)
    first, second = TwoSteps(), TwoSteps()
    inner = open_store(tmp_path / "s.db")
    options = {**budgets, "run_id": "r", "slots": 4}
    with pytest.raises(StoreError):
        await optimized(
            first, program(find=FIND), score, options={**options, "store": FaultyStore(inner, fail_after=fail_after)}
        )
    inner.close()
    store = open_store(tmp_path / "s.db")
    result = await optimized(second, program(find=FIND), score, options={**options, "store": store, "resume": True})
    store.close()
    calls = [sum(r.messages[-1].content.startswith("Topic:") for r in m.llm.requests) for m in (first, second)]
    assert sum(calls) <= 260
    assert result.best.score == whole.best.score == 1


@pytest.mark.parametrize("fail_after", [60, 300])
async def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Any, fail_after: int) -> None:
    whole = await optimized(TwoSteps(), program(find=FIND), score, options={"slots": 4})
    inner = open_store(tmp_path / "s.db")
    options = {"run_id": "r", "slots": 4}
    faulty = FaultyStore(inner, fail_after=fail_after)
    with pytest.raises(StoreError):
        await optimized(TwoSteps(), program(find=FIND), score, options={**options, "store": faulty})
    inner.close()
    store = open_store(tmp_path / "s.db")
    result = await optimized(TwoSteps(), program(find=FIND), score, options={**options, "store": store, "resume": True})
    store.close()
    assert told(result) == told(whole)


async def test_a_module_never_takes_more_than_its_own_budget() -> None:
    model = TwoSteps()
    result = await optimized(model, program(find=FIND), options={"module_budgets": {"decide": Budget(max_calls=90)}})
    decided = sum(r.messages[-1].content.startswith("Topic:") for r in model.llm.requests if r.phase != "propose")
    assert 0 < decided <= 90
    assert result.best_program is not None


async def test_max_trials_of_a_module_and_of_the_whole() -> None:
    events: Events = []
    options = {
        "budget": Budget(max_rollouts=500, max_trials=20),
        "module_budgets": {"find": Budget(max_trials=3)},
    }
    result = await optimized(TwoSteps(), program(find=FIND), events=events, options=options)
    counts = {entry["module"]: entry["trials"] for entry in result.details["bottleneck"]["modules"]}
    assert counts["find"] <= 3
    assert sum(counts.values()) <= 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"module_budgets": {"fnid": Budget(max_calls=9)}}}, "'fnid', which is no module .*mean 'find'"),
        ({"options": {"module_budgets": {"find": Budget(max_tokens=5)}}}, "max_tokens = 5 of module 'find' is below"),
        ({"options": {"module_budgets": {"find": Budget(max_rollouts=5)}}}, "use max_trials or max_calls"),
        ({"options": {"budget": Budget(max_calls=0)}}, "max_calls = 0 of the run is below one call of module 'find'"),
        ({"endpoints": {"other": ENDPOINT}}, "'other', which is no module"),
        ({"config": {"scheduler": "adaptiv"}}, "did you mean 'adaptive'"),
    ],
)
async def test_bad_budgets_are_errors_before_anything_is_spent(changes: dict[str, Any], message: str) -> None:
    model = TwoSteps()
    with pytest.raises(ConfigError, match=message):
        await optimized(model, program(), **changes)
    assert model.llm.calls == 0


async def test_limits_that_contradict_each_other_are_said() -> None:
    options = {
        "budget": Budget(max_rollouts=60, max_calls=2000),
        "module_budgets": {"find": Budget(max_calls=3000)},
        "constraints": Constraints(
            max_p95_latency_s=2.0, modules={"find": Constraints(max_p95_latency_s=3.0, max_prompt_tokens=2)}
        ),
    }
    result = await optimized(TwoSteps(), program(find=FIND), options=options)
    for said in (
        "max_calls of module 'find' is above that of the whole run",
        "max_p95_latency_s of module 'find' is above that of the whole run",
        "the prompt of module 'find' has 5 tokens, above its max_prompt_tokens: only shorter ones are tried",
    ):
        assert any(said in note for note in result.notes), result.notes


async def never_third(sample: Sample, agents: Mapping[str, Agent]) -> str:
    topic = await agents["find"]({"message": sample.inputs["message"]})
    if "fee" in sample.inputs["message"]:
        raise KeyError("no branch for fees")
    return (await agents["decide"]({"topic": topic.output, "hint": "none"})).output


async def test_a_module_that_is_never_called_and_a_branch_that_raises_are_said() -> None:
    base = program(find=FIND)
    start = Program(modules={**base.modules, "idle": PromptTemplate("Do nothing.", "{message}")}, run=never_third)
    result = await optimized(TwoSteps(), start)
    counts = {entry["module"]: entry["trials"] for entry in result.details["bottleneck"]["modules"]}
    assert counts["idle"] == 0
    assert any("module 'idle' was never called" in note for note in result.notes)
    assert any("failed and count for nothing" in note and "KeyError" in note for note in result.notes)
    assert result.best.score == 1


async def test_one_module_is_a_program_too() -> None:
    start = Program.single(PromptTemplate("Name the topic.", "Message: {message}\nTopic:"))
    topics = {"cards": "card", "credit": "loan", "access": "login", "billing": "fee"}

    def right(trajectory: Any, sample: Sample) -> float:
        return float(trajectory.output == topics[str(sample.ground_truth)])

    class One(TwoSteps):
        def _reply(self, request: Request) -> str:
            if request.phase == "propose":
                return f"<instruction>{FIND if request.repeat % 3 == 0 else 'hm'} {request.repeat}.</instruction>"
            return super()._reply(request)

    result = await optimized(One(), start, right, config={"optimize_demos": False})
    assert result.best.score == 1


async def test_without_a_budget_it_ends() -> None:
    result = await optimized(TwoSteps(), program(find=FIND), options={"budget": Budget()}, config={"num_trials": 24})
    assert result.best.score == 1
    assert len(result.history) <= 24


async def test_a_tiny_budget_gives_the_start_back() -> None:
    result = await optimized(TwoSteps(), program(), options={"budget": Budget(max_rollouts=6)})
    assert result.best.program.digest == program().digest
    assert result.verdict.decision in ("keep", "undecided")
