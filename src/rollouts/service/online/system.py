"""A live online job: its candidates, the rollouts under way, and what they were worth."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rollouts.budget import Spend
from rollouts.dtypes import Program, Sample, Trace
from rollouts.errors import ConfigError, RolloutsError, ServiceError
from rollouts.prompt_optimization import Study
from rollouts.service.interceptor import PREFIX, Substitution
from rollouts.service.keys import EnvKeys
from rollouts.service.online.bandit import Bandit
from rollouts.store import EventRow
from rollouts.taskapp import TrialDesk, TrialSpec

START = "baseline"
ONLINE = "online/"
PHASE = "task/online"
_OPEN = 10_000
_REMEMBERED = 100_000
_ROWS = 200
_GOOD = 0.8


@dataclass(slots=True, kw_only=True)
class Rollout:
    """One rollout of live traffic: whose prompt its calls carry, and the trial in which they are made."""

    id: str
    candidate: str
    path: str
    trial: ExitStack
    traces: list[Trace] = field(default_factory=list)


class Credit(NamedTuple):
    """Which candidate a reward went to."""

    candidate: str
    reward: float


@dataclass(slots=True)
class Candidate:
    """A prompt, and where it came from: `start`, `llm`, `rules`, `user`."""

    program: Program
    source: str


class OnlineSystem:
    """What an online job knows. All of it that lasts is in the events of the run, and `replay` takes it from there.

    A rollout is what one id stands for from its first call to its reward. `changed` is set when there is news for the
    job's own work: a reward, or that it is to end.
    """

    def __init__(self, study: Study, start: Program, desk: TrialDesk, *, seed: int) -> None:
        self.study, self.start = study, start
        self.candidates = {START: Candidate(start, "start")}
        self.bandit = Bandit(seed=seed)
        self.bandit.add(START)
        self.changed = asyncio.Event()
        self.rewarded = 0
        self.rows: deque[Sample] = deque(maxlen=_ROWS)
        self._desk = desk
        self._open: OrderedDict[str, Rollout] = OrderedDict()
        self._served: OrderedDict[str, str | Credit] = OrderedDict()
        self._last = START

    def replay(self, events: Iterable[EventRow]) -> None:
        """Learns again what earlier processes of the run learnt."""
        for event in events:
            data: Mapping[str, Any] = event.data
            if event.kind == "candidate":
                program = Program.from_json(data["program"], self.start.run)
                self._learn_of(data["candidate"], program, data["source"])
            elif event.kind == "serve":
                self._serve(data["rollout"], data["candidate"])
                self.bandit.chosen += 1
            elif event.kind == "reward":
                self._learn(data["candidate"], data["reward"], data["rollout"])

    @property
    def version(self) -> int:
        """Counts the candidates: it grows when there is a new one."""
        return len(self.candidates)

    @property
    def waiting(self) -> bool:
        """Whether rollouts are open."""
        return bool(self._open)

    def rollout(self, rollout_id: str) -> Rollout:
        """The rollout of that id; a new one, with a candidate chosen for it, where none is open.

        Raises BudgetExhausted when the job may make no more.
        """
        found = self._open.get(rollout_id)
        if found is not None:
            self._open.move_to_end(rollout_id)
            return found
        self.study.ledger.settle(self.study.ledger.reserve(Spend(rollouts=1), phase=PHASE), Spend(rollouts=1))
        chosen, trial = self.bandit.choose(), ExitStack()
        traces: list[Trace] = []
        url = trial.enter_context(self._desk.open(self._spec(chosen, traces.append)))
        made = Rollout(id=rollout_id, candidate=chosen, path=url[url.index(PREFIX) :], trial=trial, traces=traces)
        self._open[rollout_id] = made
        self._serve(rollout_id, chosen)
        self.study.emit("serve", rollout=rollout_id, candidate=chosen)
        while len(self._open) > _OPEN:
            self._close(next(iter(self._open)))
        return made

    def reward(self, value: float, *, rollout_id: str | None = None, candidate: str | None = None) -> Credit:
        """Credits the candidate that the rollout had, else the one named, else the one that was served last; the
        rollout is over. Raises ServiceError (404) for one that there is not.

        A rollout has one reward: what is told again of one that was served changes nothing, and gives the first credit.
        """
        served = self._served.get(rollout_id or "")
        if isinstance(served, Credit):
            return served
        named = served or candidate or (self._last if rollout_id is None else None)
        if named not in self.candidates:
            raise ServiceError(
                f"nothing is known of rollout {rollout_id!r}, candidate {candidate!r}: name a rollout that was served, "
                "or a candidate",
                status=404,
                code="rollout_not_found",
            )
        credit = self._learn(named, value, rollout_id)
        self.study.emit("reward", rollout=rollout_id, candidate=named, reward=value)
        if rollout_id is not None and rollout_id in self._open:
            self._keep(self._open[rollout_id], value)
            self._close(rollout_id)
        self.study.best_score = self.bandit.arms[self.bandit.best].mean
        self.changed.set()
        return credit

    def done(self, rollout_id: str) -> None:
        """The rollout makes no more calls."""
        if rollout_id in self._open:
            self._close(rollout_id)

    def add(self, program: Program, source: str) -> str:
        """One more candidate; its id. One that is there already keeps its own.

        Raises TemplateError for one that the values of the start cannot fill: none of its calls could be answered.
        """
        Substitution(self.start, program)
        for name, known in self.candidates.items():
            if known.program.digest == program.digest:
                return name
        name = f"c{len(self.candidates)}"
        self._learn_of(name, program, source)
        self.study.emit("candidate", candidate=name, source=source, program=program.to_json())
        return name

    def close(self) -> None:
        """Ends all rollouts."""
        for rollout_id in list(self._open):
            self._close(rollout_id)

    def _spec(self, candidate: str, on_trace: Callable[[Trace], None]) -> TrialSpec:
        trial_id = secrets.token_hex(16)
        return TrialSpec(
            trial_id=trial_id,
            correlation_id=f"trace_{trial_id}",
            program=self.candidates[candidate].program,
            baseline=self.start,
            module=next(iter(self.start.modules)),
            phase=PHASE,
            repeat=self.bandit.chosen,
            on_call=lambda call: None,
            on_trace=on_trace,
        )

    def _close(self, rollout_id: str) -> None:
        # What its calls met was told to whoever made them.
        with suppress(RolloutsError):
            self._open.pop(rollout_id).trial.close()

    def _keep(self, rollout: Rollout, value: float) -> None:
        """Good answers are what proposals are grounded in."""
        if value >= _GOOD:
            for trace in rollout.traces:
                self.rows.append(Sample(inputs=dict(trace.values), ground_truth=trace.output, id=rollout.id))

    def _serve(self, rollout_id: str, candidate: str) -> None:
        self._served[rollout_id] = self._last = candidate
        self._served.move_to_end(rollout_id)
        while len(self._served) > _REMEMBERED:
            self._served.popitem(last=False)

    def _learn(self, candidate: str, value: float, rollout_id: str | None) -> Credit:
        self.bandit.reward(candidate, value)
        self.rewarded += 1
        credit = Credit(candidate, value)
        if rollout_id is not None and rollout_id in self._served:
            self._served[rollout_id] = credit
        return credit

    def _learn_of(self, name: str, program: Program, source: str) -> None:
        self.candidates[name] = Candidate(program, source)
        self.bandit.add(name)


class Systems:
    """The online jobs that run now, and the addresses under which their prompts are served.

    Whoever knows an address may spend the job's money: it holds a token that cannot be guessed, kept sealed.
    """

    def __init__(self, env_keys: EnvKeys, public_url: str) -> None:
        self._env_keys, self._url = env_keys, public_url
        self._live: dict[str, OnlineSystem] = {}
        self._opened = asyncio.Event()
        self._jobs: dict[str, str] = {}

    def address(self, owner: str, job_id: str) -> str:
        """Where the job's model calls go: `ADDRESS/ROLLOUT_ID/chat/completions`."""
        token = next((token for token, known in self._jobs.items() if known == job_id), None)
        if token is None:
            name = f"online:{job_id}"
            token = self._env_keys.get(owner, name)
            if token is None:
                token = secrets.token_urlsafe(24)
                self._env_keys.put(owner, name, token)
            self._jobs[token] = job_id
        return f"{self._url}{PREFIX}{ONLINE}{token}"

    def open(self, job_id: str, system: OnlineSystem) -> None:
        """The job runs from now on."""
        self._live[job_id] = system
        self._opened.set()
        self._opened = asyncio.Event()

    def close(self, job_id: str) -> None:
        """The job runs no longer."""
        system = self._live.pop(job_id, None)
        if system is not None:
            system.close()

    async def begun(self, job_id: str, within_s: float) -> None:
        """Waits until the job runs, at most so long: it may have to wait for its turn."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while job_id not in self._live:
                    await self._opened.wait()

    def find(self, job_id: str) -> OnlineSystem:
        """The job, if it runs; raises ServiceError (409) if not."""
        if job_id not in self._live:
            raise ServiceError(
                f"online job {job_id} is not running: it waits, was paused, or is over", status=409, code="wrong_state"
            )
        return self._live[job_id]

    def served(self, token: str) -> OnlineSystem:
        """The job behind an address. Raises ServiceError: 404 for one that there is not, 409 as `find`."""
        if token not in self._jobs:
            raise ServiceError("no such address: use the proxy URL as it was given", status=404, code="not_found")
        return self.find(self._jobs[token])


def replaced(start: Program, old: str, new: str, role: str) -> Program:
    """`start` with a text of its messages replaced, as the SDK's `text_replacements` say it.

    Raises ConfigError when no module's text of that role holds `old`.
    """
    part = "user_template" if role == "user" else "system"
    for name, template in start.modules.items():
        text = getattr(template, part)
        if old and old in text:
            changed = template.replace(**{part: text.replace(old, new)})
            return start.with_modules({**start.modules, name: changed})
    raise ConfigError(f"deltas: the {role} text of the start does not hold {old[:80]!r}; copy old_text from it exactly")
