"""Online mode as the SDK speaks it: sessions (SDK 0.7), and systems (its demos). A session, a system and a job are one
thing here, and have one id."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from rollouts.errors import ConfigError, ServiceError, TaskAppError
from rollouts.integrations.exports.native import best_prompt
from rollouts.service.jobs import JobRow
from rollouts.service.online import ROLLOUT_ID, OnlineSystem, replaced
from rollouts.service.problems import BODY, refusals
from rollouts.service.state import ServiceState, State
from rollouts.service.synth import views
from rollouts.service.synth.creating import submit
from rollouts.service.synth.results import prompt_json
from rollouts.service.synth.routes import Worker
from rollouts.taskapp.rewards import score_of

JSON = dict[str, Any]
BASE = "/api/prompt-learning/online/mipro"
_BEGINS_WITHIN_S = 5.0

router = APIRouter(prefix=BASE, tags=["synth-ai"], responses=refusals(401, 403, 404, 409, 422))

Rollout = Annotated[str, Field(pattern=f"^{ROLLOUT_ID}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class NewSession(_Body):
    """What is to be served, as a job's body. The session's id is the service's, whatever is asked for."""

    config_body: dict[str, Any] | None = None
    config_name: str | None = None
    config_path: str | None = None
    overrides: dict[str, Any] = {}
    correlation_id: Rollout | None = None
    agent_id: Rollout | None = None


class Reward(_Body):
    """What a rollout was worth. It is named by the first id that is there; without one, the last that was served is
    meant."""

    reward_info: dict[str, Any]
    rollout_id: Rollout | None = None
    correlation_id: Rollout | None = None
    trace_ref: Rollout | None = None
    candidate_id: str | None = Field(None, max_length=100)
    stop: bool = False


class RolloutStatus(_Body):
    """How a rollout stands: `reward` with its reward, `done` when it makes no more calls."""

    rollout_id: Rollout
    status: str = Field(max_length=50, examples=["reward", "done"])
    reward: float | None = Field(None, allow_inf_nan=False)
    candidate_id: str | None = Field(None, max_length=100)


class NewCandidate(_Body):
    """A prompt to try: the start with texts replaced."""

    deltas: dict[str, Any] = Field(
        examples=[{"transformation": {"text_replacements": [{"old_text": "Route.", "new_text": "Route it."}]}}]
    )


def _checked(job: JobRow) -> JobRow:
    if job.kind != "online":
        raise ServiceError(f"job {job.id} is not one of online mode", status=404, code="not_found")
    return job


async def _session(session_id: str, state: State, who: Worker) -> JobRow:
    return _checked(await asyncio.to_thread(state.jobs.get, session_id, who.owner))


async def _system(system_id: str, state: State, who: Worker) -> JobRow:
    return _checked(await asyncio.to_thread(state.jobs.get, system_id, who.owner))


Session = Annotated[JobRow, Depends(_session)]
System = Annotated[JobRow, Depends(_system)]


@router.post("/sessions", summary="Begin a session", responses={**BODY, **refusals(429)})
async def create_session(new: NewSession, state: State, who: Worker) -> JSON:
    """Begins to serve a prompt, and to learn which change of it earns more."""
    if new.config_body is None:
        raise ConfigError("config_body: missing; the service reads no config by name or path: send the job itself")
    body = {"config_body": new.config_body, "overrides": new.overrides}
    job = await submit(state, body, who.owner, "canonical", live=True)
    await state.online.begun(job.id, _BEGINS_WITHIN_S)
    return session_json(state, job, new.correlation_id or new.agent_id)


@router.get("/sessions/{session_id}", summary="One session")
async def get_session(session: Session, state: State) -> JSON:
    """The session as it is now, and what is known of its candidates."""
    live = {}
    with suppress(ServiceError):
        live = system_json(state.online.find(session.id))
    return {**views.job_json(state, session), **session_json(state, session, None), "state": live}


@router.get("/sessions/{session_id}/prompt", summary="Where a rollout's calls go")
async def get_prompt(session: Session, state: State, correlation_id: Annotated[Rollout | None, Query()] = None) -> JSON:
    """The address for the rollout that the correlation id stands for, and the prompt that its calls will carry."""
    said = session_json(state, session, correlation_id)
    system = state.online.find(session.id)
    name = system.bandit.best if correlation_id is None else system.rollout(correlation_id).candidate
    return {**said, "candidate_id": name, "prompt": _prompt(system, name)}


@router.post("/sessions/{session_id}/reward", summary="What a rollout was worth", responses=BODY)
async def reward(session: Session, told: Reward, state: State) -> JSON:
    """Credits the candidate whose prompt the rollout's calls carried, once. It is durable when this is answered."""
    value = reward_of(told.reward_info)
    system = state.online.find(session.id)
    rollout = told.rollout_id or told.correlation_id or told.trace_ref
    credit = system.reward(value, rollout_id=rollout, candidate=told.candidate_id)
    if told.stop:
        system.study.stop("stopped by the client")
        system.changed.set()
    await asyncio.to_thread(state.store.flush)
    return {"ok": True, "session_id": session.id, "candidate_id": credit.candidate, "reward": credit.reward}


