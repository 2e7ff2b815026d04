"""A task over HTTP: samples and a function become the routes that clients of both generations know."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from pydantic import ValidationError

from rollouts.datasets import label_counts
from rollouts.dtypes import Program, PromptTemplate, Sample, as_program
from rollouts.errors import ConfigError, DataError, ProviderError, RateLimited, RolloutsError
from rollouts.evaluation.metrics import to_score
from rollouts.taskapp.auth import Guard, keys_of
from rollouts.taskapp.calls import Rollout, opened
from rollouts.taskapp.wire import RolloutRequest, answer_body

_log = logging.getLogger(__name__)
_MAX_BODY = 1 << 20

RolloutFn = Callable[[Rollout], Awaitable[Any]]
"""A rollout -> its reward: a number, (number, feedback), a dict of numbers or a `Score`."""


def create_task_app(
    app_id: str,
    samples: Sequence[Sample],
    rollout: RolloutFn,
    *,
    description: str = "",
    baseline: Program | PromptTemplate | None = None,
    keys: Sequence[str] | None = None,
) -> FastAPI:
    """The app: `/health`, `/info`, `/task_info`, `/rollout` and `/done`.

    `samples` are numbered from 0, and a seed is such a number; `rollout` runs one of them and says what it was worth.
    What `rollout` raises is told as an error, never as a reward of 0. `baseline` are the prompts that it renders; at
    `/info` clients read them there, so that a job need not repeat them. `keys` are the environment keys that let a
    client in, by default those of the environment (see `keys_of`).

    Raises DataError when there are no samples.
    """
    if not samples:
        raise DataError(f"task app {app_id!r} has no samples")
    task = _Task(
        app_id=app_id,
        samples=samples,
        rollout=rollout,
        description=description,
        baseline=None if baseline is None else as_program(baseline),
        guard=Guard(keys_of() if keys is None else keys),
    )
    app = FastAPI(title=app_id, description=description)
    locked = [Depends(task.guard)]
    app.add_api_route("/", task.root, methods=["GET", "HEAD"])
    app.add_api_route("/health", task.health)
    app.add_api_route("/info", task.info, dependencies=locked)
    app.add_api_route("/task_info", task.task_info, dependencies=locked)
    app.add_api_route("/rollout", task.run, methods=["POST"], dependencies=locked)
    app.add_api_route("/done", task.done, methods=["POST"], dependencies=locked)
    return app


async def _asked(request: Request) -> RolloutRequest:
    """The body of a rollout. It is read here, and not declared to FastAPI, so that a key is asked for before."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY:
            raise HTTPException(413, f"the body is longer than {_MAX_BODY:,} bytes")
    try:
        return RolloutRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        # What is wrong, without the body itself: it may hold keys.
        raise HTTPException(422, error.errors(include_url=False, include_context=False, include_input=False)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is served; one method for each route."""

    app_id: str
    samples: Sequence[Sample]
    rollout: RolloutFn
    description: str
    baseline: Program | None
    guard: Guard = field(repr=False)

    async def root(self) -> dict[str, Any]:
        """What this is."""
        return {"status": "ok", "service": self.app_id}

    async def health(self, request: Request) -> dict[str, Any]:
        """Open to all; `authorized` tells a client whether its key is right."""
        return {"status": "ok", "healthy": True, "authorized": self.guard.admits(request), "auth": {"required": True}}

    async def info(self) -> dict[str, Any]:
        """The service, and the prompts that it renders."""
        modules = {} if self.baseline is None else self.baseline.modules
        return {
            "service": {"task": {"id": self.app_id, "name": self.app_id}, "version": "1"},
            "dataset": {"id": self.app_id, "size": len(self.samples)},
            "rubrics": {},
            "inference": {"supports_proxy": True},
            "limits": {},
            "baseline": {name: template.to_json() for name, template in modules.items()},
        }

    async def task_info(
        self, seed: Annotated[list[int] | None, Query()] = None, seeds: Annotated[list[int] | None, Query()] = None
    ) -> Any:
        """The task set; or one sample, or several, where seeds are named."""
        wanted = [*(seed or ()), *(seeds or ())]
        if not wanted:
            return self._taskset()
        rows = [self._row(number) for number in wanted]
        return rows[0] if len(rows) == 1 else rows

    async def run(self, body: Annotated[RolloutRequest, Depends(_asked)]) -> Any:
        """One rollout and its reward."""
        try:
            async with opened(body, self.samples) as rollout:
                score = to_score(await self.rollout(rollout))
        except ConfigError as error:
            raise HTTPException(422, str(error)) from None
        except ProviderError as error:
            raise _upstream(error) from None
        except RolloutsError as error:
            raise HTTPException(getattr(error, "status", None) or 500, str(error)) from None
        except Exception as error:  # noqa: BLE001 - the boundary at which a user's error becomes an answer
            _log.exception("the rollout of seed %d failed", body.seed)
            raise HTTPException(500, f"the rollout function raised {type(error).__name__}") from None
        return answer_body(body, score)

    async def done(self) -> dict[str, Any]:
        """A client says that it needs the app no longer."""
        return {"ok": True, "service": self.app_id}

    def _taskset(self) -> dict[str, Any]:
        labels = sorted(label_counts(self.samples) or ())
        size = len(self.samples)
        taskset = {"id": self.app_id, "name": self.app_id, "description": self.description, "size": size}
        return {
            "taskset": {**taskset, "labels": labels},
            "task_app_id": self.app_id,
            "dataset_size": size,
            "labels": labels,
        }

    def _row(self, seed: int) -> dict[str, Any]:
        sample = self.samples[seed % len(self.samples)]
        return {
            "task": {"id": self.app_id, "name": self.app_id, "version": "1"},
            "environment": self.app_id,
            "dataset": {"id": self.app_id, "size": len(self.samples)},
            "rubric": {"version": "1"},
            "inference": {"supports_proxy": True},
            "limits": {},
            "task_metadata": {"seed": seed, "inputs": dict(sample.inputs), "ground_truth": sample.ground_truth},
        }


def _upstream(error: ProviderError) -> HTTPException:
    """The model's failure as the client's: one that asks to wait passes on for how long."""
    if isinstance(error, RateLimited):
        wait = error.retry_after
        return HTTPException(429, str(error), {} if wait is None else {"Retry-After": f"{wait:g}"})
    return HTTPException(502, f"the model call failed: {error}")
