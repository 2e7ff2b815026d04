"""Open trials, and the desk of a job that opens them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from rollouts.dtypes import Call, Endpoint, PromptTemplate, Response, Trace
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    ConfigError,
    InvalidRequest,
    ModelNotFound,
    NoCredit,
    ProviderError,
    RolloutsError,
    ServiceError,
    StoreError,
    TaskAppError,
)
from rollouts.llm.relay_wire import Route
from rollouts.prompt_optimization import Study
from rollouts.service.interceptor import chat
from rollouts.service.interceptor.records import CallLog
from rollouts.service.interceptor.reply import Reply, status_of
from rollouts.service.interceptor.substitution import Applied, Substitution, text_of
from rollouts.service.interceptor.upstreams import Exchange, Upstream, upstream_of
from rollouts.taskapp.trials import TrialSpec

JSON = dict[str, Any]
_LASTING = (BudgetExhausted, AuthenticationFailed, ModelNotFound, NoCredit, ConfigError, StoreError)
"""Errors that say that the rollout did not take place, or that every other one would meet."""
_PATIENCE = 5
_REMEMBERED = 10_000


@dataclass(slots=True, kw_only=True)
class _Ongoing:
    """A call under way."""

    reply: Reply
    module: str
    turn: int
    applied: Applied
    started: float = field(default_factory=time.perf_counter)


class Trial:
    """One rollout whose calls may be made now.

    `matching` is shared by the trials of a job. `error` is the first error that lasts, else that of the last call if it
    failed.
    """

    def __init__(self, spec: TrialSpec, job_id: str, upstreams: Mapping[str, Upstream], matching: Matching) -> None:
        self.spec, self.job_id = spec, job_id
        self.open = True
        self.error: RolloutsError | None = None
        self._upstreams, self._matching = upstreams, matching
        provider = upstreams[spec.module].endpoint.provider
        self._substitution = Substitution(spec.baseline, spec.program, provider=provider)
        self._asked: Counter[str] = Counter()
        self._ongoing: dict[asyncio.Task[Any], _Ongoing] = {}
        self._carried, self._unmatched = False, ""

    @property
    def failure(self) -> RolloutsError | None:
        """What leaving the trial raises: `error`, else a TaskAppError where calls were answered and none of them
        carried the candidate's prompt, because the rollout says nothing of it."""
        if self.error is not None or self._carried or not self._unmatched:
            return self.error
        return TaskAppError(
            f"no call of the rollout carried the candidate's prompt, so it has no score; {self._unmatched}"
        )

    async def answer(self, body: JSON, route: Route, reply: Reply) -> JSON:
        """Answers one call into `reply`, all but its end. Returns its record.

        Cancelled when the trial is closed. Whatever it took, or may have taken, is told to the trial's `on_call`.
        Raises InvalidRequest for a body without messages, and what `trial_ended` gives.
        """
        if not self.open:
            raise trial_ended()
        applied = self._apply(body, route)
        module = applied.module or self.spec.module
        turn = 1 + sum(message.get("role") == "assistant" for message in applied.steps)
        call = _Ongoing(reply=reply, module=module, turn=turn, applied=applied)
        reply.headers["x-rollouts-prompt"] = applied.outcome
        if route == "chat/completions":
            body = {**body, "messages": applied.messages}
        task = asyncio.current_task()
        assert task is not None
        self._ongoing[task] = call
        upstream = self._upstreams[module]
        record: JSON = {"route": route, "module": module, "model": upstream.endpoint.name, "prompt": applied.outcome}
        record |= {"created_at": time.time(), "request": body}
        try:
            self._matching.saw(applied, self.spec, route)
            response = await upstream.answer(self._exchange(body, route, module), reply)
        except RolloutsError as error:
            self._failed(call, error)
            return record | {"status": status_of(error)[0], "error": str(error)}
        except asyncio.CancelledError:
            self._lost(call)
            raise
        finally:
            del self._ongoing[task]
        self._answered(call, response, route)
        spent = {"cost_usd": response.cost_micros / 1e6, "latency_s": response.latency_s, "cached": response.cached}
        return record | {"status": 200, "response": chat.completion_json(response, upstream.endpoint.model), **spent}

    def close(self) -> None:
        """Ends the capability, and the calls that are still under way."""
        for task, call in list(self._ongoing.items()):
            self._lost(call)
            task.cancel()
        self.open = False

    def _apply(self, body: JSON, route: Route) -> Applied:
        if route != "chat/completions":
            return Applied(messages=(), outcome="unmatched")
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            self._remember(error := InvalidRequest("messages must be a list of objects with role and content"))
            raise error
        return self._substitution.apply(messages)

    def _exchange(self, body: JSON, route: Route, module: str) -> Exchange:
        spec = self.spec
        return Exchange(body=body, route=route, phase=spec.phase, module=module, repeat=spec.repeat, asked=self._asked)

    def _answered(self, call: _Ongoing, response: Response, route: Route) -> None:
        self._remember(None)
        self._note(
            Call(
                module=call.module,
                usage=response.usage,
                cost_micros=response.cost_micros,
                latency_s=response.latency_s,
                cached=response.cached,
                turn=call.turn,
            )
        )
        applied = call.applied
        if applied.outcome == "unmatched":
            self._unmatched = self._unmatched or _reason(applied, self.spec, route)
            return
        self._carried = True
        if not self.open:
            return
        try:
            steps = chat.messages_of(applied.steps)
        except InvalidRequest:
            return  # what is not text cannot be shown to a proposer, nor become a demonstration
        self.spec.on_trace(Trace(module=call.module, values=applied.values, steps=(*steps, response.message())))

    def _failed(self, call: _Ongoing, error: RolloutsError) -> None:
        self._remember(error)
        call.reply.problem(error)
        if not isinstance(error, ProviderError) or error.billed:
            self._lost(call)

    def _lost(self, call: _Ongoing) -> None:
        """A call that left and whose answer nobody has counts as its worst case, as it does in the ledger."""
        if call.reply.at_stake is not None:
            usage, micros = call.reply.at_stake
            seconds = time.perf_counter() - call.started
            self._note(Call(module=call.module, usage=usage, cost_micros=micros, latency_s=seconds, turn=call.turn))

    def _remember(self, error: RolloutsError | None) -> None:
        if not isinstance(self.error, _LASTING):
            self.error = error

    def _note(self, call: Call) -> None:
        if self.open:
            self.spec.on_call(call)


