"""What a task app's answer says: a reward, or why there is none. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rollouts.dtypes import Metric, Score
from rollouts.errors import TaskAppError

_PLACES = ("reward_info", "metrics")
_NAMES = ("outcome_reward", "outcome_score", "mean_return", "reward_mean")
_TRANSIENT = ("network_error", "timeout")
_LARGEST = sys.float_info.max
_SHOWN = 300


def score_of(body: Mapping[str, Any]) -> Score:
    """The reward in the answer of an app of either generation, with its other objectives at weight 0.

    The first of these that is there counts: `reward_info.outcome_objectives.reward`, `reward_info.outcome_reward` and
    its older names, the same below `metrics`, the sum of the steps' rewards. Text in `details.feedback` is the
    score's feedback.

    Raises TaskAppError where the app says that it failed (`error`, `aborted`, a `success_status` other than `success`),
    and for a reward that is missing or is no finite number: neither is a score of 0.
    """
    refuse_failed(body)
    for name, value in _rewards(body):
        return Score(
            metrics=(Metric("reward", _number(name, value)), *_objectives(body)),
            feedback=_feedback(body),
        )
    raise TaskAppError(
        "the task app's answer has no reward; it should have reward_info.outcome_reward or metrics.mean_return"
    )


def refuse_failed(body: Mapping[str, Any]) -> None:
    """Raises TaskAppError where the answer says that there was no proper rollout."""
    status = body.get("success_status")
    if status is not None and status != "success":
        detail = body.get("status_detail") or body.get("error") or ""
        raise TaskAppError(
            f"the task app reports {shown(status)}{_after(detail)}",
            retryable=status in _TRANSIENT or bool(body.get("error")),
        )
    if error := body.get("error"):
        raise TaskAppError(f"the task app reports an error{_after(error)}", retryable=True)
    if body.get("aborted"):
        raise TaskAppError("the task app aborted the rollout")


def shown(value: Any) -> str:
    """`value` as one line of an error message, cut where it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _after(detail: Any) -> str:
    if isinstance(detail, Mapping):
        detail = detail.get("message") or dict(detail)
    return f": {shown(detail)}" if detail else ""


def _rewards(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for place in _PLACES:
        found = _table(body, place)
        objectives = _table(found, "outcome_objectives")
        if objectives.get("reward") is not None:
            yield f"{place}.outcome_objectives.reward", objectives["reward"]
        for name in _NAMES:
            if found.get(name) is not None:
                yield f"{place}.{name}", found[name]
    steps = [
        step["reward"]
        for trajectory in _tables(body.get("trajectories"))
        for step in _tables(trajectory.get("steps"))
        if step.get("reward") is not None
    ]
    if steps:
        yield "trajectories.steps", sum(_number("trajectories.steps.reward", reward) for reward in steps)


def _objectives(body: Mapping[str, Any]) -> Iterator[Metric]:
    for place in _PLACES:
        objectives = _table(_table(body, place), "outcome_objectives")
        for name, value in objectives.items():
            if name != "reward" and _finite(value):
                yield Metric(str(name), float(value), 0.0)


def _feedback(body: Mapping[str, Any]) -> str | None:
    for place in _PLACES:
        feedback = _table(_table(body, place), "details").get("feedback")
        if isinstance(feedback, str) and feedback.strip():
            return feedback
    return None


def _number(name: str, value: Any) -> float:
    if not _finite(value):
        raise TaskAppError(f"the task app's {name} is {shown(repr(value))}; a reward is a finite number")
    return float(value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _table(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in value if isinstance(entry, Mapping)) if isinstance(value, list) else iter(())
