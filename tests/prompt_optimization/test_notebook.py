"""What a notebook shows of a result is whole, and nothing of a prompt is taken for HTML."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from rollouts.dtypes import FewShotExample, Program, PromptTemplate
from rollouts.prompt_optimization import GenerationStats, OptimizationResult, ScoredProgram

from .worlds import World

EVIL = "<script>alert('x')</script> & more"
START = ScoredProgram(program=Program.single(PromptTemplate("Name it.", "{text}")), score=0.25, n=8)
BEST = PromptTemplate(f"Name it. {EVIL}", "{text}", few_shot_examples=(FewShotExample(EVIL, "a"),))


def result(**changes: Any) -> OptimizationResult:
    best = ScoredProgram(program=Program.single(BEST), score=0.5, n=8)
    history = tuple(GenerationStats(n, value, value, 4) for n, value in enumerate([0.25, math.nan, 0.5], start=1))
    found = OptimizationResult(best=best, population=(best, START), history=history, initial=START)
    return replace(found, **changes)


def shown(found: OptimizationResult) -> ElementTree.Element:
    """The HTML, which must be well-formed."""
    return ElementTree.fromstring(found._repr_html_())


def words(found: OptimizationResult) -> str:
    return " ".join(shown(found).itertext())


def test_a_run_is_shown_with_its_verdict_and_its_curve() -> None:
    found = asyncio.run(World().run())
    assert found.verdict is not None
    page, text = shown(found), words(found)
    for part in (found.verdict.decision, found.verdict.reason, found.stop_reason, found.best_template.system):
        assert part in text
    assert f"{found.verdict.best.mean:.3f}" in text
    points = page.find(".//polyline")
    assert points is not None
    assert len(points.attrib["points"].split()) == len(found.history)
    again = OptimizationResult.from_json(found.to_json())
    assert again._repr_html_() == found._repr_html_()


def test_texts_are_no_html() -> None:
    found = result(stop_reason=EVIL, details={"summary": {"notes": [EVIL]}})
    assert not list(shown(found).iter("script"))
    assert words(found).count(EVIL) == 4
    assert "1 demonstrations" in words(found)


@pytest.mark.parametrize("scores", [[], [0.5], [math.nan, 0.5]])
def test_a_curve_of_less_than_two_points_is_left_out(scores: list[float]) -> None:
    history = tuple(GenerationStats(n, value, value, 4) for n, value in enumerate(scores, start=1))
    assert shown(result(history=history)).find(".//svg") is None


def test_a_curve_stays_in_its_picture() -> None:
    for scores in ([0.5, 0.5], [-3.0, 40.0, 7.0]):
        history = tuple(GenerationStats(n, value, value, 4) for n, value in enumerate(scores, start=1))
        page = shown(result(history=history))
        picture, line = page.find(".//svg"), page.find(".//polyline")
        assert picture is not None
        assert line is not None
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert len(points) == len(scores)
        assert all(0 <= x <= float(picture.attrib["width"]) for x, _ in points)
        assert all(0 <= y <= float(picture.attrib["height"]) for _, y in points)


def test_what_did_not_run_is_said_and_modules_have_their_names() -> None:
    untried = replace(START, score=None, n=0)
    assert words(result(initial=untried)).count("not run") == 3
    first = PromptTemplate("One.", "{text}")
    best = ScoredProgram(program=Program(modules={"reader": first, "writer": BEST}, run=_two), score=0.5, n=8)
    text = words(result(best=best))
    assert "reader: best prompt" in text
    assert "writer: best prompt" in text


async def _two(sample: Any, agents: Any) -> str:
    return ""
