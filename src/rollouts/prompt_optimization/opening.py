"""How a run is begun, continued and ended: its row in the store, its lock, its account, its clients."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from rollouts.budget import Budget, Ledger, ModuleAccount, Spend
from rollouts.dtypes import Endpoint, Request, Response
from rollouts.errors import ConfigError
from rollouts.evaluation import Evaluator, FailureLimit, Paid, Task
from rollouts.llm.client import Client, Provider
from rollouts.llm.connect import CallContext, provider_for, wrap
from rollouts.llm.keys import located
from rollouts.llm.pricing import price_of
from rollouts.prompt_optimization.interrupts import GRACE_S, INTERRUPTED, RUNS, check_main_thread
from rollouts.prompt_optimization.study import DEFAULT_SLOTS, Study, StudyOptions, authorised_json
from rollouts.prompt_optimization.types import OptimizationResult
from rollouts.store import open_store
from rollouts.store.base import RunRow, Store, events_of

_OUTAGES = 16
"""Each call was tried again before it failed; rollouts in flight together fail together."""
_UNDIVIDED = ("mipro", "gepa")
"""Searches that do not plan with budgets of modules."""


def open_study(task: Task, others: Sequence[Endpoint], options: StudyOptions) -> Study:
    """Starts or continues a run: its row in the store, its lock, its account, its clients.

    `others` are endpoints used beside the task's own (proposer, judge). Raises ConfigError (no key, unknown price under
    a money cap, unknown provider), RunLocked, RunNotFound or StoreError before anything is spent.
    """
    if options.stop_on_interrupt:
        check_main_thread()
    store = options.store if options.store is not None else open_store(None)
    run = _start_run(store, options)
    try:
        slots = options.slots or DEFAULT_SLOTS
        ledger = Ledger(options.budget, spent=_spent(store, run, slots), elapsed=run.elapsed_s)
        clock, started = options.clock, options.clock.now()

        accounts = _accounts(options, run.authorised)
        bounds: dict[str, Spend] = {}

        def authorise(spend: Spend, module: str = "") -> None:
            bounds[module] = spend
            whole = bounds.get("", ledger.committed)
            elapsed = ledger.elapsed_before + clock.now() - started
            authorised = authorised_json(whole, accounts, bounds)
            store.update_run(run.id, authorised=authorised, elapsed_s=elapsed, updated_at=time.time())

        for name, account in accounts.items():
            account.authorise(partial(authorise, module=name))
        context = CallContext(
            ledger,
            store=store,
            run_id=run.id,
            clock=clock,
            authorise=authorise,
            retry=options.retry,
            slots=slots,
            modules=accounts,
        )
        endpoints = (task.endpoint, *task.endpoints.values(), *others)
        providers, clients = _connect(endpoints, options, context)
        own = {name: _located(endpoint, options) for name, endpoint in task.endpoints.items()}
        evaluator = Evaluator(
            replace(task, endpoint=_located(task.endpoint, options), endpoints=own, constraints=options.constraints),
            clients,
            executor=options.executor(slots),
            ledger=ledger,
            store=store,
            run_id=run.id,
            failure_limit=FailureLimit(options.max_failure_share, in_a_row=2 * max(slots, _OUTAGES)),
            paid=_paid(store, run.id) if options.resume else None,
            clock=context.run_clock,
        )
        study = Study(
            run_id=run.id,
            evaluator=evaluator,
            clients=clients,
            options=options,
            store=store,
            providers=providers,
            context=context,
            accounts=accounts,
        )
        study.settled = run.summary if run.status == "done" else None
        study.remarks += _unpriced([endpoint for endpoint in endpoints if endpoint.name not in options.providers])
        modules = {name: _budget_json(budget) for name, budget in options.module_budgets.items()}
        study.emit(
            "resumed" if options.resume else "started",
            method=options.method,
            budget=_budget_json(options.budget),
            **({"module_budgets": modules} if modules else {}),
        )
        if options.on_start is not None:
            options.on_start(study)
    except BaseException as error:
        ended = {"status": "failed", "summary": {"error": str(error)}} if run.status != "done" else {"status": "done"}
        store.update_run(run.id, **ended)
        store.unlock_run(run.id)
        raise
    return study


@asynccontextmanager
async def running(task: Task, others: Sequence[Endpoint], options: StudyOptions) -> AsyncIterator[Study]:
    """A study for one operation, closed with the status that tells how it ended; raises what `open_study` raises."""
    study = open_study(task, others, options)
    try:
        with _interruptible(study):
            yield study
    except BaseException as error:
        await study.close_after(error)
        raise
    await study.close("stopped" if study.stopping else "done")


async def closing(study: Study, work: Coroutine[Any, Any, OptimizationResult]) -> OptimizationResult:
    """The result of an optimizer's `work` on `study`, which is closed however it ends."""
    try:
        with _interruptible(study):
            result = await work
    except BaseException as error:
        await study.close_after(error)
        raise
    summary = result.details["summary"]
    before = study.settled
    study.kept = before is not None and _weight(summary) < _weight(before)
    ended = "stopped" if (study.stopping or study.replayed) and before is None else "done"
    await study.close(ended, before if study.kept else summary)
    return result


