"""Merges of texts, templates and programs, and the operations of evolution on templates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Endpoint, FewShotExample, Program, PromptTemplate
from rollouts.errors import TemplateError
from rollouts.prompt_optimization import StudyOptions, crossover_templates, mutate_template, select_elites
from rollouts.prompt_optimization.merge import merge_programs, merge_templates, merge_texts
from rollouts.testing import ScriptedLLM

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), unique=True, max_size=5).map("\n".join)
MODEL = Endpoint(provider="fake", model="m")


@pytest.mark.parametrize(
    ("base", "first", "second", "merged"),
    [
        ("a", "a", "a\nb", "a\nb"),
        ("a", "a\nb", "a", "a\nb"),
        ("a", "a\nb", "a\nb", "a\nb"),
        ("a", "a\nb", "a\nc", "a\nc\nb"),
        ("a\nx", "a\nx\nb", "a", "a\nb"),
        ("a", "b", "a\nc", "c\nb"),
        ("a\n\nb", "a\n\nb\nc", "a\n\nb\nd", "a\n\nb\nd\nc"),
    ],
)
def test_merge_texts(base: str, first: str, second: str, merged: str) -> None:
    assert merge_texts(base, first, second) == merged


@given(LINES, LINES, LINES)
def test_a_merge_holds_what_both_hold_and_nothing_else(base: str, first: str, second: str) -> None:
    merged = set(merge_texts(base, first, second).splitlines())
    old, mine, theirs = (set(text.splitlines()) for text in (base, first, second))
    assert merged <= mine | theirs
    assert merge_texts(base, first, base) == first
    assert merge_texts(base, base, second) == second
    if first != base and second != base:
        assert mine & theirs <= merged
        assert theirs - old <= merged
        assert (mine - old) - (old - theirs) <= merged


def test_a_merge_of_templates_keeps_placeholders_and_joins_parts() -> None:
    base = PromptTemplate("Be {tone}.", "{q}")
    demos = (FewShotExample("q", "a"),)
    first, second = base.replace(system="Be {tone}.\nShort."), base.replace(few_shot_examples=demos)
    merged = merge_templates(base, first, second)
    assert (merged.system, merged.few_shot_examples) == ("Be {tone}.\nShort.", demos)
    # Each side has the placeholder in another line: a merge of the lines would still have the same ones.
    torn = merge_templates(base, base.replace(system="In a {tone} way."), base.replace(system="Be kind."))
    assert "{tone}" in torn.system


def test_modules_are_merged_one_by_one() -> None:
    base = Program(modules={name: PromptTemplate(f"{name}.", "{q}") for name in ("find", "decide")})
    first = base.with_modules({"find": PromptTemplate("find better.", "{q}")})
    second = base.with_modules({"decide": PromptTemplate("decide better.", "{q}")})
    merged = merge_programs(base, first, second)
    assert {name: t.system for name, t in merged.modules.items()} == {
        "find": "find better.",
        "decide": "decide better.",
    }


def test_crossover_has_the_lines_of_both() -> None:
    demos = (FewShotExample("q", "a"),)
    child = crossover_templates(
        PromptTemplate("One.\nBoth.", "{q}"), PromptTemplate("Both.\nTwo.", "Q: {q}", demos), generation=3
    )
    assert child.system.splitlines() == ["One.", "Both.", "Two."]
    assert (child.user_template, child.few_shot_examples, child.generation, child.score) == ("{q}", demos, 3, None)


SCORED = st.lists(st.one_of(st.none(), st.just(float("nan")), st.floats(-5, 5)), max_size=8)


@given(SCORED, st.integers(-1, 9))
def test_select_elites(scores: list[float | None], n: int) -> None:
    population = [PromptTemplate(str(i), "{q}", score=score) for i, score in enumerate(scores)]
    chosen = select_elites(population, n)
    assert len(chosen) == min(max(0, n), len(population))
    real = [t.score for t in chosen if t.score is not None and t.score == t.score]
    assert real == sorted(real, reverse=True)
    left = [t.score for t in population if t not in chosen and t.score is not None and t.score == t.score]
    assert not left or (len(real) == len(chosen) and (not real or max(left) <= real[-1]))


def fake(*replies: str) -> Any:
    llm = ScriptedLLM(list(replies))
    return llm, StudyOptions(providers={MODEL.name: llm})


async def test_mutate_template() -> None:
    template = PromptTemplate("Be {tone}.", "{q}", score=0.5)
    llm, options = fake("<instruction>Always be {tone}.</instruction>")
    child = await mutate_template(template, MODEL, 2, options=options)
    assert (child.system, child.generation, child.score) == ("Always be {tone}.", 2, None)
    llm, options = fake("<instruction>Be nice.</instruction>", "<instruction>Be {tone} and nice.</instruction>")
    assert (await mutate_template(template, MODEL, 1, options=options)).system == "Be {tone} and nice."
    assert "lost the placeholder {tone}" in llm.requests[1].messages[-1].content
    llm, options = fake("", "")
    with pytest.raises(TemplateError, match="it is empty"):
        await mutate_template(template, MODEL, 1, options=options)
