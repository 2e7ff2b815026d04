"""The work of an online job: new prompts are proposed from what live traffic showed, until the job is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rollouts.errors import BudgetExhausted, ProviderError
from rollouts.prompt_optimization import MIPROConfig, OptimizationResult, ScoredProgram, Study
from rollouts.prompt_optimization.proposers import Proposer, Tried
from rollouts.prompt_optimization.targets import targets_of
from rollouts.service.online.system import START, OnlineSystem

_TICK_S = 1.0
_LAST_REWARDS_S = 60
"""When the rollouts are used up, rewards of the last ones are waited for while they keep coming so often."""


@dataclass(frozen=True, kw_only=True)
class OnlineOptions:
    """When prompts are proposed: a round of `per_round` after every `min_rollouts` rewards, until there are
    `max_candidates`. `propose` switched off, only candidates that users add are tried."""

    min_rollouts: int = 20
    per_round: int = 1
    max_candidates: int = 16
    propose: bool = True


async def serve(
    study: Study, system: OnlineSystem, config: MIPROConfig, proposers: Sequence[Proposer], options: OnlineOptions
) -> OptimizationResult:
    """Serves until the study is stopped, or its time or money is used up; then the best candidate is the result."""
    study.enter("online")
    rounds, quiet_s = (len(system.candidates) - 1) // options.per_round, 0.0
    while not (study.stopping or study.replayed):
        _stop_in_time(study, waiting=system.waiting and quiet_s < _LAST_REWARDS_S)
        quiet_s = 0.0 if system.changed.is_set() else quiet_s + _TICK_S
        system.changed.clear()
        due = system.rewarded >= (rounds + 1) * options.min_rollouts
        room = options.max_candidates - len(system.candidates)
        if options.propose and due and room > 0 and system.rows:
            rounds += 1
            with suppress(BudgetExhausted, ProviderError):  # the study tells it; the traffic is served all the same
                await _propose(study, system, config, proposers, count=min(options.per_round, room), number=rounds)
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await system.changed.wait()
    return _result(study, system)


def _stop_in_time(study: Study, *, waiting: bool) -> None:
    cap = study.ledger.budget.max_seconds
    if cap is not None and study.elapsed >= cap:
        study.stop("the time is used up")
    elif study.ledger.left("rollouts") == 0 and not waiting:
        study.stop("the budget of rollouts is used up")


async def _propose(
    study: Study,
    system: OnlineSystem,
    config: MIPROConfig,
    proposers: Sequence[Proposer],
    *,
    count: int,
    number: int,
) -> None:
    start = system.start
    target = (await targets_of(study, start, list(system.rows), config))[0]
    part, means = target.part, system.bandit.means()
    tried = []
    for name in system.bandit.ranking():
        text = getattr(system.candidates[name].program.modules[target.module], part)
        target.guard.remember(text)
        mean = means[name]
        if mean is not None:
            tried.append(Tried(text=text, score=mean, n=system.bandit.arms[name].n))
    proposals = await target.propose(proposers, count, tried=tried, number=number)
    for proposal in proposals:
        template = start.modules[target.module].replace(**{part: proposal.text})
        system.add(start.with_modules({**start.modules, target.module: template}), proposal.source)


def _result(study: Study, system: OnlineSystem) -> OptimizationResult:
    """The candidates by what they are expected to earn. There is no verdict: traffic differs from hour to hour, and
    the candidates did not answer the same requests."""
    arms = system.bandit.arms
    population = tuple(
        ScoredProgram(program=system.candidates[name].program, score=arms[name].mean, n=arms[name].n, id=name)
        for name in system.bandit.ranking()
    )
    initial = next(entry for entry in population if entry.id == START)
    phases = {name.removeprefix("task/"): spend for name, spend in study.ledger.by_phase.items()}
    summary: dict[str, Any] = {
        "best_score": population[0].score,
        "baseline_score": initial.score,
        "verdict": None,
        "notes": list(study.proposals.notes()),
        "trials": system.rewarded,
        "stop_reason": study.why_ended(),
        "start_program": initial.program.digest,
        "best_program": population[0].program.digest,
        "spend_by_phase": {name: spend.to_json() for name, spend in phases.items()},
    }
    return OptimizationResult(
        best=population[0],
        population=population,
        history=(),
        initial=initial,
        spend=study.ledger.spent,
        spend_by_phase=phases,
        stop_reason=study.why_ended(),
        run_id=study.run_id,
        details={"summary": summary},
    )
