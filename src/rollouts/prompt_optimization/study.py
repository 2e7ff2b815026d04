"""One optimization run: what an optimizer may do, and nothing else.

Optimizers call `evaluate` and `generate`, `emit` what they decide, and ask `affords` before they plan more. Store,
ledger, clients and the clock stay behind it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, fields
from traceback import format_exception
from typing import Any, TypeVar

from rollouts.budget import Budget, Constraints, ModuleAccount, Spend
from rollouts.dtypes import Endpoint, Evaluation, Program, PromptTemplate, Request, Response, Sample
from rollouts.errors import BudgetExhausted, ConfigError, RolloutsError
from rollouts.evaluation import Cell, Evaluator
from rollouts.executors import Executor, LocalExecutor
from rollouts.llm.client import Client, Provider
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.connect import CallContext
from rollouts.llm.retry import RetryPolicy
from rollouts.prompt_optimization.constraints import Violations
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.proposers.lost import Lost, Proposals, short
from rollouts.prompt_optimization.usual import usual_rollout
from rollouts.store.base import EventRow, Store, events_of

log = logging.getLogger(__name__)

T = TypeVar("T")
Listener = Callable[[str, Mapping[str, Any]], None]
DEFAULT_SLOTS = 16
_CHECK_MARGIN = 1.1
_LOGIN = re.compile(r"//[^/@\s]+@")
_DRAWN = 3
"""A program's own mean cost counts as much as the mean of all when it has run on so many rows."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """How a run is carried out.

    store: where it is recorded (None: in memory, lost at the end). run_id: its name, by default a fresh one; with
    `resume` an existing run goes on. slots: rollouts in flight at once. max_failure_share: the share of failed rollouts
    that stops the run. retry: when a failed call is sent again. listeners: called with every event. providers: ready
    providers by `Endpoint.name`, used instead of making one (tests, own transports). executor: makes, from the slots,
    what runs the rollouts. config: stored with the run; must hold no secret. module_budgets: what single modules of the
    program may take, beside the whole (not for MIPRO and GEPA); their `max_seconds` is model time. notes: what the
    result should say of the data. stop_on_interrupt: the first Ctrl-C ends the run well, as `Study.stop` does with 30
    seconds of grace, and the result is returned; a second one is Python's own. For runs in the main thread: elsewhere
    it is a ConfigError.
    """

    budget: Budget = field(default_factory=Budget)
    module_budgets: Mapping[str, Budget] = field(default_factory=dict)
    constraints: Constraints = field(default_factory=Constraints)
    store: Store | None = None
    run_id: str = ""
    resume: bool = False
    slots: int | None = None
    max_failure_share: float = 0.5
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    listeners: tuple[Listener, ...] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    method: str = "mipro"
    clock: Clock = field(default_factory=SystemClock)
    executor: Callable[[int], Executor] = LocalExecutor
    on_start: Callable[[Study], None] | None = None
    notes: tuple[str, ...] = ()
    stop_on_interrupt: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("budget", Budget), ("constraints", Constraints)):
            if not isinstance(value := getattr(self, name), kind):
                (first, *_) = fields(kind)
                raise ConfigError(f"{name} is {value!r}; give a {kind.__name__}, as {kind.__name__}({first.name}=...)")


class Study:
    """Made by `opening.open_study`; close it with `close`. `remarks` are notes for the result, `proposals` what became
    of the texts that models were asked for. `settled` is the summary of a run that was done before: it stays the run's
    when going on with it ends by an error, undecided or with fewer test rows. `kept` says that it did."""

    def __init__(
        self,
        *,
        run_id: str,
        evaluator: Evaluator,
        clients: Mapping[str, Client],
        options: StudyOptions,
        store: Store,
        providers: Mapping[str, Provider],
        context: CallContext,
        accounts: Mapping[str, ModuleAccount] | None = None,
    ) -> None:
        self._providers, self.context = providers, context
        self.run_id, self.options, self.store = run_id, options, store
        self.evaluator, self._clients = evaluator, clients
        self.ledger = evaluator.ledger
        self.accounts = dict(accounts or {})
        self._accounts_before = {name: account.ledger.spent for name, account in self.accounts.items()}
        self.constraints = options.constraints
        self.violations = Violations(options.constraints)
        self.settled: Mapping[str, Any] | None = None
        self.kept = False
        self.stop_reason: str | None = None
        self.replayed: str | None = None
        self._started = options.clock.now()
        self._seq = max((event.seq for event in events_of(store, run_id)), default=0)
        self.phase = "start"
        self.best_score: float | None = None
        self.search_ended: str | None = None
        self.remarks = list(options.notes)
        self.proposals = Proposals()
        self._listeners = list(options.listeners)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._proposing: set[asyncio.Task[Response]] = set()

    @property
    def elapsed(self) -> float:
        """Wall-clock seconds of this run, earlier processes included."""
        return self.ledger.elapsed_before + self.options.clock.now() - self._started

    @property
    def slots(self) -> int:
        """Rollouts in flight at once."""
        return self.evaluator.executor.slots

    @property
    def stopping(self) -> bool:
        """True when no further work may start."""
        return self.stop_reason is not None

    def stop(self, reason: str, *, grace_s: float | None = None) -> None:
        """Ends the run soon: what is in flight ends, nothing new starts, the best so far is returned.

        Rollouts that have not ended after `grace_s` seconds are cut: they are missing, not failed. None waits for all.
        """
        self.evaluator.stop(self.stop_reason or reason, grace_s)
        if self.stop_reason is None:
            self.stop_reason = reason
            self.context.run_clock.stop()
            for call in self._proposing:
                call.cancel()
            self.emit("stopping", reason=reason)

    def replay(self, reason: str) -> None:
        """To be called before the work begins: what is stored of the run is served, and nothing is called. What comes
        of it is the best that the run had when it was left."""
        self.replayed = reason
        self.ledger.close()

    async def quiet(self) -> None:
        """Returns when no answer is waited for that is asked for a proposal."""
        while self._proposing:
            await asyncio.wait(self._proposing)

    def why_ended(self) -> str:
        """Why the search ended, in words."""
        return self.stop_reason or self.replayed or self.search_ended or "all planned trials were made"

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs `work` beside the caller; cancelled when the study is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    def known(self, cells: Sequence[Cell]) -> list[Evaluation]:
        """The scored evaluations among `cells`, read from the store; runs nothing."""
        return self.evaluator.known(cells)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` for the task's model: exact where its tokenizer is known, else an estimate."""
        return self._providers[self.evaluator.task.endpoint.connection].count_tokens(text)

    def usual_rollout(self, program: Program, sample: Sample) -> Spend:
        """What one run of `program` on `sample` usually takes; see `usual.usual_rollout`."""
        return usual_rollout(
            self.evaluator.task,
            program,
            sample,
            count_tokens=self.count_tokens,
            worst_case=self.worst_case,
        )

    def provider(self, endpoint: Endpoint) -> Provider:
        """The bare provider of an endpoint of this study; its calls escape the budget (see `connect.metered`)."""
        return self._providers[endpoint.connection]

    def worst_case(self, request: Request) -> Spend:
        """What one attempt of a request may take at most."""
        return self._providers[request.endpoint.connection].worst_case(request)

    def prompt_tokens(self, template: PromptTemplate) -> int:
        """Tokens of the prompt without its sample."""
        texts = [template.system, *(text for demo in template.few_shot_examples for text in (demo.input, demo.output))]
        return self.count_tokens("\n".join(texts))

    def fits(self, template: PromptTemplate, module: str = "") -> bool:
        """Whether the prompt of `module` without its sample is within `Constraints.max_prompt_tokens`."""
        caps = (self.constraints.max_prompt_tokens, self.constraints.of(module).max_prompt_tokens)
        limits = [cap for cap in caps if cap is not None]
        return not limits or self.prompt_tokens(template) <= min(limits)

    def keeps(self, program: Program) -> bool:
        """Whether nothing that was noted in `violations` speaks against the program."""
        violations = self.violations
        return program.digest not in violations.infeasible and not (
            violations.watching and violations.presumed(program)
        )

    async def evaluate(self, cells: Sequence[Cell], *, phase: str, priority: int = 0) -> list[Evaluation]:
        """One evaluation per cell; those that the budget or a stop left out are missing (`is_missing`)."""
        return await self.evaluator.evaluate(cells, phase=phase, priority=priority)

    async def generate(self, request: Request) -> Response:
        """One answer for a proposer or a judge; budgeted, cached, retried.

        Raises ProviderError or BudgetExhausted; a stop cancels what is asked for a proposal.
        """
        client = self._clients[request.endpoint.connection]
        if request.phase != "propose":
            return await client.complete(request)
        if not self.stopping:
            call = self.spawn(client.complete(request))
            self._proposing.add(call)
            try:
                return await call
            except asyncio.CancelledError:
                if not (self.stopping and call.cancelled()):
                    raise
            finally:
                self._proposing.discard(call)
        raise BudgetExhausted("seconds", cap=0, committed=0, wanted=0)

    def proposed(self, lost: Lost | None) -> None:
        """What became of a text that a model was asked for: None, or why there is none. A stop is no reason."""
        if lost is not None and (self.stopping or self.replayed is not None):
            return
        self.proposals.count(lost)
        if lost is not None:
            counts = {"lost": self.proposals.lost.total(), "asked": self.proposals.asked}
            self.emit("proposal_lost", reason=lost.reason, detail=short(lost.detail), **counts)

    def follow(self, plan: Plan, start: Program) -> None:
        """Tells how the run is divided. Where earlier processes of it had another plan, this one takes other decisions:
        of what they paid for, the rollouts of `start` alone are sure to be served."""
        told = events_of(self.store, self.run_id, "plan")
        if told and told[-1].data != plan.to_json():
            self.evaluator.paid.only(start.digest)
        self.emit("plan", **plan.to_json())

    def affords(self, rollouts: int, plan: Plan, leader: Program) -> bool:
        """Whether `rollouts` more fit in what is left, on top of what is queued and of the final check of `plan`, all
        judged by their mean cost so far.

        The winner's are judged by the mean of `leader` if that is higher, drawn to the other as long as it has run on
        few rows. The last of them needs its worst case, of which one call's is known. What earlier processes of the run
        paid for counts as left until it is used.
        """
        progress, ledger, paid = self.evaluator.progress, self.ledger, self.evaluator.paid.left
        wanted = rollouts + plan.unstarted_check + progress.queued
        left = ledger.left("rollouts")
        if left is not None and wanted > left + paid.rollouts + self._in_flight():
            return False
        seen = progress.spent
        if not seen.rollouts:
            return True
        own = progress.by_program.get(leader.digest, Spend())
        for resource in ("micros", "tokens", "calls"):
            left = ledger.left(resource)
            mean = getattr(seen, resource) / seen.rollouts
            more = max(0.0, getattr(own, resource) - own.rollouts * mean) / (own.rollouts + _DRAWN)
            last = max(0.0, ledger.largest(resource) - mean)
            expected = (wanted * mean + plan.test * more) * _CHECK_MARGIN
            if left is not None and expected + last > left + getattr(paid, resource):
                return False
        if not all(self.module_affords(name, max(0, wanted - paid.rollouts)) for name in self.accounts):
            return False
        cap = ledger.budget.max_seconds
        if cap is None or not progress.done:  # how long a rollout takes is seen in this process alone
            return True
        here = self.elapsed - ledger.elapsed_before
        return self.elapsed + max(0, wanted - paid.rollouts) * here / progress.done < cap

    def module_affords(self, name: str, wanted: int) -> bool:
        """Whether a module's own budget pays for its calls in `wanted` more rollouts; True where it has none."""
        account, done = self.accounts.get(name), self.evaluator.progress.done
        if account is None or not done:
            return True
        ledger, before = account.ledger, self._accounts_before[name]
        for resource in ("micros", "tokens", "calls"):
            left = ledger.left(resource)
            mean = (getattr(ledger.spent, resource) - getattr(before, resource)) / done
            last = max(0.0, ledger.largest(resource) - mean)
            if left is not None and wanted * mean * _CHECK_MARGIN + last > left:
                return False
        cap, spent = account.budget.max_seconds, ledger.spent.seconds
        return cap is None or spent + wanted * _CHECK_MARGIN * (spent - before.seconds) / done < cap

    def waits_for_calls(self) -> bool:
        """Whether calls under way hold a part of the budget that they may give back."""
        return self.ledger.committed != self.ledger.spent

    def _in_flight(self) -> int:
        return max(0, self.ledger.committed.rollouts - self.ledger.spent.rollouts)

    def emit(self, kind: str, **data: Any) -> None:
        """Records an event and tells the listeners. One that raises is not told the rest: the run goes on."""
        self._seq += 1
        event = EventRow(run_id=self.run_id, seq=self._seq, kind=kind, data=data, created_at=time.time())
        self.store.record(event)
        for listener in tuple(self._listeners):
            try:
                listener(kind, data)
            except Exception as error:  # noqa: BLE001 - a tracker that is away must not end what was paid for
                self._leave_out(listener, error)

    def _leave_out(self, listener: Listener, error: Exception) -> None:
        if listener in self._listeners:  # it may have failed in an event that another listener caused
            self._listeners.remove(listener)
        note = _LOGIN.sub("//", f"a listener failed and was not told the rest: {type(error).__name__}: {error}")
        self.remarks.append(note)
        log.warning("%s\n%s", note, _LOGIN.sub("//", "".join(format_exception(error))))

    def enter(self, phase: str, **data: Any) -> None:
        """A new phase begins."""
        self.phase = phase
        self.emit("phase", phase=phase, **data)

    async def close_after(self, error: BaseException) -> None:
        """`close` for a run that ends by an error: `failed` when it is one of ours, else `stopped`."""
        status = "failed" if isinstance(error, RolloutsError) else "stopped"
        summary = {"error": f"{type(error).__name__}: {error}"}
        await self.close(*((status, summary) if self.settled is None else ("done", self.settled)))

    async def close(self, status: str, summary: Mapping[str, Any] | None = None) -> None:
        """Ends the run in the store and frees clients; the run is then charged exactly what it spent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.evaluator.executor.close()
        self.evaluator.close()
        for client in {id(client): client for client in self._clients.values()}.values():
            await client.close()
        try:
            self.store.flush()
            self.store.update_run(
                self.run_id,
                status=status,
                updated_at=time.time(),
                elapsed_s=self.elapsed,
                authorised=authorised_json(self.ledger.committed, self.accounts, {}),
                summary=dict(summary or {}),
            )
        finally:
            self.store.unlock_run(self.run_id)


def cells_of(program: Program, samples: Sequence[Sample]) -> list[Cell]:
    """One cell per sample."""
    return [Cell(program, sample) for sample in samples]


def authorised_json(whole: Spend, accounts: Mapping[str, ModuleAccount], bounds: Mapping[str, Spend]) -> dict[str, Any]:
    """A bound of what the run may have spent, and the modules of it that have budgets of their own, as JSON.

    A module's is at least what it has committed, so that no commit for another takes anything back.
    """
    modules = {name: bounds.get(name, account.committed).to_json() for name, account in accounts.items()}
    return {**whole.to_json(), **({"modules": modules} if modules else {})}