def _interruptible(study: Study) -> AbstractContextManager[None]:
    wanted = study.options.stop_on_interrupt
    return RUNS.around(lambda: study.stop(INTERRUPTED, grace_s=GRACE_S)) if wanted else nullcontext()


def _weight(summary: Mapping[str, Any]) -> tuple[bool, int]:
    """What the verdict weighs: whether it is one, and its test rows."""
    told = summary.get("verdict") or {"decision": "undecided", "best": {"n": 0}}
    return told["decision"] != "undecided", told["best"]["n"]


def _unpriced(endpoints: Sequence[Endpoint]) -> list[str]:
    names = sorted({endpoint.name for endpoint in endpoints if price_of(endpoint) is None})
    return [f"the price of {', '.join(names)} is not known: its calls count as $0"] if names else []


def _spent(store: Store, run: RunRow, slots: int) -> Spend:
    """What earlier processes of the run may have spent. Of one that was killed that is a bound, and far ahead where
    there was no cap: there it is what is stored, and twice as many calls as there are slots, which may have been under
    way."""
    spent = Spend.from_json(run.authorised)
    begun = events_of(store, run.id, "started", "resumed")
    if run.status != "running" or not begun:
        return spent
    caps = Ledger(Budget(**begun[-1].data["budget"]))
    stored = [
        Spend(micros=row.cost_micros, tokens=row.prompt_tokens + row.completion_tokens, calls=1)
        for row in store.scan_generations(run.id)
    ]
    if caps.left("rollouts") is None:
        stored += [Spend(rollouts=1) for row in store.scan_rollouts(run.id) if row.run_id == run.id]
    known = {}
    for name in ("micros", "tokens", "calls", "rollouts"):
        if caps.left(name) is None:
            amounts = [getattr(one, name) for one in stored]
            known[name] = min(getattr(spent, name), sum(amounts) + 2 * slots * max(amounts, default=1))
    return replace(spent, **known)


def _paid(store: Store, run_id: str) -> Paid:
    return Paid(row for row in store.scan_rollouts(run_id, failed=False) if row.run_id == run_id)


def _connect(
    endpoints: Sequence[Endpoint], options: StudyOptions, context: CallContext
) -> tuple[dict[str, Provider], dict[str, Client]]:
    """One provider and one client for every different connection. Where the environment gives the address, both are
    known by the endpoint without it, too: that is how proposers and judges ask."""
    providers: dict[str, Provider] = {}
    clients: dict[str, Client] = {}
    for endpoint in endpoints:
        at = _located(endpoint, options)
        if at.connection not in providers:
            ready = options.providers.get(endpoint.name)
            providers[at.connection] = provider_for(endpoint, context) if ready is None else ready
            clients[at.connection] = wrap(providers[at.connection], context)
        if endpoint.connection not in providers:
            providers[endpoint.connection] = providers[at.connection]
            clients[endpoint.connection] = _Located(clients[at.connection], at.base_url)
    return providers, clients


def _located(endpoint: Endpoint, options: StudyOptions) -> Endpoint:
    """The endpoint as keys name it; where a ready provider calls is its own affair."""
    return endpoint if endpoint.name in options.providers else located(endpoint)


class _Located:
    """A client for requests that leave the address to the environment: they get it, so that it is in their keys."""

    def __init__(self, inner: Client, base_url: str | None) -> None:
        self._inner, self._base_url = inner, base_url

    async def complete(self, request: Request) -> Response:
        endpoint = replace(request.endpoint, base_url=self._base_url)
        return await self._inner.complete(replace(request, endpoint=endpoint))

    async def close(self) -> None:
        """The client is closed by its own name."""


def _start_run(store: Store, options: StudyOptions) -> RunRow:
    now = time.time()
    if options.resume:
        store.lock_run(store.run(options.run_id).id)
        run = store.run(options.run_id)
        config = {"config": dict(options.config)} if options.config else {}
        store.update_run(run.id, status="running", updated_at=now, **config)
        return run
    run = RunRow(
        id=options.run_id or f"{options.method}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}",
        method=options.method,
        status="running",
        created_at=now,
        updated_at=now,
        config=dict(options.config),
        name=options.name,
    )
    store.create_run(run)
    store.lock_run(run.id)
    return run


def _accounts(options: StudyOptions, authorised: Mapping[str, Any]) -> dict[str, ModuleAccount]:
    """The accounts of modules with a budget of their own, as earlier processes of the run left them."""
    limited = (options.budget, *options.module_budgets.values())
    counted = any(budget.max_trials is not None for budget in limited)
    if options.method in _UNDIVIDED and (options.module_budgets or counted):
        raise ConfigError(
            "of the searches r-MIPRO alone keeps budgets of modules and max_trials: run that, or take them out of the "
            "budget"
        )
    before = authorised.get("modules", {})
    return {
        name: ModuleAccount(name, budget, spent=Spend.from_json(before.get(name, {})))
        for name, budget in options.module_budgets.items()
    }


def _budget_json(budget: Budget) -> dict[str, Any]:
    cost = None if budget.max_cost_usd is None else str(budget.max_cost_usd)
    return {
        "max_cost_usd": cost,
        "max_tokens": budget.max_tokens,
        "max_calls": budget.max_calls,
        "max_rollouts": budget.max_rollouts,
        "max_seconds": budget.max_seconds,
        **({} if budget.max_trials is None else {"max_trials": budget.max_trials}),
    }
