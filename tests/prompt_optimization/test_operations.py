"""The single operations, with the signatures of the design, and the example of its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import (
    Agent,
    Endpoint,
    FewShotExample,
    Message,
    Metric,
    Program,
    PromptTemplate,
    Request,
    Sample,
    Score,
)
from rollouts.errors import ConfigError, DataError, EvaluationError, InvalidRequest, TemplateError
from rollouts.prompt_optimization import (
    MIPROConfig,
    StudyOptions,
    bootstrap_demos,
    evaluate_template,
    format_prompt,
    propose_instructions,
    run_mipro,
)
from rollouts.prompt_optimization.splits import Splits, shown_inputs, split_dataset
from rollouts.store import MemoryStore
from rollouts.testing import MockProvider, ScriptedLLM

ENDPOINT = Endpoint(provider="fake", model="m")
TEMPLATE = PromptTemplate("Classify.", "Query: {query}")
DATA = [{"query": f"q{i}", "intent": "pin" if i % 2 else "card"} for i in range(40)]


def exact(trajectory: Any, sample: Any) -> float:
    return float(trajectory.output == sample.ground_truth)


def graded(trajectory: Any, sample: Any) -> float:
    return int(sample.inputs["query"][1:]) / 40


def always(text: str, **settings: Any) -> StudyOptions:
    return options(lambda request: text, **settings)


def options(reply: Any, **settings: Any) -> StudyOptions:
    return StudyOptions(providers={"fake/m": ScriptedLLM(reply)}, **settings)


def test_format_prompt() -> None:
    template = PromptTemplate("For {who}.", "Q: {q}", (FewShotExample("Q: 1", "one"),))
    expected = [Message("system", "For me."), Message("user", "Q: 1"), Message("assistant", "one")]
    assert format_prompt(template, {"who": "me", "q": "{q}"}) == [*expected, Message("user", "Q: {q}")]
    assert format_prompt(template, Sample(inputs={"who": "me", "q": "2"}))[-1].content == "Q: 2"
    with pytest.raises(TemplateError, match="who"):
        format_prompt(template, {"q": "2"})


async def test_evaluate_template_scores_the_rows_of_the_seeds() -> None:
    scored = await evaluate_template(TEMPLATE, range(0, 30), DATA, ENDPOINT, exact, options=always("pin"))
    assert scored.score == 0.5
    assert scored.digest == TEMPLATE.digest
    assert (await evaluate_template(TEMPLATE, [1, 3], DATA, ENDPOINT, exact, None, 2, options=always("pin"))).score == 1


async def test_evaluate_template_bounds_the_calls_in_flight() -> None:
    opts = always("pin")
    llm: Any = opts.providers["fake/m"]
    llm._latency_s = 0.001
    await evaluate_template(TEMPLATE, range(40), DATA, ENDPOINT, exact, None, 3, options=opts)
    assert llm.max_in_flight == 3
    assert llm.closed


@pytest.mark.parametrize("seeds", [[40], [-1], [0, 99]])
async def test_a_row_that_there_is_not(seeds: list[int]) -> None:
    for work in (
        lambda: evaluate_template(TEMPLATE, seeds, DATA, ENDPOINT, exact, options=always("pin")),
        lambda: bootstrap_demos(TEMPLATE, DATA, seeds, ENDPOINT, exact, 2, options=always("pin")),
    ):
        with pytest.raises(ConfigError, match="rows 0 to 39"):
            await work()


async def test_failures_are_left_out_of_the_mean_and_all_failures_are_an_error() -> None:
    def reply(request: Request) -> Any:
        return InvalidRequest("no") if request.messages[-1].content == "Query: q0" else "card"

    scored = await evaluate_template(TEMPLATE, [0, 2, 4], DATA, ENDPOINT, exact, options=options(reply))
    assert scored.score == 1.0
    store = MemoryStore()
    with pytest.raises(EvaluationError, match="InvalidRequest: no"):
        await evaluate_template(TEMPLATE, [0], DATA, ENDPOINT, exact, options=options(reply, store=store, run_id="r"))
    assert store.run("r").status == "failed"
    with pytest.raises(EvaluationError, match="budget"):
        await evaluate_template(TEMPLATE, [1], DATA, ENDPOINT, exact, options=always("x", budget=Budget(max_calls=0)))


async def test_bootstrap_demos_keeps_successes() -> None:
    demos = await bootstrap_demos(TEMPLATE, DATA, range(40), ENDPOINT, exact, 5, options=always(" pin\n"[1:-1]))
    assert demos == [FewShotExample(f"Query: q{i}", "pin") for i in (1, 3, 5, 7, 9)]
    assert await bootstrap_demos(TEMPLATE, DATA, range(40), ENDPOINT, exact, 5, options=always("none")) == []


async def test_bootstrap_demos_stops_early() -> None:
    none, enough = always("none"), always("pin")
    await bootstrap_demos(TEMPLATE, DATA, range(40), ENDPOINT, exact, 5, options=none)
    await bootstrap_demos(TEMPLATE, DATA, range(40), ENDPOINT, exact, 5, options=enough)
    assert none.providers["fake/m"].calls == 16  # type: ignore[attr-defined]
    assert enough.providers["fake/m"].calls == 16  # type: ignore[attr-defined]


async def test_a_threshold_serves_graded_metrics() -> None:
    demos = await bootstrap_demos(TEMPLATE, DATA, range(40), ENDPOINT, graded, 50, threshold=0.25, options=always("x"))
    assert [demo.input for demo in demos] == [f"Query: q{i}" for i in range(10, 40)]


async def test_propose_instructions_by_rule_and_by_model() -> None:
    texts = await propose_instructions(
        TEMPLATE,
        DATA,
        ENDPOINT,
        6,
        options=options(lambda request: f"<instruction>Mine {request.repeat}.</instruction>"),
    )
    assert len(texts) == len(set(texts)) == 6
    assert any("card, pin" in text for text in texts)
    assert "Mine 0." in texts
    alone = await propose_instructions(TEMPLATE, DATA, ENDPOINT, 3, options=options(lambda r: InvalidRequest("no")))
    assert len(alone) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_seeds": (0, 1), "val_seeds": (1, 2)}, "row 1 is in train_seeds and in val_seeds"),
        ({"train_seeds": (0,), "val_seeds": (1,), "test_seeds": (0,)}, "must not overlap"),
        ({"train_seeds": (0,), "val_seeds": (40,)}, "rows 0 to 39"),
        ({"train_seeds": (-1,), "val_seeds": (1,)}, "index -1"),
        ({"train_seeds": (0,)}, "val_seeds is empty"),
        ({"test_seeds": (0,)}, "train_seeds is empty"),
    ],
)
def test_splits_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        split_dataset(TEMPLATE, DATA, MIPROConfig(**settings))


def test_splits_by_index_and_by_seed() -> None:
    named = split_dataset(TEMPLATE, DATA, MIPROConfig(train_seeds=(3, 1), val_seeds=(2,)))
    assert [s.inputs["query"] for s in (*named.train, *named.val)] == ["q3", "q1", "q2"]
    assert len(named.test) == 37
    auto = split_dataset(TEMPLATE, DATA, MIPROConfig(seed=0))
    ids = [s.id for s in (*auto.train, *auto.val, *auto.test)]
    assert len(ids) == len(set(ids)) == 40
    assert (
        auto == split_dataset(TEMPLATE, DATA, MIPROConfig(seed=0)) != split_dataset(TEMPLATE, DATA, MIPROConfig(seed=1))
    )


def extract_intent(trajectory: Any) -> str:
    return str(trajectory.output).strip()


def score_fn(trajectory: Any, sample: Any) -> Score:
    predicted = extract_intent(trajectory)
    correct = predicted.lower() == sample.ground_truth.lower()
    return Score(metrics=(Metric("correct", 1.0 if correct else 0.0, weight=1.0),))


async def test_the_example_of_the_design_as_written() -> None:
    template = PromptTemplate(
        system="Classify the customer query into one of the banking intents.",
        user_template="Query: {query}\nIntents: {intents}\n\nClassify this query.",
    )
    dataset = [
        {
            "query": f"How do I reset my PIN, case {i}?" if i % 2 else f"What's my balance in {i}?",
            "intent": "pin_reset" if i % 2 else "balance_inquiry",
            "intents": "...",
        }
        for i in range(60)
    ]
    config = MIPROConfig(num_candidates=50, num_trials=100, max_bootstrapped_demos=4, max_labeled_demos=4)

    def reply(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if not asked.startswith("Query: "):
            return "<instruction>Answer pin_reset or balance_inquiry.</instruction>"
        right = "pin_reset" if "PIN" in asked else "balance_inquiry"
        return right if len(body["messages"]) > 2 else "I think it is about your account"

    async with MockProvider(reply=reply) as mock:
        endpoint = proposer_endpoint = Endpoint(provider="vllm", model="m", base_url=mock.base_url)
        result = await run_mipro(
            initial_template=template,
            config=replace(config, num_trials=12, num_candidates=6),
            dataset=dataset,
            endpoint=endpoint,
            proposer_endpoint=proposer_endpoint,
            score_fn=score_fn,
        )
    assert len(result.best_template.few_shot_examples) > 0
    assert result.best_template.score == 1.0
    assert result.verdict is not None
    assert result.verdict.decision == "ship"


def test_rows_that_repeat_a_later_split_are_left_out_and_counted() -> None:
    rows = [{"text": f"row {n % 12}", "label": "a"} for n in range(36)]
    template = PromptTemplate(system="Name it.", user_template="{text}")
    seeds = MIPROConfig(train_seeds=tuple(range(12)), val_seeds=(14, 15, 16), test_seeds=(28, 29, 30))
    splits = split_dataset(template, rows, seeds)
    texts = [{sample.inputs["text"] for sample in part} for part in (splits.train, splits.val, splits.test)]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    assert len(splits.test) == 3
    assert any("train rows were left out" in note for note in splits.notes)
    with pytest.raises(DataError, match="give it rows of its own"):
        split_dataset(template, rows, MIPROConfig(train_seeds=(0, 1), val_seeds=(2,), test_seeds=(12, 13)))


def test_rows_that_the_prompt_cannot_tell_apart_are_one_row() -> None:
    rows = [{"text": f"row {n % 12}", "source": f"file {n}", "label": "a"} for n in range(36)]
    template = PromptTemplate(system="Name it.", user_template="{text}")
    splits = split_dataset(template, rows, MIPROConfig())
    texts = [sample.inputs["text"] for part in (splits.train, splits.val, splits.test) for sample in part]
    assert len(texts) == len(set(texts))
    assert [note.split(" (")[0] for note in splits.remarks] == [
        "24 of 36 rows repeat the inputs of another one and were left out"
    ]
    seeds = MIPROConfig(train_seeds=(0, 1), val_seeds=(13, 14), test_seeds=(26, 27))
    named = split_dataset(template, rows, seeds)
    assert [len(part) for part in (named.train, named.val, named.test)] == [1, 1, 2]
    assert shown_inputs(template) == {"text"}
    assert not shown_inputs(Program(modules={"main": template}, run=_reads_more)), "a function may read more"


async def _reads_more(sample: Sample, agents: Mapping[str, Agent]) -> str:
    return str(sample.inputs["source"])


def test_splits_without_test_rows_are_remarked_on() -> None:
    rows = [{"text": f"row {n}", "label": "a"} for n in range(9)]
    template = PromptTemplate(system="Name it.", user_template="{text}")
    assert not split_dataset(template, rows, MIPROConfig()).remarks
    (remark,) = split_dataset(template, rows[:8], MIPROConfig()).remarks
    assert "no test rows" in remark


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"budget": 5}, r"budget is 5; give a Budget, as Budget\("), ({"constraints": {}}, r"give a Constraints, as")],
)
def test_options_of_the_wrong_kind_are_refused_at_once(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        StudyOptions(**setting)


@pytest.mark.parametrize(
    ("user", "columns", "words"),
    [
        ("Say it.", ["text", "Öl"], r"put a placeholder into it: \{text\}$"),
        ("{my-text}", ["my-text"], r"write \{my_text\}, and inputs = \{ my_text = 'my-text' \}"),
        ("{2nd col}", ["2nd col"], r"write \{_2nd_col\}, and inputs = \{ _2nd_col = '2nd col' \}"),
        ("{Öl}", ["Öl"], r"write \{_Öl\}, and inputs = \{ '_Öl' = 'Öl' \}"),
    ],
)
def test_a_prompt_that_shows_nothing_of_a_row_is_refused(user: str, columns: list[str], words: str) -> None:
    samples = [Sample(id=str(n), inputs=dict.fromkeys(columns, f"row {n}"), ground_truth="a") for n in range(4)]
    with pytest.raises(TemplateError, match=words):
        Splits(train=samples, val=samples).check(PromptTemplate(system="Name it.", user_template=user))