def _ordered(order: Literal["pause", "resume", "cancel"]) -> Any:
    async def command(session: Session, state: State, who: Worker) -> JSON:
        """`pause` rests the session until `resume`; `cancel` ends it and keeps what was learnt."""
        getattr(state.engine, order)(session.id, who.owner)
        if order == "resume":
            await state.online.begun(session.id, _BEGINS_WITHIN_S)
        row = await asyncio.to_thread(state.jobs.get, session.id)
        return {**session_json(state, row, None), "status": row.status}

    return command


for _order in ("pause", "resume", "cancel"):
    router.add_api_route(
        f"/sessions/{{session_id}}/{_order}",
        _ordered(_order),
        methods=["POST"],
        operation_id=f"{_order}_session",
        summary=f"{_order.capitalize()} a session",
    )


@router.post("/systems/{system_id}/status", summary="How a rollout stands", responses=BODY)
async def rollout_status(job: System, told: RolloutStatus, state: State) -> JSON:
    """A rollout's reward, or that it is done."""
    system = state.online.find(job.id)
    candidate = told.candidate_id
    if told.status == "reward":
        if told.reward is None:
            raise ConfigError("reward: missing; status reward comes with a number")
        credit = system.reward(told.reward, rollout_id=told.rollout_id, candidate=told.candidate_id)
        candidate = credit.candidate
        await asyncio.to_thread(state.store.flush)
    elif told.status == "done":
        system.done(told.rollout_id)
    return {"ok": True, "rollout_id": told.rollout_id, "candidate_id": candidate}


@router.get("/systems/{system_id}/state", summary="The candidates of a system")
async def system_state(job: System, state: State) -> JSON:
    """All candidates, what they earned, and the best one."""
    return system_json(state.online.find(job.id))


@router.post("/systems/{system_id}/candidates", summary="Add a candidate", responses=BODY)
async def add_candidate(job: System, new: NewCandidate, state: State) -> JSON:
    """A prompt of the user's own joins those that are tried."""
    system = state.online.find(job.id)
    program = system.start
    for old, text, role in _replacements(new.deltas):
        program = replaced(program, old, text, role)
    name = system.add(program, "user")
    await asyncio.to_thread(state.store.flush)
    return {"candidate_id": name, "version": system.version}


def session_json(state: ServiceState, job: JobRow, correlation_id: str | None) -> JSON:
    """The ids and addresses of a session."""
    proxy = state.online.address(job.owner, job.id)
    online = proxy if correlation_id is None else f"{proxy}/{quote(correlation_id, safe='')}"
    return {
        "session_id": job.id,
        "system_id": job.id,
        "job_id": job.id,
        "correlation_id": correlation_id,
        "proxy_url": proxy,
        "online_url": online,
        "chat_completions_url": f"{online}/chat/completions",
    }


def system_json(system: OnlineSystem) -> JSON:
    """What is known of the candidates."""
    return {
        "best_candidate_id": system.bandit.best,
        "version": system.version,
        "rollouts": system.bandit.chosen,
        "rewards": system.rewarded,
        "candidates": {name: _candidate(system, name) for name in system.candidates},
    }


def reward_of(info: Mapping[str, Any]) -> float:
    """The reward in a `reward_info`, as in a task app's answer, or plainly under `reward` or `score`.

    Raises ConfigError where there is none that is a finite number.
    """
    plain = next((info[name] for name in ("reward", "score") if info.get(name) is not None), None)
    try:
        return score_of({"reward_info": info if plain is None else {"outcome_reward": plain}}).value
    except TaskAppError as error:
        raise ConfigError(f"reward_info: {error}") from None


def _candidate(system: OnlineSystem, name: str) -> JSON:
    candidate, arm = system.candidates[name], system.bandit.arms[name]
    modules = {
        module: {"instruction_text": template.system, "instruction_lines": template.system.splitlines()}
        for module, template in candidate.program.modules.items()
    }
    text = next(iter(candidate.program.modules.values())).system
    start = next(iter(system.start.modules.values()))
    messages = [{"role": "system", "content": start.system}, {"role": "user", "content": start.user_template}]
    return {
        "candidate_id": name,
        "source": candidate.source,
        "mean_reward": arm.mean,
        "rewards": arm.n,
        "stage_payloads": modules,
        "deltas": {"instruction_text": text},
        "baseline_messages": messages,
    }


def _prompt(system: OnlineSystem, name: str) -> JSON:
    return prompt_json(best_prompt(next(iter(system.candidates[name].program.modules.values()))))


def _replacements(deltas: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(old text, new text, role) of each replacement. Raises ConfigError for what is none."""
    change = deltas.get("transformation", deltas)
    listed = change.get("text_replacements") if isinstance(change, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise ConfigError("deltas: expected transformation.text_replacements, a list of {old_text, new_text}")
    found = []
    for entry in listed:
        given = entry if isinstance(entry, Mapping) else {}
        old, new = given.get("old_text"), given.get("new_text")
        if not isinstance(old, str) or not isinstance(new, str):
            raise ConfigError("deltas: every text replacement needs the texts old_text and new_text")
        found.append((old, new, str(given.get("apply_to_role") or "system")))
    return found
