"""What a set of constraints may say."""

from __future__ import annotations

import pytest

from rollouts.budget import Constraints
from rollouts.errors import ConfigError


def test_a_module_without_limits_has_none() -> None:
    limits = Constraints(max_latency_s=2, modules={"router": Constraints(max_p95_latency_s=0.5)})
    assert limits.of("router").max_p95_latency_s == 0.5
    assert limits.of("other") == Constraints()
    assert limits.cuts
    assert not limits.of("router").cuts
    assert Constraints(modules={"router": Constraints(max_latency_s=1)}).cuts


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_latency_s": 0}, "max_latency_s = 0"),
        ({"max_prompt_tokens": -1}, "above 0"),
        ({"max_cost_per_call_usd": -0.1}, "at least 0"),
        ({"max_p95_latency_s": float("nan")}, "max_p95_latency_s"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"max_latency_s": 1.0, "max_p95_latency_s": 2.0}, "more than max_latency_s"),
        ({"modules": {"a": Constraints(modules={"b": Constraints()})}}, "modules of their own"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Constraints(**limits)
