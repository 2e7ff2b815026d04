"""The tasks of the experiments: their programs run, their scores say which module failed, their simulated models obey
the prompts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.datasets import auto_sizes, split
from rollouts.dtypes import Endpoint, Evaluation, Program, Request, Sample, Score, Trace, Trajectory, render
from rollouts.dtypes.messages import Message
from rollouts.errors import ConfigError
from rollouts.evaluation import Task, evaluate_sample
from rollouts.evaluation.metrics import metric_identity
from rollouts.experiments.tasks import TaskBundle, load_task, task_names
from rollouts.experiments.tasks.bundle import rows_of
from rollouts.experiments.tasks.support_team import DESKS, TOPICS
from rollouts.llm.client import Provider
from rollouts.prompt_optimization import MIPROConfig, RMIPROConfig, Splits, StudyOptions, run_mipro, run_rmipro
from rollouts.testing import ScriptedLLM

ENDPOINT = Endpoint(provider="simulated", model="any")


async def evaluated(bundle: TaskBundle, provider: Provider, samples: list[Sample], program: Any = None) -> list[Any]:
    task = Task(endpoint=ENDPOINT, score_fn=bundle.score_fn)
    clients = {ENDPOINT.connection: provider}
    return [await evaluate_sample(program or bundle.program, sample, task, clients) for sample in samples]


def shares(evaluations: list[Evaluation]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for evaluation in evaluations:
        assert evaluation.score is not None, evaluation.failure
        for module, value in evaluation.score.modules.items():
            found[module].append(value)
    return {module: sum(values) / len(values) for module, values in found.items()}


def right_answer(bundle: TaskBundle) -> Callable[[Request], str]:
    """A model that is always right."""
    truths = {row["id"]: row for row in rows_of(bundle.name)}

    def say(request: Request) -> str:
        asked = request.messages[-1].content
        sample = next(s for s in bundle.samples if list(s.inputs.values())[-1] in asked)
        row = truths[sample.id]
        match request.module:
            case "router":
                return next(desk for desk, expert in DESKS.items() if expert == row["agent"])
            case "text_extractor":
                return row["numbers"]
            case "code_generator":
                names = dict(zip("abc", row["numbers"].split(", "), strict=False))
                return f"print({''.join(names.get(c, c) for c in row['formula'])})"
        return row["answer"]

    return say


def test_names() -> None:
    assert [load_task(name).name for name in task_names()] == list(task_names())
    with pytest.raises(ConfigError, match="did you mean 'support_team'"):
        load_task("suport_team")


@pytest.mark.parametrize("name", task_names())
def test_a_model_that_is_right_scores_one_everywhere(name: str) -> None:
    bundle = load_task(name)
    samples = list(bundle.samples)[:6]
    provider = ScriptedLLM(right_answer(bundle))
    evaluations = asyncio.run(evaluated(bundle, provider, samples))
    assert [evaluation.value for evaluation in evaluations] == [1.0] * len(samples)
    assert set(shares(evaluations).values()) <= {1.0}
    assert set(shares(evaluations)) <= set(bundle.program.modules)


@pytest.mark.parametrize("name", task_names())
def test_a_model_that_is_wrong_scores_zero_everywhere(name: str) -> None:
    bundle = load_task(name)
    evaluations = asyncio.run(evaluated(bundle, ScriptedLLM(lambda request: "nonsense"), list(bundle.samples)[:3]))
    assert [evaluation.value for evaluation in evaluations] == [0.0] * 3
    assert set(shares(evaluations).values()) <= {0.0}
    assert all("nonsense" in (evaluation.score.feedback or "") for evaluation in evaluations if evaluation.score)


@pytest.mark.parametrize("name", task_names())
def test_the_start_is_made_anew_with_the_same_content_and_key(name: str) -> None:
    one, other = load_task(name), load_task(name)
    assert one.program.digest == other.program.digest
    assert metric_identity(one.score_fn) == metric_identity(other.score_fn)
    assert [sample.digest for sample in one.samples] == [sample.digest for sample in other.samples]


def judged(bundle: TaskBundle, sample: Sample, said: Mapping[str, tuple[Mapping[str, str], str]]) -> Score:
    traces = tuple(
        Trace(module=name, values=given, steps=(Message("assistant", text),)) for name, (given, text) in said.items()
    )
    score = bundle.score_fn(Trajectory(messages=(), output=traces[-1].output, traces=traces), sample)
    assert isinstance(score, Score)
    return score


def of_agent(bundle: TaskBundle, agent: str) -> Sample:
    return next(sample for sample in bundle.samples if sample.ground_truth in TOPICS[agent])


def test_a_wrong_turn_is_the_routers_and_not_the_experts() -> None:
    bundle = load_task("support_team")
    sample = of_agent(bundle, "billing_expert")
    topic = str(sample.ground_truth)
    lost = judged(bundle, sample, {"router": ({}, "product"), "product_advisor": ({}, "lamp")})
    assert (lost.value, lost.modules) == (0.0, {"router": 0.0})
    assert "right is 'billing'" in (lost.feedback or "")
    missed = judged(bundle, sample, {"router": ({}, " Billing."), "billing_expert": ({}, "lamp")})
    assert (missed.value, missed.modules) == (0.0, {"router": 1.0, "billing_expert": 0.0})
    right = judged(bundle, sample, {"router": ({}, "billing"), "billing_expert": ({}, topic.upper())})
    assert (right.value, right.feedback) == (1.0, "Correct.")


def test_steps_of_a_word_problem_are_judged_by_what_they_were_given() -> None:
    bundle = load_task("multi_module")
    sample = next(s for s in bundle.samples if s.inputs["problem"].startswith("Mara fills"))

    def score(numbers: str, result: str, answer: str) -> Score:
        return judged(
            bundle,
            sample,
            {
                "text_extractor": ({}, numbers),
                "code_generator": ({"numbers": numbers}, "print(...)"),
                "reasoner": ({"result": result}, answer),
            },
        )

    assert score("3, 12", "36", "36 plums").modules == {"text_extractor": 1, "code_generator": 1, "reasoner": 1}
    misread = score("3, 10", "30", "30 plums")
    assert (misread.value, misread.modules) == (0, {"text_extractor": 0, "code_generator": 1, "reasoner": 1})
    miscoded = score("3, 12", "15", "15 crates")
    assert miscoded.modules == {"text_extractor": 1, "code_generator": 0, "reasoner": 0}
    assert score("three", "NameError: no", "36 plums").modules == {"text_extractor": 0}


def test_the_parts_of_a_calendar_line_count_alike() -> None:
    bundle = load_task("generation")
    sample = Sample(inputs={"note": "n"}, ground_truth="yoga; saturday; 9:00")
    lines = {
        "Yoga; Saturday; 9:00.": 1,
        "yoga; sunday; 9:00": 2 / 3,
        "gym;monday;9:00": 1 / 3,
        "yoga": 0,
        "a; yoga; saturday; 9:00": 0,
    }
    for line, value in lines.items():
        assert judged(bundle, sample, {"main": ({}, line)}).value == pytest.approx(value), line


def chances(bundle: TaskBundle, program: Program) -> dict[str, float]:
    """Module -> the mean chance that it is right when it is given what is right."""
    provider: Any = bundle.simulate(0)
    found: dict[str, list[float]] = defaultdict(list)

    def say(request: Request) -> str:
        found[request.module].append(provider.chance(request))
        return right_answer(bundle)(request)

    asyncio.run(evaluated(bundle, ScriptedLLM(say), list(bundle.samples)[:24], program))
    return {module: sum(values) / len(values) for module, values in found.items()}


@pytest.mark.parametrize("name", task_names())
def test_simulated_modules_get_better_by_instruction_and_by_demonstrations(name: str) -> None:
    bundle = load_task(name)
    modules = bundle.program.modules
    simulated: Any = bundle.simulate(0)
    bare = {module: template.replace(few_shot_examples=()) for module, template in modules.items()}
    told = {
        module: template.replace(
            system=f"Answer with the word only. {' '.join(simulated.modules[module].task.phrases)}"
        )
        for module, template in bare.items()
    }
    shown = chances(bundle, bundle.program)
    by_instruction = chances(bundle, bundle.program.with_modules(told))
    for module, without in chances(bundle, bundle.program.with_modules(bare)).items():
        assert by_instruction[module] > without + 0.1, module
        if modules[module].few_shot_examples:
            assert shown[module] > without + 0.05, module


@pytest.mark.parametrize(("name", "weak"), [("multi_module", "code_generator"), ("support_team", "escalation_handler")])
def test_one_module_is_weaker_than_the_others_at_the_start(name: str, weak: str) -> None:
    bundle = load_task(name)
    found = chances(bundle, bundle.program)
    assert 0.1 < found.pop(weak) < min(found.values()) - 0.2


def test_a_simulated_model_answers_by_its_seed_and_the_request_alone() -> None:
    bundle = load_task("support_team")
    values = {"message": "Please send the bill again.", "subject": "Hello"}
    request = Request(endpoint=ENDPOINT, messages=render(bundle.program.modules["router"], values), module="router")

    async def texts(provider: Provider) -> list[str]:
        return [(await provider.complete(request)).text for _ in range(2)]

    first, again = asyncio.run(texts(bundle.simulate(3)))
    assert first == again == asyncio.run(texts(bundle.simulate(3)))[0]
    worst = bundle.simulate(3).worst_case(request)
    response = asyncio.run(bundle.simulate(3).complete(request))
    assert 0 < response.cost_micros <= worst.micros
    assert response.usage.total_tokens <= worst.tokens


def test_simulated_code_computes_with_the_numbers_that_it_was_given() -> None:
    bundle = load_task("multi_module")
    sample = next(s for s in bundle.samples if s.inputs["problem"].startswith("Mara fills"))
    values = {"problem": sample.inputs["problem"], "numbers": "70, 80"}
    messages = render(bundle.program.modules["code_generator"], values)
    request = Request(endpoint=ENDPOINT, messages=messages, module="code_generator")

    async def texts() -> set[str]:
        return {(await bundle.simulate(seed).complete(request)).text for seed in range(40)}

    assert "print(70 * 80)" in asyncio.run(texts())


def splits(bundle: TaskBundle) -> Splits:
    return Splits.of(split(bundle.samples, auto_sizes(len(bundle.samples)), seed=0))


@pytest.mark.parametrize("name", ["classification", "generation"])
def test_a_search_on_a_simulated_model_improves_a_prompt(name: str) -> None:
    bundle = load_task(name)
    options = StudyOptions(budget=Budget(max_rollouts=400), providers={ENDPOINT.name: bundle.simulate(0)})
    config = MIPROConfig(num_trials=20, num_candidates=6)
    work = run_mipro(
        bundle.program.template, config, splits(bundle), ENDPOINT, ENDPOINT, bundle.score_fn, options=options
    )
    result = asyncio.run(work)
    assert result.verdict is not None
    assert result.verdict.difference.mean > 0.1


def test_a_search_on_a_simulated_team_mends_the_weak_expert() -> None:
    bundle = load_task("support_team")
    options = StudyOptions(budget=Budget(max_rollouts=900), providers={ENDPOINT.name: bundle.simulate(2)})
    config = RMIPROConfig(num_candidates=8, seed=2)
    work = run_rmipro(bundle.program, config, splits(bundle), ENDPOINT, ENDPOINT, bundle.score_fn, options=options)
    best = asyncio.run(work).best_program
    weak = "escalation_handler"
    assert best is not None
    assert chances(bundle, best)[weak] > chances(bundle, bundle.program)[weak] + 0.2
