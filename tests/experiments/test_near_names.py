"""Names that there are not: the end of the message, with and without a near one."""

from __future__ import annotations

import pytest

from rollouts.errors import ConfigError
from rollouts.experiments.near_names import did_you_mean
from rollouts.experiments.sweep.compare import compare
from tests.experiments.test_config_loading import base, problems
from tests.sweep.test_compare import runs


def test_the_message_goes_on_with_a_sentence_either_way() -> None:
    assert did_you_mean("exact_mach", ["f1", "exact_match"]) == "; did you mean 'exact_match'?"
    assert did_you_mean("zzz", ["f1", "exact_match"]) == did_you_mean("zzz", []) == "."


def test_a_metric_without_a_near_one() -> None:
    assert "no metric 'zzz'. Metrics: " in problems(base(score={"metric": "zzz"}))


def test_a_method_without_a_near_one() -> None:
    with pytest.raises(ConfigError, match=r"there is no method 'zzz'\. There are: adaptive, uniform"):
        compare(runs(2, adaptive=0.1, uniform=0.0), baseline="zzz")