def trial_ended() -> ServiceError:
    """What a call is told whose trial is over, or ends while it is under way."""
    return ServiceError("the trial has ended, and its calls with it", status=410, code="trial_ended")


class Matching:
    """Watches whether the prompts of a job are found in what its app sends at all.

    `live` traffic may call other routes beside, whose calls do not count.
    """

    def __init__(self, *, live: bool = False) -> None:
        self._live, self._found, self._missed = live, False, 0

    def saw(self, applied: Applied, spec: TrialSpec, route: Route) -> None:
        """Raises ConfigError when none of the first calls held a prompt that the job knows: then no candidate would
        ever be tried."""
        if self._live and route != "chat/completions":
            return
        self._found = self._found or applied.outcome != "unmatched"
        self._missed += not self._found
        if not self._found and self._missed >= _PATIENCE:
            raise ConfigError(
                f"none of the app's first {_PATIENCE} calls holds the prompt that the job starts from, so no candidate "
                f"can take its place; {_reason(applied, spec, route)}"
            )


def _reason(applied: Applied, spec: TrialSpec, route: Route) -> str:
    """Why a call held no prompt, and what to change."""
    if route != "chat/completions":
        return f"calls of /{route} carry no prompt that can be exchanged: the app must use chat/completions"
    if not applied.messages:
        return "the app sends no messages"
    difference = _difference(spec.baseline.modules[spec.module], applied.messages)
    return f"make the app's prompt and the job's the same to the letter: {difference}"


def _difference(template: PromptTemplate, messages: Sequence[JSON]) -> str:
    sent = text_of(messages[0]) or ""
    if sent == template.system:
        shown = next((text_of(message) for message in messages if message.get("role") == "user"), None)
        return f"the job's user message is {template.user_template[:200]!r}, the app's {(shown or '')[:200]!r}"
    same = takewhile(lambda pair: pair[0] == pair[1], zip(template.system, sent, strict=False))
    start = sum(1 for _ in same)
    job, app = template.system[start : start + 100], sent[start : start + 100]
    return f"from character {start} on, the job's system message is {job!r}, the app's {app!r}"


class Registry:
    """The trials of all jobs, by id."""

    def __init__(self, log: CallLog) -> None:
        self.log = log
        self._open: dict[str, Trial] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def find(self, trial_id: str) -> Trial:
        """The open trial; raises ServiceError with status 410 for one that has ended, else 404."""
        trial = self._open.get(trial_id)
        if trial is not None:
            return trial
        if trial_id in self._ended:
            raise trial_ended()
        raise ServiceError("no such trial: use the inference URL as it was given", status=404, code="trial_not_found")

    def add(self, trial: Trial) -> None:
        """Opens it; raises ConfigError when its id was used before."""
        trial_id = trial.spec.trial_id
        if trial_id in self._open or trial_id in self._ended:
            raise ConfigError(f"trial {trial_id!r} was opened before; make a fresh id for every rollout")
        self._open[trial_id] = trial

    def end(self, trial: Trial) -> None:
        """Closes it for good."""
        trial.close()
        if self._open.pop(trial.spec.trial_id, None) is not None:
            self._ended[trial.spec.trial_id] = None
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)


class Desk:
    """Opens the trials of one job (a `TrialDesk`). Made by `Interceptor.desk`."""

    def __init__(
        self,
        job_id: str,
        study: Study,
        endpoints: Mapping[str, Endpoint],
        registry: Registry,
        url_of: Callable[[TrialSpec], str],
        *,
        live: bool = False,
    ) -> None:
        self._job_id, self._registry, self._url_of = job_id, registry, url_of
        self._upstreams = {module: upstream_of(endpoint, study) for module, endpoint in endpoints.items()}
        self._matching = Matching(live=live)
        self._trials: set[Trial] = set()

    @contextmanager
    def open(self, spec: TrialSpec) -> Iterator[str]:
        """See `TrialDesk.open`.

        Leaving it raises the BudgetExhausted, AuthenticationFailed, ModelNotFound, NoCredit, ConfigError or StoreError
        that any of the trial's calls met, else the error of the last call if that failed, else TaskAppError when calls
        were answered and none of them carried the candidate's prompt. Raises ConfigError for a module without an
        endpoint, TemplateError for a candidate that the baseline's values cannot fill.
        """
        if missing := [name for name in (spec.module, *spec.program.modules) if name not in self._upstreams]:
            raise ConfigError(f"no endpoint is given for module {missing[0]!r} ({', '.join(self._upstreams)} have one)")
        trial = Trial(spec, self._job_id, self._upstreams, self._matching)
        self._registry.add(trial)
        self._trials.add(trial)
        try:
            yield self._url_of(spec)
        except Exception as error:
            if trial.error is not None:
                raise trial.error from error
            raise
        finally:
            self._trials.discard(trial)
            self._registry.end(trial)
        if trial.failure is not None:
            raise trial.failure

    def close(self) -> None:
        """Ends all trials that are open."""
        for trial in list(self._trials):
            self._registry.end(trial)
