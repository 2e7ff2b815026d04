"""Every form, read as its tool reads it, gives the messages that were scored, and so the same score."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from statistics import mean
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rollouts import (
    FewShotExample,
    Message,
    Program,
    PromptTemplate,
    Sample,
    StudyOptions,
    Trajectory,
    evaluate_template,
)
from rollouts.dtypes import Endpoint, Request, ToolCall, fill, placeholders, render
from rollouts.errors import ConfigError
from rollouts.evaluation.metrics import exact_match
from rollouts.integrations.exports import FORMATS, export_prompt
from rollouts.llm.anthropic_wire import body_of
from rollouts.prompt_optimization.demos import example_of, reformatted
from rollouts.testing import SimulatedLLM
from tests.integrations import readers
from tests.integrations.readers import READERS, read
from tests.prompt_optimization.worlds import ENDPOINT, labels, task, tickets

EXAMPLES = 25
NASTY = (
    *("{", "}", "{{", "}}", "{%", "%}", "{#", "#}", "{% raw %}", "{% endraw %}", "{{-", "-}}", "{0}", "{}", "${0}"),
    *("$", "$1", "\\", "\\n", "\\{", "'", '"', "`", "|", "\n", "\r", "\r\n", "\t", " ", "\x00", "\x85", "\u2028"),
    *("é", "語", "🙂", "\ufeff", "#", "### user", "##### user\n", "- ", "---", ": ", "<b>", "&amp;", "%", "loop"),
)
HOLES = ("{name}", "{{name}}", "{{ other }}", "{other}")
plain = st.lists(st.sampled_from(NASTY), max_size=8).map("".join)
templates = (
    st.lists(st.sampled_from((*NASTY, *HOLES)), max_size=8)
    .map("".join)
    .filter(lambda text: placeholders(text) <= {"name", "other"})
)
values = st.fixed_dictionaries({"name": plain | st.text(max_size=5), "other": plain})
demos = st.lists(st.builds(FewShotExample, templates.filter(str.strip), templates.filter(str.strip)), max_size=2)


def prompt(system: str, user: str, *shown: tuple[str, str], **more: Any) -> PromptTemplate:
    return PromptTemplate(system, user, tuple(FewShotExample(*pair) for pair in shown), id="p", **more)


def sent(form: str, template: PromptTemplate, inputs: dict[str, str]) -> Any:
    """What goes to a model inside: messages, or for Anthropic's own wire its body."""
    rendered = list(render(template, inputs))
    if form != "anthropic":
        return rendered
    body = body_of(Request(endpoint=Endpoint(provider="anthropic", model="m"), messages=tuple(rendered)))
    system = "".join(block["text"] for block in body.get("system", ()))
    return readers.anthropic({**({"system": system} if system else {}), "messages": body["messages"]}, {})


def plain_of(template: PromptTemplate) -> str:
    """The texts of a template without what its placeholders stand for."""
    marks = dict.fromkeys(template.placeholders, "\x01")
    return "\x01".join((fill(template.system, marks), fill(template.user_template, marks)))


def test_every_form_has_a_reader() -> None:
    assert set(READERS) == set(FORMATS)


@pytest.mark.parametrize("form", FORMATS)
async def test_the_score_outside_is_the_score_inside(form: str) -> None:
    data = tickets()[:40]
    start = prompt(
        f'One of {{{", ".join(labels())}}}, as {{"route": {{{{1}}}}}}, not {{% this %}} or {{# that #}}.'
        " \\{x} or \\{{x}}",
        "Ticket: {ticket}\n{{ }} ${0} {%\n",
    )
    template = replace(start, few_shot_examples=tuple(example_of(start, sample) for sample in data[:6]))
    rows = [{**sample.inputs, "ground_truth": sample.ground_truth} for sample in data]
    inside = await evaluate_template(
        template,
        range(6, 40),
        rows,
        ENDPOINT,
        exact_match(),
        options=StudyOptions(providers={ENDPOINT.name: SimulatedLLM(task())}),
    )
    artefact, llm, metric = export_prompt(template, form), SimulatedLLM(task()), exact_match()

    async def outside(sample: Sample) -> float:
        texts = {name: str(value) for name, value in sample.inputs.items()}
        messages = tuple(read(form, artefact, texts))
        assert messages == render(template, texts)
        said = await llm.complete(Request(endpoint=ENDPOINT, messages=messages))
        score: Any = metric(Trajectory(messages=(*messages, said.message()), output=said.text), sample)
        return float(getattr(score, "value", score))

    scores = [await outside(sample) for sample in data[6:]]
    assert 0 < mean(scores) < 1
    assert inside.score == pytest.approx(mean(scores), abs=1e-12)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(system=templates, user=templates, shown=demos, inputs=values)
