"""This project's searches, and the baselines that need none: the starting prompt, and labelled demonstrations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.mipro_comparison.outcome import Found, Messages, Row, score
from benchmarks.mipro_comparison.proxy import PROPOSER, TASK_MODEL
from benchmarks.mipro_comparison.tasks import Data, Task
from rollouts.budget import Budget, Ledger
from rollouts.dtypes import Endpoint, PromptTemplate, Request, Sample, Sampling, Trajectory, render
from rollouts.errors import ConfigError, ProviderError
from rollouts.llm.connect import CallContext, connect
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    Splits,
    StudyOptions,
    run_gepa,
    run_mipro,
)
from rollouts.prompt_optimization.demos import balanced, by_label, example_of

_TIMEOUT_S = 600.0
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "equal": {},
    "random": {"selector": "random"},
    "tpe": {"selector": "tpe"},
    "no-demos": {"optimize_demos": False},
    "no-instructions": {"optimize_instructions": False},
    "one-round": {"proposal_rounds": 1},
}


def search_start(base_url: str, task: Task, data: Data, *, slots: int, **_: Any) -> Found:
    """The prompt that everyone starts from."""
    return found_of(task, start_of(task), "start", slots)


def search_labelled(base_url: str, task: Task, data: Data, *, seed: int, slots: int, **_: Any) -> Found:
    """The start with as many labelled training rows as are allowed, the same number of every label (within one)."""
    rows = by_label([sample_of(task, row) for row in data.train])
    chosen = balanced(rows, task.demos, random.Random(f"labelled-{seed}"))
    start = start_of(task)
    demos = tuple(example_of(start, sample) for sample in chosen)
    return found_of(task, start.replace(few_shot_examples=demos), "few-shot", slots)


def search_mipro(base_url: str, task: Task, data: Data, *, cap: int, seed: int, settings: str, slots: int) -> Found:
    """`run_mipro` with its defaults, as many demonstrations as the task allows, and a hard budget of `cap` rollouts.

    `settings` "equal" is the method as it comes; each of `VARIANTS` changes one thing. Raises ConfigError for others.
    """
    if settings not in VARIANTS:
        raise ConfigError(f"there are no settings {settings!r} of MIPRO; there are {', '.join(VARIANTS)}")
    config = MIPROConfig(seed=seed, max_labeled_demos=task.demos, **VARIANTS[settings])
    options = StudyOptions(budget=Budget(max_rollouts=cap), slots=slots)
    splits, model, proposer = splits_of(task, data), task_endpoint(task, base_url), proposer_endpoint(base_url)
    work = run_mipro(start_of(task), config, splits, model, proposer, metric, options=options)
    return _result(task, asyncio.run(work), _mode(config), slots)


def search_random(base_url: str, task: Task, data: Data, *, settings: str, **rest: Any) -> Found:
    """Random search: the same candidates, chosen by chance."""
    return search_mipro(base_url, task, data, settings="random", **rest)


def search_gepa(base_url: str, task: Task, data: Data, *, cap: int, seed: int, settings: str, slots: int) -> Found:
    """`run_gepa` with its defaults, and a hard budget of `cap` rollouts; with `settings` "demos" it may choose
    demonstrations, too. Raises ConfigError for others."""
    if settings not in ("equal", "demos"):
        raise ConfigError(f"there are no settings {settings!r} of GEPA; there are equal, demos")
    config = GEPAConfig(seed=seed, optimize_demos=settings == "demos", max_labeled_demos=task.demos)
    options = StudyOptions(budget=Budget(max_rollouts=cap), slots=slots)
    splits, model, proposer = splits_of(task, data), task_endpoint(task, base_url), proposer_endpoint(base_url)
    work = run_gepa(start_of(task), config, splits, model, proposer, metric, options=options)
    mode = "few-shot + instruction" if config.optimize_demos else "instruction-only"
    return _result(task, asyncio.run(work), mode, slots)


def start_of(task: Task) -> PromptTemplate:
    """The starting prompt."""
    return PromptTemplate(task.instruction, task.user)


def sample_of(task: Task, row: Row) -> Sample:
    """A row as the library has it."""
    return Sample(inputs={task.input: row[task.input]}, ground_truth=row["label"], id=row["id"])


def splits_of(task: Task, data: Data) -> Splits:
    """Training and validation rows. None are kept for a verdict: the test of everyone stands in for it."""
    train, val = ([sample_of(task, row) for row in part] for part in (data.train, data.val))
    return Splits(train=train, val=val, test=[])


def metric(trajectory: Trajectory, sample: Sample) -> float:
    """The metric of everyone."""
    return float(score(str(trajectory.output or ""), str(sample.ground_truth)))


def task_endpoint(task: Task, base_url: str) -> Endpoint:
    """The model that runs the task, at temperature 0."""
    sampling = Sampling(temperature=0.0, max_tokens=task.max_tokens)
    return Endpoint(
        provider="openai_compatible", model=TASK_MODEL, base_url=base_url, sampling=sampling, timeout_s=_TIMEOUT_S
    )


def proposer_endpoint(base_url: str) -> Endpoint:
    """Who writes instructions."""
    return Endpoint(provider="openai_compatible", model=PROPOSER, base_url=base_url, timeout_s=_TIMEOUT_S)


def answers_of(task: Task, template: PromptTemplate, slots: int) -> Callable[[Sequence[Row], str], list[str]]:
    """Asks the model for rows with `template`, `slots` at a time; a call that fails gives ""."""

    async def ask(rows: Sequence[Row], base_url: str) -> list[str]:
        endpoint = task_endpoint(task, base_url)
        client = connect(endpoint, CallContext(Ledger(Budget()), slots=slots))

        async def one(row: Row) -> str:
            request = Request(endpoint=endpoint, messages=render(template, {task.input: row[task.input]}))
            try:
                return (await client.complete(request)).text
            except ProviderError:
                return ""

        try:
            return await asyncio.gather(*map(one, rows))
        finally:
            await client.close()

    return lambda rows, base_url: asyncio.run(ask(rows, base_url))


def found_of(
    task: Task, template: PromptTemplate, mode: str, slots: int, notes: Mapping[str, Any] | None = None
) -> Found:
    """A template as what a search ends with."""

    def prompt(row: Row) -> Messages:
        return [message.to_json() for message in render(template, {task.input: row[task.input]})]

    return Found(answers=answers_of(task, template, slots), prompt=prompt, mode=mode, notes=notes or {})


def _result(task: Task, result: OptimizationResult, mode: str, slots: int) -> Found:
    verdict = result.verdict
    notes = {
        "val_score": result.best.score,
        "val_n": result.best.n,
        "rollouts": result.spend.rollouts,
        "trials": len(result.history),
        "stop_reason": result.stop_reason,
        "verdict": None if verdict is None else verdict.decision,
        "by_phase": {phase: spend.rollouts for phase, spend in result.spend_by_phase.items()},
    }
    return found_of(task, result.best_template, mode, slots, notes)


def _mode(config: MIPROConfig) -> str:
    if not config.optimize_demos:
        return "instruction-only"
    return "few-shot + instruction" if config.optimize_instructions else "few-shot"
