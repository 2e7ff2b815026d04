"""GEPA from end to end: what it does better than the reference, and what may go wrong."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from rollouts.budget import Constraints
from rollouts.dtypes import Price, PromptTemplate, Request, Sample, Trajectory
from rollouts.errors import ConfigError, ProviderUnavailable
from rollouts.prompt_optimization import GEPAConfig, Splits
from rollouts.prompt_optimization.pareto import dominates
from rollouts.store import MemoryStore

from .methods import (
    BASE,
    SMALL_GEPA,
    TOPICS,
    RuleWorld,
    good_reflector,
    optimized,
    rows,
    rule,
    rule_splits,
    scored,
)
from .worlds import World, splits


def refused() -> ProviderUnavailable:
    error = ProviderUnavailable("down")
    error.retryable = False
    return error


async def test_it_finds_the_rules_and_says_ship() -> None:
    world = RuleWorld()
    result = await world.run(generations=8, data=rule_splits(test=40))
    assert all(rule(topic) in result.best_template.system for topic in TOPICS)
    assert result.verdict is not None
    assert result.verdict.decision == "ship"
    assert result.best.id == result.best_template.id
    assert result.best_template.generation == result.best.generation > 0
    assert result.population[0].score == 1.0


async def test_it_improves_the_tickets() -> None:
    config = replace(SMALL_GEPA, generations=8, population_size=12)
    result = await optimized("gepa", World(), config, data=splits())
    assert result.verdict is not None
    assert result.verdict.decision == "ship"
    assert result.verdict.difference.mean > 0.2


# Better than the reference.


async def test_a_clear_loser_costs_a_handful_of_calls() -> None:
    """Children that are no better on the samples they were made from cost a minibatch, and no pass over validation."""

    def worse(request: Request) -> str:
        return f"<instruction>Say nothing {request.repeat}.</instruction>"

    world = RuleWorld(worse)
    start = BASE.replace(system=f"Answer.\n{rule('cats')}\n{rule('dogs')}")
    data = rule_splits(val=200)
    await world.run(start=start, data=data, minibatch_size=3, crossover_rate=0)
    assert len(world.children) >= 20
    assert not any(child["accepted"] for child in world.children)
    assert all(child["rollouts"] <= 6 + 6 for child in world.children)


async def test_a_loser_that_looked_good_on_its_minibatch_meets_the_gate() -> None:
    def cheating(system: str, asked: str) -> str | None:
        return ("yes" if "train" in asked else "no") if "cheat" in system else None

    world = RuleWorld(lambda request: f"<instruction>Answer, cheat {request.repeat}.</instruction>", cheating)
    start = BASE.replace(system=f"Answer.\n{rule('cats')}\n{rule('dogs')}")
    await world.run(start=start, data=rule_splits(val=200), minibatch_size=4, crossover_rate=0)
    judged = [child for child in world.children if child["gap"] is not None]
    assert judged
    assert not any(child["accepted"] for child in judged)
    assert all(child["scored"] <= 30 for child in judged)
    assert all("validation samples" in child["reason"] for child in judged)


async def test_the_reflector_sees_what_it_needs() -> None:
    world = RuleWorld(lambda request: f"<instruction>Useless {request.repeat}.</instruction>")
    await world.run(max_instruction_tokens=77, description="questions about animals", frozen_spans=())
    first, last = world.asked[0], world.asked[-1]
    assert "Rewrites that were tried and rejected" not in first
    assert "Rewrites that were tried and rejected" in last
    assert "no better on the" in last
    assert "Useless" in last
    assert "questions about animals" in first
    assert "at most 77 tokens" in first
    assert "do not copy the examples" in first
    assert "Feedback: It is about" in first
    assert "Score: 0" in first


async def test_several_proposals_are_in_flight_at_once() -> None:
    together = []

    def reflector(request: Request) -> str:
        together.append(world.llm.in_flight)
        return good_reflector(request)

    world = RuleWorld(reflector, latency_s=0.001)
    await world.run(population_size=10, elite_size=2, generations=2, options={"slots": 16})
    assert max(together) > 1


async def test_a_budget_that_is_given_is_used() -> None:
    for rollouts in (150, 300):
        result = await RuleWorld(lambda request: f"<instruction>Useless {request.repeat}.</instruction>").run(
            rollouts=rollouts, data=rule_splits(60, 60, 60), generations=20
        )
        assert 0.6 * rollouts <= result.spend.rollouts <= rollouts


async def test_demonstrations_evolve_too() -> None:
    world = World()
    result = await optimized("gepa", world, replace(SMALL_GEPA, generations=6), data=splits())
    assert result.best_template.few_shot_examples
    kinds = {event["origin"] for event in world.of("child") if event["accepted"]}
    assert "demos" in kinds
    assert world.of("child")[0]["origin"] == "demos", "a start that is never right without them gives nothing to mend"
    alone = await optimized("gepa", World(), replace(SMALL_GEPA, optimize=()), data=splits())
    assert {entry.template.system for entry in alone.population} == {"Route the ticket."}
    assert len(alone.population) > 1


# Scores of any kind.


@pytest.mark.parametrize(("scale", "shift"), [(1.0, -1.0), (100.0, 0.0), (10.0, -50.0), (0.01, 0.0)])
async def test_scores_of_any_range(scale: float, shift: float) -> None:
    def score(trajectory: Trajectory, sample: Sample) -> float:
        return scale * (trajectory.output == "yes") + shift

    world = RuleWorld(score_fn_reflector)
    result = await world.run(score_fn=score, perfect_score=scale + shift, generations=8)
    assert result.best.score == pytest.approx(scale + shift)
    assert result.initial.score == pytest.approx(shift)


def score_fn_reflector(request: Request) -> str:
    """As `good_reflector`, for a metric without feedback."""
    return good_reflector(request)


async def test_a_score_that_is_no_number_is_a_failure_and_no_zero() -> None:
    def score(trajectory: Trajectory, sample: Sample) -> float:
        return float("nan") if "on owls" in sample.inputs["question"] else float(trajectory.output == "yes")

    world = RuleWorld()
    result = await world.run(score_fn=score, options={"max_failure_share": 0.9}, generations=6)
    assert result.best.score == 1.0
    assert result.best.n <= 18


async def test_children_whose_rollouts_all_fail_are_rejected_with_the_reason() -> None:
    world = RuleWorld(right=lambda system, asked: refused() if "Mind" in system else None)
    result = await world.run(options={"max_failure_share": 0.99})
    assert result.best_template.system == BASE.system
    reasons = {child["reason"] for child in world.children}
    assert any("ProviderUnavailable: down" in reason for reason in reasons)
    assert len(result.population) == 1


# Reflectors that misbehave.


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "it is empty"),
        ("<instruction></instruction>", "it is empty"),
        ("<instruction>Look at the question.</instruction>", "lost the placeholder {tone}"),
        ("<instruction>Answer {tone} {mood}.</instruction>", "added the placeholder {mood}"),
        ("<instruction>Answer in a {tone} tone.</instruction>", "the same as an earlier instruction"),
        (f"<instruction>{{tone}} {'x ' * 5000}</instruction>", "cut at 1024 tokens"),
        (refused(), "gave no answer"),
    ],
    ids=["nothing", "empty", "lost", "added", "old", "long", "down"],
)
async def test_a_reflector_that_fails_costs_its_child_only(reply: Any, reason: str) -> None:
    world = RuleWorld(lambda request: reply)
    start = PromptTemplate("Answer in a {tone} tone.", "{question}")

    def toned(samples: Any) -> list[Sample]:
        return [replace(sample, inputs={**sample.inputs, "tone": "calm"}) for sample in samples]

    plain = rule_splits()
    data = Splits(train=toned(plain.train), val=toned(plain.val), test=toned(plain.test))
    result = await world.run(start=start, data=data)
    assert result.verdict is not None
    assert result.best_template.system == start.system
    assert world.children
    assert all(reason in child["reason"] for child in world.children)
    assert all(child["scored"] == 0 for child in world.children)
    assert result.population[0].score == 0.0


async def test_an_answer_without_tags_is_taken_as_a_whole_and_the_event_says_so() -> None:
    world = RuleWorld(lambda request: "\n".join(map(rule, TOPICS)))
    result = await world.run()
    assert result.best.score == 1.0
    assert any("no <instruction> tags" in child["remark"] for child in world.children if child["accepted"])


async def test_the_same_text_from_two_children_joins_once() -> None:
    every = "\n".join(map(rule, TOPICS))
    world = RuleWorld(lambda request: f"<instruction>{every}</instruction>")
    result = await world.run(crossover_rate=0)
    assert len(result.population) == 2
    assert "another child of this generation is the same" in [child["reason"] for child in world.children]


async def test_a_text_that_was_rejected_is_not_tried_again() -> None:
    world = RuleWorld(lambda request: "<instruction>Useless.</instruction>")
    result = await world.run(population_size=5)
    assert len(result.population) == 1
    assert world.children[-1]["reason"] == "the same program was tried before"
    assert world.children[-1]["scored"] == 0


async def test_frozen_texts_survive_rewrites_and_merges() -> None:
    frozen = "Never swear.\nAlways answer."

    def reflector(request: Request) -> str:
        text = good_reflector(request)
        return text if request.repeat % 2 else text.replace("Never swear.\n", "")

    world = RuleWorld(reflector)
    result = await world.run(start=BASE.replace(system=frozen), frozen_spans=(frozen,), generations=6)
    assert len(result.population) > 2
    assert all(frozen in entry.template.system for entry in result.population)
    assert any("frozen part" in child["reason"] for child in world.children)


async def test_prompts_that_are_too_long_are_never_run() -> None:
    limit = 16
    world = RuleWorld()
    result = await world.run(options={"constraints": Constraints(max_prompt_tokens=limit)})
    assert all(world.llm.count_tokens(entry.template.system) <= limit for entry in result.population)
    systems = {r.messages[0].content for r in world.llm.requests if r.phase != "propose"}
    assert all(world.llm.count_tokens(system) <= limit for system in systems)
    assert any("longer than the constraint allows" in child["reason"] for child in world.children)


async def test_a_child_that_is_too_dear_is_rejected_with_the_reason() -> None:
    price = Price(input=Decimal(1), output=Decimal(1))

    def padded(request: Request) -> str:
        return good_reflector(request).replace("</instruction>", "\n" + "padding " * 90 + "</instruction>")

    world = RuleWorld(padded, price=price)
    result = await world.run(options={"constraints": Constraints(max_cost_per_call_usd=60e-6)})
    assert any("a rollout" in child["reason"] and "is above" in child["reason"] for child in world.children)
    assert not any(child["accepted"] for child in world.children)
    assert result.best_template.system == BASE.system


# The ends of the search.


async def test_a_parent_without_mistakes_is_not_rewritten() -> None:
    world = RuleWorld(right=lambda system, asked: "yes")
    result = await world.run()
    assert not world.asked
    assert {child["reason"] for child in world.children} == {"nothing went wrong on the samples that it was shown"}
    assert result.best_template.system == BASE.system
    assert result.verdict is not None
    assert result.verdict.decision == "keep"


async def test_a_run_that_finds_all_in_the_store_says_the_same() -> None:
    store, verdicts = MemoryStore(), []
    for _ in range(2):
        world = RuleWorld(right=lambda system, asked: "yes")
        result = await world.run(options={"store": store})
        verdicts.append(result.verdict)
    assert not world.llm.requests
    assert verdicts[0] == verdicts[1]


async def test_target_and_patience_end_the_search() -> None:
    world = RuleWorld()
    result = await world.run(target_score=0.45, generations=30)
    assert "target" in result.stop_reason
    assert len(result.history) < 30
    useless = RuleWorld(lambda request: f"<instruction>Useless {request.repeat}.</instruction>")
    result = await useless.run(patience=2, generations=30)
    assert "without a better candidate" in result.stop_reason
    assert len(result.history) == 3


async def test_generations_and_population_are_kept_to() -> None:
    world = RuleWorld()
    result = await world.run(generations=3, population_size=5, elite_size=2)
    assert len(result.history) == 3
    assert len(world.children) <= 3 * 3
    assert result.stop_reason == "all generations were made"


@pytest.mark.parametrize("sizes", [(1, 1, 0), (1, 1, 1), (2, 1, 3), (1, 9, 2), (40, 2, 0)])
@pytest.mark.parametrize("rollouts", [None, 4, 13, 60])
async def test_tiny_data(sizes: tuple[int, int, int], rollouts: int | None) -> None:
    result = await RuleWorld().run(data=rule_splits(*sizes), rollouts=rollouts, optimize_demos=True)
    assert rollouts is None or result.spend.rollouts <= rollouts
    assert result.verdict is not None


@pytest.mark.parametrize("rollouts", range(31))
async def test_every_small_budget(rollouts: int) -> None:
    world = RuleWorld()
    result = await world.run(rollouts=rollouts, rule_candidates=2)
    assert result.spend.rollouts <= rollouts
    assert result.stop_reason
    assert all(child["accepted"] or child["reason"] for child in world.children)


# Choices.


@pytest.mark.parametrize("selection", ["pareto", "elite"])
async def test_both_ways_to_choose_parents_work(selection: Any) -> None:
    assert (await RuleWorld().run(selection=selection, generations=10)).best.score == 1.0


async def test_merges_have_the_changes_of_both_parents() -> None:
    world = RuleWorld()
    result = await world.run(crossover_rate=1.0, mutation_rate=0.0, generations=8)
    merges = [child for child in world.children if child["origin"] == "merge" and child["accepted"]]
    texts = {entry.id: set(entry.template.system.splitlines()) for entry in result.population}
    assert merges
    for merge in merges:
        first, second = (texts[parent] for parent in merge["parents"])
        assert texts[merge["id"]] == first | second


async def test_several_objectives_have_a_front() -> None:
    def padded(request: Request) -> str:
        text = good_reflector(request).removesuffix("</instruction>")
        return f"{text}\n{'padding ' * 9}{request.repeat}.</instruction>"

    world = RuleWorld(padded)
    result = await world.run(objective=("score", "length"), generations=6)
    assert len(result.front) >= 2
    assert BASE.system in {entry.template.system for entry in result.front}
    points = [(entry.score or 0.0, -entry.objectives["length"]) for entry in result.front]
    assert not any(dominates(a, b) for a in points for b in points)
    assert result.best.score == max(score for score, _ in points)
    assert (await RuleWorld().run()).front == ()


@pytest.mark.parametrize("names", [("score", "cost", "latency", "length"), ("cost", "score")])
async def test_every_objective_is_measured(names: Any) -> None:
    result = await RuleWorld().run(objective=names)
    assert all(set(entry.objectives) == set(names) - {"score"} for entry in result.front)


async def test_a_child_that_is_cheaper_may_be_a_little_worse() -> None:
    long = BASE.replace(system="\n".join([*map(rule, TOPICS), "Be thorough and careful. " * 20]))
    short = "\n".join(map(rule, TOPICS))
    found = []
    for objective in (("score",), ("score", "length")):
        world = RuleWorld(
            lambda request: f"<instruction>{short}</instruction>",
            lambda system, asked: "no" if asked.endswith("0 on cats") or "7 on" in asked else None,
        )
        result = await world.run(start=long, objective=objective, rule_candidates=0, crossover_rate=0)
        found.append(short in {entry.template.system for entry in result.population})
    assert found == [False, False] or found[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"population_size": 0}, "population_size"),
        ({"crossover_rate": 1.5}, "crossover_rate"),
        ({"elite_size": 30}, "elite_size"),
        ({"optimize": ()}, "nothing to optimize"),
        ({"optimize": ("title",)}, "'title'"),
        ({"objective": ("cost",)}, "needs 'score'"),
        ({"objective": ("score", "beauty")}, "objective"),
        ({"selection": "best"}, "selection"),
        ({"component": "some"}, "component"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GEPAConfig(**settings)


def test_the_rows_have_every_topic() -> None:
    assert {row.inputs["question"].split()[-1] for row in rows("x", 8)} == set(TOPICS)
    assert scored(Trajectory(messages=(), output="yes"), rows("x", 1)[0]).value == 1.0