@example(system="{{{name}}} {{name}", user="{{{{name}}}}\n", shown=[], inputs={"name": "{{other}}", "other": "{name}"})
@example(system="{\n", user="{\r{{ name }}{", shown=[], inputs={"name": "\n", "other": ""})
@example(system="", user="{\\{name}}", shown=[], inputs={"name": "", "other": ""})
@example(system="\\{{name}}", user="{name}", shown=[], inputs={"name": "a", "other": ""})
@example(system="### user\n", user="a\n\n### user\nb\n\n#### user\n", shown=[], inputs={"name": "", "other": ""})
def test_any_text_comes_out_as_it_went_in(
    form: str, system: str, user: str, shown: list[FewShotExample], inputs: dict[str, str]
) -> None:
    template = PromptTemplate(system, user, tuple(shown))
    if form == "dspy":
        follows = [FewShotExample(fill(user, {"name": d.input, "other": d.input}), d.output) for d in shown]
        system = inspect.cleandoc(re.sub(r"[{}]", "", system))
        template = PromptTemplate(system, user, tuple(follows))
    assume(not system or fill(system, inputs))  # a system message that becomes empty is left out inside
    if form == "anthropic":  # which knows no blank texts
        assume(fill(user, inputs).strip() and (not system.strip() or fill(system, inputs).strip()))
    if form in ("openai", "anthropic") and any(
        f"{{{{{name}}}}}" in plain_of(template) for name in template.placeholders
    ):
        with pytest.raises(ConfigError, match="rename the placeholder"):
            export_prompt(template, form)
        return
    assert read(form, export_prompt(template, form), inputs) == sent(form, template, inputs)


@settings(max_examples=EXAMPLES, deadline=None)
@given(system=templates, user=templates, inputs=values)
def test_jinja_settings_change_nothing(system: str, user: str, inputs: dict[str, str]) -> None:
    assume(not system or fill(system, inputs))
    template = PromptTemplate(system, user)
    found = json.loads(export_prompt(template, "jinja"))
    for settings_ in ({"trim_blocks": True, "lstrip_blocks": True}, {"keep_trailing_newline": True}):
        assert readers.jinja(found, inputs, jinja2.Environment(**settings_)) == list(render(template, inputs))


CALLS = Message("assistant", "I add.", (ToolCall(id="c1", name="add", arguments='{"a": "{{x}} {%"}'),))
TOOLS = PromptTemplate(
    "Use tools.",
    "Q: {name}",
    (FewShotExample("Q: 1+1", "2", (CALLS, Message("tool", "2 {{", (), "c1"), Message("assistant", "2"))),),
)


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ("text", "dspy")])
def test_tool_calls_of_demonstrations_are_kept(form: str) -> None:
    assert read(form, export_prompt(TOOLS, form), {"name": "2+2"}) == sent(form, TOOLS, {"name": "2+2"})


