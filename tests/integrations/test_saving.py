"""What is saved is read back the same, from files of every schema version, and nothing in a file is executed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts import (
    FewShotExample,
    Message,
    OptimizationResult,
    Program,
    PromptTemplate,
    Trajectory,
    load_program,
    load_prompt,
    load_result,
    save,
)
from rollouts.budget import Spend
from rollouts.dtypes import Agent, Sample, ToolCall, render
from rollouts.errors import ConfigError
from rollouts.integrations.exports import export_prompt
from rollouts.prompt_optimization.types import GenerationStats, ScoredProgram, TestReport
from rollouts.stats import verdict
from tests.prompt_optimization.worlds import World

GOLDEN = Path(__file__).parent / "golden"
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
numbers = st.floats(0, 1) | st.none()
steps = st.just(
    (Message("assistant", "", (ToolCall(id="1", name="f", arguments="{}"),)), Message("tool", "{", (), "1"))
)
answers = st.tuples(st.builds(Message, st.just("assistant"), text))
values = st.none() | st.dictionaries(names, text | st.integers() | st.booleans() | st.none(), max_size=2)
demos = st.builds(FewShotExample, text, text, st.just(()) | st.builds(tuple.__add__, steps, answers), values)
templates = st.builds(PromptTemplate, text, text, st.lists(demos, max_size=2).map(tuple), numbers, st.integers(0, 9))
scored = st.builds(
    ScoredProgram,
    program=templates.map(Program.single),
    score=numbers,
    n=st.integers(0, 99),
    id=text,
    parents=st.lists(text, max_size=2).map(tuple),
    generation=st.integers(0, 9),
)
history = st.lists(
    st.builds(GenerationStats, st.integers(), st.floats(0, 1), st.floats(0, 1), st.integers()), max_size=3
)
results = st.builds(
    OptimizationResult,
    best=scored,
    population=st.lists(scored, max_size=2).map(tuple),
    history=history.map(tuple),
    initial=scored,
    front=st.lists(scored, max_size=2).map(tuple),
    verdict=st.sampled_from(
        [None, verdict({}, {}), verdict(dict.fromkeys("abcdefgh", 0.0), dict.fromkeys("abcdefgh", 1.0))]
    ),
    test=st.none()
    | st.builds(TestReport, baseline=st.dictionaries(text, st.floats(0, 1), max_size=2), best=st.just({})),
    spend=st.builds(Spend, micros=st.integers(0), seconds=st.floats(0, 9)),
    spend_by_phase=st.dictionaries(text, st.builds(Spend, calls=st.integers(0)), max_size=2),
    stop_reason=text,
    run_id=text,
    details=st.dictionaries(text, st.lists(st.integers()), max_size=2),
)


async def two_steps(sample: Sample, agents: Mapping[str, Agent]) -> Trajectory:
    """A run function of its own."""
    first = await agents["first"](sample.inputs)
    return await agents["second"]({"found": first.output})


PROGRAM = Program(
    modules={
        "first": PromptTemplate(
            "Find.", "Q: {question}", (FewShotExample("Q: a", "b", values={"question": "a"}),), id="a"
        ),
        "second": PromptTemplate("Say.", "{found}", id="b"),
    },
    run=two_steps,
    version="2",
)


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


@settings(max_examples=50, deadline=None)
@given(templates)
def test_templates_come_back(template: PromptTemplate) -> None:
    again = PromptTemplate.from_json(through_json(template.to_json()))
    assert again == template
    assert again.digest == template.digest
    assert [demo.values for demo in again.few_shot_examples] == [demo.values for demo in template.few_shot_examples]
    assert PromptTemplate.from_json(json.dumps(template.to_json())) == template


@settings(max_examples=25, deadline=None)
@given(results)
def test_results_come_back(result: OptimizationResult) -> None:
    again = OptimizationResult.from_json(through_json(result.to_json()))
    assert repr(again) == repr(result)  # verdicts of no samples hold NaN, which equals nothing


def test_every_field_of_a_result_is_saved() -> None:
    saved = set(_result().to_json())
    assert saved == {field.name for field in fields(OptimizationResult)} | {"schema_version"}
    assert set(_result().best.to_json()) == {field.name for field in fields(ScoredProgram)}


def test_what_is_not_finite_is_no_nan_in_json() -> None:
    result = _result(history=(GenerationStats(1, 0.5, math.nan, 0),))
    (stats,) = OptimizationResult.from_json(through_json(result.to_json())).history
    assert math.isnan(stats.mean_score)


def test_values_of_other_types_are_written_as_the_message_has_them() -> None:
    demo = FewShotExample("x", "y", values={"a": [1, 2], "b": math.inf, "c": 1.5})
    assert through_json(demo.to_json())["values"] == {"a": "[1, 2]", "b": "inf", "c": 1.5}


def test_programs_come_back_with_their_function() -> None:
    data = through_json(PROGRAM.to_json())
    again = Program.from_json(data, run=two_steps)
    assert again == PROGRAM
    assert again.digest == PROGRAM.digest
    single = Program.single(PROGRAM.modules["first"])
    assert Program.from_json(through_json(single.to_json())) == single


def test_a_name_in_a_file_is_never_imported(tmp_path: Path) -> None:
    (tmp_path / "program.json").write_text(json.dumps({**PROGRAM.to_json(), "run": "antigravity.fly"}))
    with pytest.raises(ConfigError, match=r"antigravity\.fly.*run="):
        load_program(tmp_path / "program.json")
    import sys

    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("read", [PromptTemplate.from_json, Program.from_json, OptimizationResult.from_json])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"schema_version": "1.5"}, "schema version"),
        ({"schema_version": 1}, "lacks"),
        ("[1, 2]", "no JSON object"),
        ("{", "no JSON"),
    ],
)
def test_what_cannot_be_read_says_why(read: Any, data: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(data)


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ConfigError, match="few_shots"):
        PromptTemplate.from_json({"system": "", "user_template": "", "few_shots": []})


def test_files_of_schema_version_1_are_read() -> None:
    template = load_prompt(GOLDEN / "template_v1.json")
    assert [message.role for message in render(template, {"text": "q"})] == ["system", "user", "assistant", "user"]
    assert template.few_shot_examples[0].values == {"text": "What is 1+1?"}
    program = load_program(GOLDEN / "program_v1.json", run=two_steps)
    assert (program.digest, program.version) == (PROGRAM.digest, "2")
    result = load_result(GOLDEN / "result_v1.json")
    assert (result.best_template.score, result.initial_template.score) == (0.75, 0.5)
    assert result.verdict is not None
    assert result.verdict.decision == "ship"
    assert result.test == _result().test
    assert result.spend_by_phase["search"] == Spend(micros=7, tokens=100, calls=9, rollouts=8, seconds=1.5)
    assert result == replace(_result(), verdict=result.verdict)


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    save(_result(), file)
    before = file.read_text()
    with pytest.raises(TypeError):
        save(_result(details={"at": object()}), file)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(ConfigError, match="cannot be written"):
        save(_result(), tmp_path / "no" / "folder.json")


def test_prompts_are_read_from_whatever_holds_one(tmp_path: Path) -> None:
    template = PROGRAM.modules["first"]
    for name, content in {
        "template.json": template.to_json(),
        "program.json": Program.single(template).to_json(),
        "best_prompt.json": json.loads(export_prompt(template, "json")),
        "plain.json": {"user_template": "Q: {question}"},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
        assert load_prompt(tmp_path / name).user_template == template.user_template
    assert load_prompt(tmp_path) == template  # the folder of a run
    (tmp_path / "several.json").write_text(export_prompt(PROGRAM, "json"))
    assert load_program(tmp_path / "several.json", run=two_steps).modules == PROGRAM.modules
    with pytest.raises(ConfigError, match="2 modules"):
        load_prompt(tmp_path / "several.json")
    for name, content in {"list.json": "[]", "other.json": "{}", "broken.json": "{"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=name):
            load_prompt(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompt(tmp_path / "none.json")


async def test_a_saved_prompt_starts_another_run(tmp_path: Path) -> None:
    first = await World().run()
    save(first.best_template, tmp_path / "best.json")
    save(first, tmp_path / "result.json")
    assert repr(load_result(tmp_path / "result.json")) == repr(first)
    start = load_prompt(tmp_path / "best.json")
    assert load_prompt(tmp_path / "result.json").digest == start.digest, "a result holds its best prompt"
    assert start.digest == first.best_template.digest
    second = await World().run(start=start)
    assert second.initial_template.digest == start.digest
    assert second.initial_template.score == pytest.approx(first.best_template.score, abs=0.1)  # other rows


def _result(**changes: Any) -> OptimizationResult:
    template = PromptTemplate("Answer.", "Q: {text}", (FewShotExample("Q: a", "b"),), id="start")
    better = PromptTemplate("Answer well.", "Q: {text}", id="best")
    first, last = dict.fromkeys("abcdefgh", 0.0), dict.fromkeys("abcdefgh", 1.0)
    start = ScoredProgram(program=Program.single(template), score=0.5, n=8, id="0")
    best = ScoredProgram(program=Program.single(better), score=0.75, n=8, id="1", parents=("0",), generation=1)
    given: dict[str, Any] = {
        "best": best,
        "population": (best, start),
        "history": (GenerationStats(1, 0.75, 0.5, 8),),
        "initial": start,
        "verdict": verdict(first, last),
        "test": TestReport(baseline=first, best=last),
        "spend": Spend(micros=7, tokens=100, calls=9, rollouts=8, seconds=1.5),
        "spend_by_phase": {"search": Spend(micros=7, tokens=100, calls=9, rollouts=8, seconds=1.5)},
        "stop_reason": "all trials done",
        "run_id": "run-1",
        "details": {"summary": {"trials": 1}},
    }
    return OptimizationResult(**given | changes)
