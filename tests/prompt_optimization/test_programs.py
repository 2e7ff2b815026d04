"""Programs of several modules: both optimizers improve them, and know which module did what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import Agent, Program, PromptTemplate, Sample
from rollouts.errors import ConfigError, TemplateError
from rollouts.evaluation import Cell, Task
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    Splits,
    open_study,
    run_gepa,
    run_mipro,
)
from rollouts.prompt_optimization.traces import demonstrations, traces_of
from rollouts.store import MemoryStore

from .two_steps import DECIDE, ENDPOINT, FIND, TwoSteps, plain_score, program, score, splits

MIPRO = MIPROConfig(num_trials=30, num_candidates=8, minibatch_size=6, max_bootstrapped_demos=3, num_demo_sets=4)
GEPA = GEPAConfig(generations=30, children_per_generation=2)


async def optimized(method: str, model: TwoSteps, start: Program, score_fn: Any = score, **changes: Any) -> Any:
    options = model.options(budget=Budget(max_rollouts=600), **changes.pop("options", {}))
    data = changes.pop("data", splits())
    if method == "mipro":
        config = MIPROConfig(**{**vars(MIPRO), **changes})
        return await run_mipro(start, config, data, ENDPOINT, ENDPOINT, score_fn, options=options)
    config = GEPAConfig(**{**vars(GEPA), **changes})
    return await run_gepa(start, config, data, ENDPOINT, ENDPOINT, score_fn, options=options)


@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_both_modules_are_improved(method: str) -> None:
    """One module alone gains nothing here: `decide` cannot be right before `find` is."""
    model = TwoSteps()
    result = await optimized(method, model, program(), plain_score)
    best = result.best_program
    assert result.initial.score == 0
    if method == "mipro":
        assert FIND in best.modules["find"].system
        assert result.best.score == 1
        assert result.verdict.decision == "ship"
    assert set(best.modules) == {"find", "decide"}
    assert best.run is program().run
    assert result.spend.calls == model.llm.calls


async def test_gepa_improves_one_module_after_the_other() -> None:
    result = await optimized("gepa", TwoSteps(), program(decide=DECIDE), component="round_robin")
    assert FIND in result.best_program.modules["find"].system
    assert result.best.score == 1
    assert result.verdict.decision == "ship"


async def test_all_components_at_once() -> None:
    result = await optimized("gepa", TwoSteps(), program(), component="all")
    assert result.best.score == 1
    assert FIND in result.best_program.modules["find"].system
    assert DECIDE in result.best_program.modules["decide"].system


async def test_credit_works_on_the_module_that_scores_worst() -> None:
    model = TwoSteps()
    events: list[Mapping[str, Any]] = []
    note = {"listeners": (lambda kind, data: events.append(data) if kind == "child" else None,)}
    result = await optimized(
        "gepa", model, program(find=FIND), component="credit", rule_candidates=0, options=note, crossover_rate=0
    )
    assert result.best.score == 1
    rewritten = [part for data in events for part in data["parts"]]
    # The first child is made before anything is known of the parent.
    assert rewritten.count("decide.system") > rewritten.count("find.system")


async def test_a_reflection_shows_its_module_and_names_the_others() -> None:
    model = TwoSteps()
    await optimized("gepa", model, program(), component="all", rule_candidates=0)
    about = {name: next(text for text in model.asked if f"yours is '{name}'" in text) for name in ("find", "decide")}
    assert "Input: Message: train" in about["find"]
    assert "- decide: Name the team." in about["find"]
    assert "Input: Topic: unknown" in about["decide"]
    assert "- find: Name the topic." in about["decide"]
    assert "The team is" in about["decide"]
    assert not any("val " in text or "test " in text.split("tested")[0] for text in about.values())


async def test_modules_learn_from_their_own_successful_runs() -> None:
    """The demonstrations of a module are what it was given and said, not the row and its answer."""
    start = program(find=FIND, decide=DECIDE)
    model = TwoSteps()
    study = open_study(Task(endpoint=ENDPOINT, score_fn=score), [], model.options())
    rows = splits().train[:4]
    evaluations = await study.evaluate([Cell(start, sample) for sample in rows], phase="bootstrap")
    shown = demonstrations(start, list(zip(rows, evaluations, strict=True)), 1.0)
    await study.close("done")
    assert [demo.output for demo in shown["find"]] == ["card", "loan", "login", "fee"]
    assert shown["find"][0].input == f"Message: {rows[0]['message']}\nTopic:"
    assert [demo.output for demo in shown["decide"]] == ["cards", "credit", "access", "billing"]
    assert shown["decide"][1].input == "Topic: loan\nHint: none\nTeam:"


async def test_a_module_that_scored_badly_is_no_example_though_the_run_went_well() -> None:
    start = program(find=FIND, decide=DECIDE)
    study = open_study(Task(endpoint=ENDPOINT, score_fn=score), [], TwoSteps().options())
    (row,) = splits().train[:1]
    (evaluation,) = await study.evaluate([Cell(start, row)], phase="bootstrap")
    await study.close("done")
    assert evaluation.score is not None
    evaluation.score.modules["find"] = 0.0  # type: ignore[index]
    shown = demonstrations(start, [(row, evaluation)], 1.0)
    assert (len(shown["find"]), len(shown["decide"])) == (0, 1)


async def test_modules_of_the_same_text_never_share_traces() -> None:
    async def twice(sample: Sample, agents: Mapping[str, Agent]) -> str:
        first, second = await asyncio.gather(*(agents[name](sample.inputs) for name in ("a", "b")))
        return f"{first.output} {second.output}"

    same = PromptTemplate(FIND, "Message: {message}\nTopic:")
    start = Program(modules={"a": same, "b": same}, run=twice)
    study = open_study(Task(endpoint=ENDPOINT, score_fn=plain_score), [], TwoSteps().options())
    (row,) = splits().train[:1]
    (evaluation,) = await study.evaluate([Cell(start, row)], phase="search")
    await study.close("done")
    assert sorted(trace.module for trace in traces_of(start, row, evaluation)) == ["a", "b"]
    assert evaluation.trajectory is not None
    assert sorted(call.module for call in evaluation.trajectory.calls) == ["a", "b"]


async def test_stored_rollouts_keep_the_traces() -> None:
    store, start = MemoryStore(), program(find=FIND, decide=DECIDE)
    (row,) = splits().train[:1]
    seen = []
    for _ in range(2):
        model = TwoSteps()
        study = open_study(Task(endpoint=ENDPOINT, score_fn=score), [], model.options(store=store))
        (evaluation,) = await study.evaluate([Cell(start, row)], phase="search")
        await study.close("done")
        seen.append((model.llm.calls, [(t.module, dict(t.values), t.steps) for t in traces_of(start, row, evaluation)]))
    assert [calls for calls, _ in seen] == [2, 0]
    assert seen[0][1] == seen[1][1]


@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_a_replay_makes_no_call(method: str) -> None:
    store, results = MemoryStore(), []
    for _ in range(2):
        model = TwoSteps()
        results.append(await optimized(method, model, program(find=FIND), options={"store": store}))
    assert model.llm.calls == 0
    assert results[0].best.program.digest == results[1].best.program.digest
    assert results[0].history == results[1].history


@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_the_templates_of_a_program_have_to_be_named(method: str) -> None:
    result: OptimizationResult = await optimized(method, TwoSteps(), program(), data=splits(4, 4, 4))
    with pytest.raises(TemplateError, match="2 modules"):
        _ = result.best_template
    assert result.population


# ── the user template ──


class AnswerFirst(TwoSteps):
    """Answers right only when the user message ends by asking for the team."""

    def _reply(self, request: Any) -> str:
        asked = request.messages[-1].content
        if request.phase == "propose":
            self.asked.append(request.messages[0].content)
            broken = request.repeat % 2
            return "<instruction>Say it.</instruction>" if broken else "<instruction>{message}\nTeam?</instruction>"
        topics = {"card": "cards", "loan": "credit", "login": "access", "fee": "billing"}
        team = next(team for topic, team in topics.items() if topic in asked)
        return team if asked.endswith("Team?") else "nobody"


@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_the_user_template_is_rewritten_and_keeps_its_placeholders(method: str) -> None:
    start = Program.single(PromptTemplate("Name the team.", "Message: {message}"))
    model = AnswerFirst()
    result = await optimized(
        method,
        model,
        start,
        plain_score,
        optimize=("user_template",),
        **({"optimize_demos": False} if method == "mipro" else {}),
    )
    best = result.best_template
    assert best.user_template == "{message}\nTeam?"
    assert best.system == "Name the team."
    assert all(entry.template.placeholders == {"message"} for entry in result.population)
    assert result.verdict.decision == "ship"
    assert any("template of the user message" in text for text in model.asked)


async def test_demonstrations_follow_the_user_template_they_stand_with() -> None:
    start = Program.single(PromptTemplate("Name the team.", "Message: {message}"))
    result = await optimized("mipro", AnswerFirst(), start, plain_score, optimize=("user_template",))
    for entry in result.population:
        form = entry.template.user_template
        for demo in entry.template.few_shot_examples:
            assert demo.values is not None
            assert demo.input == form.replace("{message}", demo.values["message"])


@pytest.mark.parametrize("kind", [MIPROConfig, GEPAConfig])
def test_only_texts_can_be_rewritten(kind: type) -> None:
    with pytest.raises(ConfigError, match="'demos'; a prompt has the parts 'system' and 'user_template'"):
        kind(optimize=("demos",))


@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_a_frozen_text_that_is_not_there_is_an_error_before_anything_is_spent(method: str) -> None:
    model = TwoSteps()
    with pytest.raises(ConfigError, match="the frozen text 'stay polite' is not in the prompt"):
        await optimized(method, model, program(), frozen_spans=("stay polite",))
    assert model.llm.calls == 0


@pytest.mark.parametrize("method", ["mipro", "gepa"])
async def test_frozen_texts_stay_in_their_module(method: str) -> None:
    start = program(find="Name the topic. Be brief.")
    result = await optimized(method, TwoSteps(), start, frozen_spans=("Be brief",))
    assert all("Be brief" in entry.program.modules["find"].system for entry in result.population)


def _splits_are_unchecked_inside() -> Splits:
    data = splits(2, 2, 2)
    data.check(program())
    return data


def test_inner_placeholders_are_not_looked_for_in_the_rows() -> None:
    assert len(_splits_are_unchecked_inside().train) == 2