def test_anthropic_roles_take_turns() -> None:
    found = json.loads(export_prompt(TOOLS, "anthropic"))
    roles = [turn["role"] for turn in found["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert [tool["name"] for tool in found["tools"]] == ["add"]
    assert "cache_control" not in json.dumps(found)


def test_text_shows_tool_calls() -> None:
    assert '[add: {"a": "{{x}} {%"}]' in export_prompt(TOOLS, "text")


@pytest.mark.parametrize("form", FORMATS)
def test_every_module_is_exported(form: str) -> None:
    modules = {"search: it": prompt("Find {name}.", "Q: {name}", ("Q: a", "b")), "answer": prompt("Say.", "{other}")}
    if form == "dspy":
        modules["search: it"] = replace(modules["search: it"], system="Find.")
    text = export_prompt(Program(modules=modules), form)
    for template in modules.values():
        assert template.system.partition(" {")[0] in text
    parse, reader = READERS[form]
    found = parse(text)
    if form == "text":
        assert re.findall(r"^### (.*)$", text, re.MULTILINE) == [
            *("search: it: system", "search: it: user", "search: it: assistant", "search: it: user"),
            *("answer: system", "answer: user"),
        ]
        return
    for name, template in modules.items():
        one = {
            "promptfoo": lambda name: {"prompts": [p for p in found["prompts"] if p["label"] == name]},
            "dspy": lambda name: {**found[name], "metadata": {"user_templates": {name: modules[name].user_template}}},
        }.get(form, lambda name: found["modules"][name])(name)
        inputs = {"name": "n", "other": "o"}
        assert reader(one, inputs) == sent(form, template, inputs)


@pytest.mark.parametrize(
    ("form", "template", "reason"),
    [
        ("jinja", prompt("", "{self}"), "{self}"),
        ("promptfoo", prompt("", "{null}"), "{null}"),
        ("jinja", prompt("", "{a²}"), "{a²}"),
        ("langchain", prompt("", "{self}"), "{self}"),
        ("dspy", prompt("", "{answer}"), "{answer}"),
        ("dspy", prompt("For {name}.", "{other}"), "instruction"),
        ("dspy", prompt("Two lines.\n", "{other}"), "blank lines"),
        ("dspy", prompt("", "Q: {name}", ("something else", "b")), "demonstration 1"),
        ("dspy", TOOLS, "tools"),
    ],
)
def test_what_a_form_cannot_say_is_refused(form: str, template: PromptTemplate, reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        export_prompt(template, form)


@pytest.mark.parametrize(("typed", "near"), [("LangChian", "langchain"), ("open-ai", "openai"), ("jinja2", "jinja")])
def test_an_unknown_form_names_the_nearest(typed: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean {near}"):
        export_prompt(TOOLS, typed)


def test_values_that_are_no_text_stand_in_exports_as_they_are_sent() -> None:
    template = PromptTemplate("", "Q: {name}")
    row = Sample(inputs={"name": {"vip": True}}, ground_truth={"a": None})
    template = replace(template, few_shot_examples=(example_of(template, row),))
    found = json.loads(export_prompt(template, "openai"))
    assert found["example"]["messages"][-1]["content"] == found["messages"][0]["content"] == 'Q: {"vip": true}'
    saved = PromptTemplate.from_json(json.dumps(template.to_json()))
    assert reformatted(saved.few_shot_examples, "{name}")[0].input == '{"vip": true}'


def test_examples_are_filled_from_a_demonstration() -> None:
    template = PromptTemplate("", "Q: {name}", (FewShotExample("Q: one", "1", values={"name": "one", "spare": 2}),))
    found = json.loads(export_prompt(template, "openai"))
    assert found["example"]["variables"] == {"name": "one"}
    assert found["example"]["messages"][-1]["content"] == "Q: one"
    assert yaml.safe_load(export_prompt(template, "promptfoo"))["tests"] == [{"vars": {"name": "one"}}]


def test_demonstrations_are_rows_and_messages() -> None:
    shown = (
        FewShotExample("Q: one", "1", values={"text": "one"}),
        FewShotExample("Q: a b", "2", values={"x": "a", "y": 3}),
        FewShotExample("Q: mine", "3"),
    )
    found = json.loads(export_prompt(PromptTemplate("", "Q: {text}", shown), "json"))["demonstrations"]
    assert found == [
        {"query": "one", "label": "1", "message": "Q: one", "values": {"text": "one"}},
        {"query": "Q: a b", "label": "2", "message": "Q: a b", "values": {"x": "a", "y": 3}},
        {"query": "Q: mine", "label": "3", "message": "Q: mine"},
    ]


def test_dspy_loads_its_state(tmp_path: Any) -> None:
    dspy = pytest.importorskip("dspy", reason="dspy is no dependency of the tests: it is too large")
    template = prompt("Route {% it %}.", "Q: {name}\n{{x", ("Q: a\n{{x", "b"))
    file = tmp_path / "state.json"
    file.write_text(export_prompt(template, "dspy"), encoding="utf-8")
    predict = dspy.Predict("name -> answer")
    predict.load(str(file))
    assert predict.signature.instructions == template.system
    assert predict.demos == [{"name": "a", "answer": "b"}]


@pytest.mark.parametrize("form", ["openai", "anthropic"])
def test_plain_text_that_reads_like_a_mark_is_refused(form: str) -> None:
    template = prompt("Leave \\{{ticket}} as it is.", "Ticket: {ticket}")
    with pytest.raises(ConfigError, match="rename the placeholder"):
        export_prompt(template, form)
    assert "Leave {{x}}" in export_prompt(prompt("Leave \\{{x}} as it is.", "Ticket: {ticket}"), form)
