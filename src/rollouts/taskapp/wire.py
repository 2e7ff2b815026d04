"""The bodies of `/rollout`: the request and the answer that both generations of SDK-built apps and clients accept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rollouts.dtypes import Score
from rollouts.errors import ConfigError

SUCCESS = "success"


def request_body(
    *,
    seed: int,
    correlation_id: str,
    run_id: str,
    env: Mapping[str, Any],
    policy: Mapping[str, Any],
    max_time_s: float,
) -> dict[str, Any]:
    """What a client sends: the fields that the older generation asks for and those of the newer one.

    `env` may hold `env_id`, `env_name` and `config`; `policy` is the `config` of the policy (model, provider,
    inference_url, sampling).
    """
    return {
        "run_id": run_id,
        "trace_correlation_id": correlation_id,
        "mode": "eval",
        "env": {"config": {}, **env, "seed": seed},
        "policy": {"policy_id": "policy", "config": dict(policy)},
        "ops": [],
        "record": {"trajectories": True},
        "on_done": "reset",
        "safety": {"max_time_s": math.ceil(max_time_s)},
    }


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class EnvPart(_Part):
    """Which sample. A seed beyond the data set starts again at its beginning."""

    env_id: str | None = None
    env_name: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None


class PolicyPart(_Part):
    """How the model is called: `config` holds inference_url, model, sampling and, where it is needed, api_key."""

    policy_id: str | None = None
    policy_name: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class RolloutRequest(_Part):
    """What an app is asked; fields that it has no use for are accepted and ignored."""

    run_id: str = ""
    trace_correlation_id: str = ""
    env: EnvPart
    policy: PolicyPart

    @property
    def seed(self) -> int:
        """`env.seed`, or the one in `env.config`, where some clients put it; 0 when there is none.

        Raises ConfigError when that is no whole number."""
        found = self.env.seed if self.env.seed is not None else self.env.config.get("seed", 0)
        if not isinstance(found, int):
            raise ConfigError("env.config.seed must be a whole number")
        return found


def answer_body(request: RolloutRequest, score: Score) -> dict[str, Any]:
    """What an app answers to a rollout that went to its end."""
    reward, url = score.value, request.policy.config.get("inference_url")
    correlation_id = request.trace_correlation_id or request.run_id
    objectives = {**{metric.name: metric.value for metric in score.metrics}, "reward": reward}
    details = {"feedback": score.feedback} if score.feedback else {}
    step = {"obs": {"seed": request.seed}, "reward": reward, "done": True}
    return {
        "run_id": request.run_id or correlation_id,
        "trace_correlation_id": correlation_id,
        "success_status": SUCCESS,
        "aborted": False,
        "inference_url": url,
        "reward_info": {"outcome_reward": reward, "outcome_objectives": objectives, "details": details},
        "metrics": {
            "episode_returns": [reward],
            "mean_return": reward,
            "num_steps": 1,
            "num_episodes": 1,
            "outcome_score": reward,
            "details": details,
        },
        "trajectories": [
            {
                "env_id": request.env.env_id or request.env.env_name or "task",
                "policy_id": request.policy.policy_id or request.policy.policy_name or "policy",
                "steps": [step],
                "length": 1,
                "inference_url": url,
            }
        ],
        "ops_executed": 1,
    }
