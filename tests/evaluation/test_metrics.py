"""The built-in metrics: what counts as right, what does not, and what the feedback says."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Sample, Score, ScoreFn, Trajectory
from rollouts.errors import ConfigError, EvaluationError
from rollouts.evaluation.metrics import (
    METRICS,
    contains,
    exact_match,
    f1,
    json_schema,
    normalise_answer,
    numeric_match,
    parse_number,
    regex,
)

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"


def scored(metric: ScoreFn, output: str, truth: Any) -> Score:
    found = metric(Trajectory(messages=(), output=output), Sample(inputs={"q": "?"}, ground_truth=truth, id="s1"))
    assert isinstance(found, Score)
    assert found.feedback
    return found


@pytest.mark.parametrize(
    ("output", "truth"),
    [
        ("positive", "positive"),
        ("  Positive.\n", "positive"),
        ("**Label:** positive", "positive"),
        ("Label: **positive**", "positive"),
        ("The answer is: `positive`.", "positive"),
        ("The intent is card arrival", "card arrival"),
        ("intent: card_arrival", "card_arrival"),
        ("Queue: billing", "billing"),
        ("Department: billing", "billing"),
        ("Intent label: card_arrival", "card_arrival"),
        ("The predicted class: billing", "billing"),
        ("```\npositive\n```", "positive"),
        ("```text\nvery positive\n```", "very positive"),
        ("“card_arrival”", "card_arrival"),
        ("Final answer: (B).", "B"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("STRASSE", "straße"),
        ("don’t know", "don't know"),
        ("true", True),
        ("5", 5.0),
        ("5", 5),
        ("?", "?"),
        ("b", ["a", "b"]),
        ("b", {"a", "b"}),
        ("note: this", "note: this"),
        ('{"a":1,"b":2}', {"b": 2, "a": 1}),
        ('{"team": "billing"}', {"team": "billing"}),
        ('```json\n{"b": [2, null], "a": "Billing."}\n```', {"a": "billing", "b": [2.0, None]}),
        (' {"a": {"b": true}} ', {"a": {"b": True}}),
        ('{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('["a", "b"]', [["a", "b"]]),
        ('Answer: {"a":1}', {"a": 1}),
    ],
)
def test_exact_match_accepts(output: str, truth: Any) -> None:
    found = scored(exact_match(), output, truth)
    assert (found.value, found.feedback) == (1.0, "Correct.")


@pytest.mark.parametrize(
    ("output", "truth"),
    [
        ("negative", "positive"),
        ("not positive", "positive"),
        ("not: positive", "positive"),
        ("Not positive: negative", "negative"),
        ("Positive: negative", "negative"),
        ("Billing: sales", "sales"),
        ("I am unsure: billing", "billing"),
        ("Wrong answer: billing", "billing"),
        ("it is positive", "positive"),
        ("positive or negative", "positive"),
        (".5", "5"),
        ("-5", "5"),
        ("5%", "5"),
        ("C++", "C"),
        ("#1", "1"),
        ("?", "!"),
        ("", "positive"),
        ("Answer:", ""),
        ("Ratio 3: 4", "4"),
        ("cafe", "café"),
        ("billing", {"team": "billing"}),
        ('{"team": "sales"}', {"team": "billing"}),
        ('{"team": "billing", "more": 1}', {"team": "billing"}),
        ('{"team": "billing"', {"team": "billing"}),
        ('It is {"team": "billing"}', {"team": "billing"}),
        ('{"a": 1}', {"a": True}),
        ('{"a": [1, 2]}', {"a": [2, 1]}),
        ('{"a": [1]}', {"a": [1, 1]}),
        ('[{"a": 1}]', {"a": 1}),
        ("[" * 100_000, {"a": 1}),
    ],
)
def test_exact_match_refuses(output: str, truth: Any) -> None:
    found = scored(exact_match(), output, truth)
    assert found.value == 0.0
    assert found.feedback is not None
    assert found.feedback.startswith("Expected ")


def test_exact_match_strict_compares_every_character() -> None:
    strict = exact_match(normalise=False)
    assert scored(strict, "Yes", "Yes").value == 1.0
    assert scored(strict, "yes", "Yes").value == 0.0
    assert scored(strict, "Yes ", "Yes").value == 0.0
    assert scored(strict, '{ "a": "Yes" }', {"a": "Yes"}).value == 1.0
    assert scored(strict, '{ "a": "yes" }', {"a": "Yes"}).value == 0.0
    assert scored(strict, '```json\n{"a": "Yes"}\n```', {"a": "Yes"}).value == 0.0


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_and_never_empties(text: str) -> None:
    once = normalise_answer(text)
    assert normalise_answer(once) == once
    assert bool(once) == bool("".join(text.replace("\u200b", "").split()))


@given(st.text(min_size=1, max_size=30))
def test_every_text_matches_itself(text: str) -> None:
    assert scored(exact_match(), text, text).value == 1.0
    assert scored(exact_match(normalise=False), text, text).value == 1.0
    assert scored(f1(), text, text).value == 1.0


@pytest.mark.parametrize(
    ("output", "truth", "value"),
    [
        ("It is a CAT, I think", "cat", 1),
        ("concatenate", "cat", 0),
        ("price: $5.", "$5", 1),
        ("use C++ here", "C++", 1),
        ("答えは東京です", "東京", 1),
        ("", "cat", 0),
        ("a dog", ["cat", "dog"], 1),
        ('It is {"b": 2, "a": "X"}, I think', {"a": "x", "b": 2}, 1),
        ('{"a": 1} or {"a": 2}', [{"a": 3}, {"a": 2}], 1),
        ('It is {"a": 1, "b": 2}', {"a": 1}, 0),
        ("a is 1", {"a": 1}, 0),
    ],
)
def test_contains(output: str, truth: Any, value: float) -> None:
    assert scored(contains(), output, truth).value == value


def test_contains_strict_is_substring_search() -> None:
    strict = contains(normalise=False)
    assert scored(strict, "concatenate", "cat").value == 1.0
    assert scored(strict, "Cat", "cat").value == 0.0


@pytest.mark.parametrize(
    ("output", "truth", "value"),
    [
        ("the cat sat", "cat sat", 1.0),
        ("Cat, sat!", "a cat sat", 1.0),
        ("cat", "cat sat", 2 / 3),
        ("cat cat", "cat sat", 1 / 2),
        ("dog", "cat", 0.0),
        ("", "", 1.0),
        ("", "cat", 0.0),
        ("the", "a", 1.0),
        ("cat sat", ["dog", "cat"], 2 / 3),
    ],
)
def test_f1(output: str, truth: Any, value: float) -> None:
    assert scored(f1(), output, truth).value == pytest.approx(value)


def test_f1_says_what_is_missing_and_extra() -> None:
    feedback = scored(f1(), "cat ran", "cat sat").feedback
    assert feedback == "Expected 'cat sat'; missing 'sat', extra 'ran'."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 42", 42),
        ("so 3 and 4\n#### 1,234", 1234),
        ("#### Step 3: add\nso it is 42", 42),
        ("The answer is 42. I checked it 3 times.", 42),
        ("the answer is 6*7 = 42.", 42),
        ("**Answer:** 7 apples in 2 bags", 7),
        ("Answer:\n\n42", 42),
        ("3 + 4 makes 7", 7),
        (r"so \boxed{42} since 3=3", 42),
        (r"\boxed{1{,}000}", 1000),
        (r"\frac{3}{4}", 0.75),
        ("$1,234.50", 1234.5),
        ("-$5", -5),
        ("$-5", -5),
        ("−5", -5),
        ("x=-5", -5),
        ("- 5 apples", 5),
        ("3-5", 5),
        ("10 - 4", 4),
        ("1 1/2", 1.5),
        ("3/4", 0.75),
        (".5", 0.5),
        ("1e3", 1000),
        ("1\u202f000", 1000),
        ("42km.", 42),
        ("€5.", 5),
        ("1,200,30", 30),
    ],
)
def test_numbers_are_read(text: str, value: float) -> None:
    number = parse_number(text)
    assert number is not None
    assert float(number.value) == value


@pytest.mark.parametrize("text", ["", "twelve", "B2", "1/0", "1" * 5000, "...", "$"])
def test_no_number_is_read(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("output", "truth", "value"),
    [
        ("50%", 0.5, 1),
        ("50%", 50, 1),
        ("0.5", "50%", 1),
        ("50%", "0.5%", 0),
        ("50", 0.5, 0),
        ("0.1", 0.1, 1),
        ("0.3333333", "1/3", 1),
        ("0.33", "1/3", 0),
        ("41", 42, 0),
        ("12345678901234567891", 12345678901234567890, 1),
        ("7", [6, 7], 1),
        ("Janet makes $18", "9 * 2 = $<<9*2=18>>18 every day\n#### 18", 1),
        ("1e400/3", 5, 0),
    ],
)
def test_numeric_match(output: str, truth: Any, value: float) -> None:
    assert scored(numeric_match(), output, truth).value == value


def test_numeric_tolerances() -> None:
    assert scored(numeric_match(tolerance=0.5), "42.5", 42).value == 1.0
    assert scored(numeric_match(tolerance=0.5), "42.51", 42).value == 0.0
    assert scored(numeric_match(rel_tol=0.01), "101", 100).value == 1.0
    assert scored(numeric_match(rel_tol=0), "12345678901234567891", 12345678901234567890).value == 0.0
    assert scored(numeric_match(rel_tol=0), "0.1", 0.1).value == 1.0
    with pytest.raises(ConfigError, match="at least 0"):
        numeric_match(tolerance=-1)


def test_numeric_feedback() -> None:
    assert scored(numeric_match(), "It is 41.", 42).feedback == "Expected 42, got 41 (from 'It is 41.')."
    assert "holds no number" in str(scored(numeric_match(), "no idea", 42).feedback)


def test_a_truth_without_a_number_is_an_error_not_a_score() -> None:
    with pytest.raises(EvaluationError, match="'s1' holds no number"):
        scored(numeric_match(), "42", "many")
    with pytest.raises(EvaluationError, match="holds no number"):
        scored(numeric_match(), "42", float("nan"))


@given(st.integers(-(10**12), 10**12))
def test_integers_are_read_as_people_write_them(value: int) -> None:
    for text in (f"{value}", f"{value:,}", f"It is {value:,}.", f"#### {value}", f"**{value}**", f"${value}$"):
        number = parse_number(text)
        assert number is not None
        assert number.value == value


@pytest.mark.shared
def test_every_gsm8k_solution_is_read() -> None:
    folder = SHARED / "data" / "gsm8k"
    if not folder.is_dir():
        pytest.skip("the gsm8k data are not beside the checkout")
    lines = [(folder / f"{name}.jsonl").read_text("utf-8").splitlines() for name in ("train", "test")]
    rows = [json.loads(line) for part in lines for line in part]
    assert rows
    for row in rows:
        final = row["answer"].rpartition("####")[2].strip()
        assert scored(numeric_match(), f"So the answer is ${final}.", row["answer"]).value == 1.0


SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("output", "value", "says"),
    [
        ('{"age": 3}', 1, "Correct"),
        ('```json\n{"age": 3}\n```', 1, "Correct"),
        ('{"age": "3"}', 0, "$.age: '3' is not of type 'integer'"),
        ("{}", 0, "'age' is a required property"),
        ('Here: {"age": 3}', 0, "not JSON"),
        ('{"age": NaN}', 0, "NaN is not JSON"),
        ("", 0, "not JSON"),
        ("[" * 100_000, 0, "not JSON"),
    ],
)
def test_json_schema(output: str, value: float, says: str) -> None:
    found = scored(json_schema(SCHEMA), output, None)
    assert found.value == value
    assert says in str(found.feedback)


def test_json_schema_without_fence() -> None:
    assert scored(json_schema(SCHEMA, allow_fence=False), '```json\n{"age": 3}\n```', None).value == 0.0


def test_json_schema_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    assert json_schema(schema_path=path).identity == json_schema(SCHEMA).identity
    path.write_text("[1")
    with pytest.raises(ConfigError, match="is not JSON"):
        json_schema(schema_path=path)
    with pytest.raises(ConfigError, match="can't be read"):
        json_schema(schema_path=tmp_path / "absent.json")


def test_a_broken_schema_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="broken"):
        json_schema({"type": "objekt"})
    with pytest.raises(ConfigError, match="either 'schema' or 'schema_path'"):
        json_schema()


def test_a_schema_never_reaches_for_the_network() -> None:
    metric = json_schema({"$ref": "http://127.0.0.1:9/schema.json"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EvaluationError, match="can't be resolved"):
            scored(metric, "{}", None)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ConfigError, match="pip install jsonschema"):
        json_schema(SCHEMA)


@pytest.mark.parametrize(
    ("options", "output", "truth", "value"),
    [
        ({"pattern": r"\d+"}, "room 12", None, 1),
        ({"pattern": r"\d+", "full": True}, "room 12", None, 0),
        ({"pattern": r"\d+", "full": True}, " 12\n", None, 1),
        ({"pattern": "yes", "ignore_case": True}, "YES", None, 1),
        ({"pattern": "yes"}, "YES", None, 0),
        ({"pattern": r"answer: {ground_truth}\b"}, "answer: a+b", "a+b", 1),
        ({"pattern": r"answer: {ground_truth}\b"}, "answer: aab", "a+b", 0),
        ({"pattern": r"x{3}"}, "xxx", None, 1),
        ({}, "aab", "a+b", 1),
        ({}, "zzz", ["a+b", "z{3}"], 1),
    ],
)
def test_regex(options: dict[str, Any], output: str, truth: Any, value: float) -> None:
    assert scored(regex(**options), output, truth).value == value


def test_broken_patterns() -> None:
    with pytest.raises(ConfigError, match="not a regular expression"):
        regex("(")
    with pytest.raises(EvaluationError, match="not a regular expression"):
        scored(regex(), "x", "(")


@pytest.mark.parametrize("metric", [exact_match(), contains(), f1(), numeric_match(), regex()])
@pytest.mark.parametrize("truth", [None, [], ["a", None]])
def test_a_missing_ground_truth_is_an_error_not_a_score(metric: ScoreFn, truth: Any) -> None:
    with pytest.raises(EvaluationError, match="ground truth"):
        scored(metric, "x", truth)


@pytest.mark.parametrize("metric", [exact_match(), contains(), f1(), numeric_match(), regex()])
def test_feedback_stays_short(metric: ScoreFn) -> None:
    found = scored(metric, "word " * 10_000, "1 " * 10_000)
    assert len(str(found.feedback)) < 1200


def test_every_metric_names_itself() -> None:
    assert set(METRICS) == {
        "contains", "exact_match", "f1", "json_schema", "judge", "llm_judge", "numeric_match", "regex"
    }  # fmt: skip
    assert scored(exact_match(), "x", "x").metrics[0].name == "exact_match"
