"""Names to metrics, identities of metrics, and what a metric may return."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollouts.dtypes import Metric, Sample, Score, Trajectory
from rollouts.errors import ConfigError, EvaluationError
from rollouts.evaluation.metrics import exact_match, metric_identity, numeric_match, resolve_metric, to_score

ANSWER = Trajectory(messages=(), output="42")
SAMPLE = Sample(inputs={}, ground_truth="42", id="s1")


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with modules of its own, forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("wd_"):
            del sys.modules[name]


def write(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(code))


def test_a_module_that_ends_the_process_on_import_is_named(workdir: Path) -> None:
    write(workdir, "wd_ends", "import sys\nsys.exit(3)")
    with pytest.raises(ConfigError, match=r"'wd_ends:score'.*SystemExit\(3\)"):
        resolve_metric("wd_ends:score")


@pytest.mark.parametrize("name", ["exact_match", "exact-match", " Exact_Match "])
def test_built_in_names(name: str) -> None:
    assert metric_identity(resolve_metric(name)) == exact_match().identity


def test_options_reach_the_factory() -> None:
    assert metric_identity(resolve_metric("numeric_match", tolerance=0.5)) == numeric_match(tolerance=0.5).identity


def test_a_callable_is_passed_through() -> None:
    def score(trajectory: Trajectory, sample: Sample) -> float:
        return 1.0

    assert resolve_metric(score) is score
    with pytest.raises(ConfigError, match="already a function"):
        resolve_metric(score, normalise=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("exact_mach", "did you mean 'exact_match'"),
        ("nonsense", "known: contains, exact_match"),
        ("my_metrics.score", "write 'my_metrics:score'"),
        ("my_metrics.py", "'package.module:function'"),
        ("metrics.py:score", "'my_metrics:score' for my_metrics.py"),
        ("./metrics:score", "must be 'package.module:function'"),
        (":score", "must be 'package.module:function'"),
        ("wd_absent:score", "no module 'wd_absent'"),
        ("wd_absent.sub:score", "no module 'wd_absent'"),
        ("json.absent:score", "no module 'json.absent'"),
        ("json:dump_all", "has no 'dump_all'"),
        ("json:dum", "did you mean 'dump'"),
        ("math:pi", "is a float, not a function"),
    ],
)
def test_what_is_not_found_is_explained(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_metric(name)
    assert says in str(caught.value)


@pytest.mark.parametrize("options", [{"normalize": False}, {"pattern": "x"}])
def test_unknown_options_name_the_known_ones(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"exact_match.*unexpected keyword.*options: normalise"):
        resolve_metric("exact_match", **options)


def test_missing_options_are_named() -> None:
    with pytest.raises(ConfigError, match=r"missing a required argument: 'generate'"):
        resolve_metric("judge")


@pytest.mark.parametrize("wrong", [None, 3, ["exact_match"]])
def test_only_names_and_functions_are_metrics(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="a metric is a name or a function"):
        resolve_metric(wrong)


def test_import_from_the_working_directory(workdir: Path) -> None:
    write(workdir, "wd_mine", "def score(trajectory, sample):\n    return trajectory.output == sample.ground_truth\n")
    metric = resolve_metric("wd_mine:score")
    assert to_score(metric(ANSWER, SAMPLE)).value == 1.0


def test_import_of_an_attribute_of_a_class(workdir: Path) -> None:
    write(workdir, "wd_class", "class M:\n    @staticmethod\n    def score(t, s):\n        return 0.25\n")
    assert to_score(resolve_metric("wd_class:M.score")(ANSWER, SAMPLE)).value == 0.25


def test_options_make_the_imported_function_a_factory(workdir: Path) -> None:
    write(
        workdir, "wd_factory", "def make(value):\n    return lambda t, s: value\n\ndef bad(value):\n    return value\n"
    )
    assert to_score(resolve_metric("wd_factory:make", value=0.5)(ANSWER, SAMPLE)).value == 0.5
    with pytest.raises(ConfigError, match="not a function"):
        resolve_metric("wd_factory:bad", value=0.5)


def test_broken_modules_say_what_is_broken(workdir: Path) -> None:
    write(workdir, "wd_needs", "import wd_not_installed\n")
    write(workdir, "wd_syntax", "def score(:\n")
    write(workdir, "wd_from", "from json import nothing_there\n")
    with pytest.raises(ConfigError, match="needs 'wd_not_installed', which is not installed"):
        resolve_metric("wd_needs:score")
    with pytest.raises(ConfigError, match=r"can't be imported.*line 1"):
        resolve_metric("wd_syntax:score")
    with pytest.raises(ConfigError, match="can't be imported"):
        resolve_metric("wd_from:score")


METRIC = """
    LIMIT = 3

    def helper(text):
        return len(text) > LIMIT

    def unrelated():
        return 1

    def score(trajectory, sample):
        return helper(trajectory.output)
