"""A reward is read by one precedence, and what is no reward is never taken for 0."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import TaskAppError
from rollouts.taskapp.rewards import score_of

ORDER: list[dict[str, Any]] = [
    {"reward_info": {"outcome_objectives": {"reward": 1}}},
    {"reward_info": {"outcome_reward": 2}},
    {"reward_info": {"outcome_score": 3}},
    {"reward_info": {"mean_return": 4}},
    {"metrics": {"outcome_objectives": {"reward": 5}}},
    {"metrics": {"outcome_reward": 6}},
    {"metrics": {"outcome_score": 7}},
    {"metrics": {"mean_return": 8}},
    {"metrics": {"reward_mean": 9}},
    {"trajectories": [{"steps": [{"reward": 4}, {"reward": 3.5}]}, {"steps": [{"reward": 2.5}, {}]}]},
]


def merged(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for body in bodies:
        for name, value in body.items():
            out[name] = {**out[name], **value} if isinstance(out.get(name), dict) else value
    return out


@pytest.mark.parametrize("place", range(len(ORDER)))
def test_the_first_place_counts(place: int) -> None:
    assert score_of(merged(ORDER[place:])).value == place + 1


def test_other_objectives_and_feedback_are_kept_but_do_not_count() -> None:
    info = {
        "outcome_reward": 0.5,
        "outcome_objectives": {"latency_ms": 12, "odd": "x"},
        "details": {"feedback": "Say less."},
    }
    score = score_of({"success_status": "success", "reward_info": info})
    assert score.value == 0.5
    assert [(m.name, m.value, m.weight) for m in score.metrics] == [("reward", 0.5, 1.0), ("latency_ms", 12.0, 0.0)]
    assert score.feedback == "Say less."


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, "0.5", True, [1], {}, 10**400])
@pytest.mark.parametrize("place", [0, 1, 5, 8])
def test_a_reward_that_is_no_number_is_refused_and_nothing_else_is_taken_instead(reward: Any, place: int) -> None:
    text = json.dumps(ORDER[place]).replace(str(place + 1), json.dumps(reward))
    with pytest.raises(TaskAppError, match="finite number"):
        score_of(merged([*ORDER[place + 1 :], json.loads(text)]))


@pytest.mark.parametrize(
    ("says", "retryable"),
    [
        ({"error": "rate limited"}, True),
        ({"error": {"message": "rate limited"}}, True),
        ({"aborted": True}, False),
        ({"success_status": "failure"}, False),
        ({"success_status": "runtime_error", "status_detail": "boom"}, False),
        ({"success_status": "network_error"}, True),
        ({"success_status": "timeout"}, True),
        ({"success_status": "failure", "error": "rate limited"}, True),
        ({"success_status": 7}, False),
    ],
)
def test_a_failure_with_a_reward_is_a_failure(says: dict[str, Any], retryable: bool) -> None:
    with pytest.raises(TaskAppError) as caught:
        score_of({"metrics": {"mean_return": 0.0}, "trajectories": [], **says})
    assert caught.value.retryable is retryable
    for word in ("rate limited", "boom"):
        assert (word in str(says)) == (word in str(caught.value))


def test_null_and_false_say_that_nothing_went_wrong() -> None:
    body = {"error": None, "aborted": False, "success_status": None, "metrics": {"mean_return": 0.0}}
    assert score_of(body).value == 0.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["reward_info", "metrics", "outcome_reward", "outcome_objectives", "reward", "trajectories", "steps"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["reward_info", "metrics", "trajectories", "error", "details"]), json_values))
def test_any_body_gives_a_finite_score_or_a_task_app_error(body: dict[str, Any]) -> None:
    try:
        score = score_of(body)
    except TaskAppError:
        return
    assert math.isfinite(score.value)