"""


def _identity(folder: Path, code: str) -> str:
    """The identity as a fresh process with its own hash seed sees it."""
    write(folder, "wd_edited", code)
    script = "from rollouts.evaluation.metrics import *; print(metric_identity(resolve_metric('wd_edited:score')))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_an_edited_metric_has_another_identity(tmp_path: Path) -> None:
    start = _identity(tmp_path, METRIC)
    assert start.startswith("wd_edited:score#")
    assert _identity(tmp_path, METRIC) == start
    assert _identity(tmp_path, METRIC.replace("return 1", "return 2")) == start
    assert _identity(tmp_path, METRIC.replace("helper(trajectory.output)", "not helper(trajectory.output)")) != start
    assert _identity(tmp_path, METRIC.replace("len(text) >", "len(text) <")) != start
    assert _identity(tmp_path, METRIC.replace("LIMIT = 3", "LIMIT = 4")) != start


def _with_closure(limit: Any) -> Any:
    return lambda trajectory, sample: float(len(trajectory.output) > limit)


def _with_default(trajectory: Trajectory, sample: Sample, limit: int = 3) -> float:
    return float(len(trajectory.output) > limit)


class _Callable:
    def __init__(self, limit: Any) -> None:
        self.limit = limit

    def __call__(self, trajectory: Trajectory, sample: Sample) -> float:
        return float(len(trajectory.output) > self.limit)

    def method(self, trajectory: Trajectory, sample: Sample) -> float:
        return 0.0


@pytest.mark.parametrize(
    "make",
    [
        _with_closure,
        _Callable,
        lambda limit: _Callable(limit).method,
        lambda limit: functools.partial(_with_default, limit=limit),
        lambda limit: functools.partial(_with_closure(limit)),
        lambda limit: numeric_match(tolerance=float(limit)),
    ],
)
def test_what_a_metric_is_bound_to_counts(make: Any) -> None:
    assert metric_identity(make(1)) == metric_identity(make(1))
    assert metric_identity(make(1)) != metric_identity(make(2))


@pytest.mark.parametrize("state", [object(), {1, 2}, {"b": 1, 2: "a"}, np.zeros(2), _Callable])
def test_state_that_is_not_json_does_no_harm(state: Any) -> None:
    identity = metric_identity(_with_closure(state))
    assert identity == metric_identity(_with_closure(state))
    assert "0x" not in identity


def test_a_metric_that_refers_to_itself() -> None:
    def score(trajectory: Trajectory, sample: Sample) -> float:
        return score(trajectory, sample)

    assert metric_identity(score) == metric_identity(score)


def test_code_without_source_is_told_apart() -> None:
    def made(code: str) -> Any:
        space: dict[str, Any] = {"__name__": "typed"}
        exec(code, space)
        return space["score"]

    one = "def score(t, s):\n    return 1.0 if t.output in {'a', 'b'} else 0.0"
    assert metric_identity(made(one)) == metric_identity(made(one))
    assert metric_identity(made(one)) != metric_identity(made(one.replace("0.0", "0.5")))
    assert metric_identity(max) == metric_identity(max)  # type: ignore[arg-type]


def test_a_stated_identity_is_taken() -> None:
    def score(trajectory: Trajectory, sample: Sample) -> float:
        return 1.0

    score.identity = "mine-v2"  # type: ignore[attr-defined]
    assert metric_identity(score) == "mine-v2"


def test_built_in_identities_hold_the_options() -> None:
    assert exact_match().identity == 'exact_match@3{"normalise":true}'
    assert repr(exact_match()) == '<metric exact_match@3{"normalise":true}>'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (0, 0.0),
        (0.25, 0.25),
        (Decimal("0.5"), 0.5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
        (np.array(0.75), 0.75),
        ((0.5, "why"), 0.5),
        ({"a": 1, "b": 0}, 0.5),
        ({"score": 0.8, "length": 120}, 0.8),
        ({"score": True, "feedback": "good"}, 1.0),
        (Score(metrics=(Metric("x", 0.5), Metric("y", 9.0, 0.0))), 0.5),
    ],
)
def test_what_a_metric_may_return(value: Any, expected: float) -> None:
    found = to_score(value)
    assert found.value == expected
    assert all(type(metric.value) is float for metric in found.metrics)


def test_feedback_and_reported_metrics_are_kept() -> None:
    found = to_score({"score": 0.8, "length": 120, "feedback": "long"})
    assert found.feedback == "long"
    assert found.metrics == (Metric("score", 0.8, 1.0), Metric("length", 120.0, 0.0))
    assert to_score((1, "why")).feedback == "why"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "returned None"),
        ("0.9", "a str"),
        ([1], "a list"),
        (math.nan, "nan, which is no score"),
        (math.inf, "inf, which is no score"),
        (np.float64("nan"), "nan"),
        (np.zeros(2), "a ndarray"),
        ({}, "without numbers"),
        ({"feedback": "only"}, "without numbers"),
        ({"a": "b"}, "'a' = a str"),
        ({"a": math.nan}, "'a' = nan"),
        ({"score": 1, "feedback": 3}, "'feedback' of type int"),
        (Score(metrics=()), "no metric has weight"),
        (Score(metrics=(Metric("x", 1.0, 0.0),)), "no metric has weight"),
        (Score(metrics=(Metric("x", math.nan),)), "'x' = nan"),
        (object(), "a object; return a number"),
    ],
)
def test_what_a_metric_may_not_return(value: Any, says: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        to_score(value)
    assert says in str(caught.value)
