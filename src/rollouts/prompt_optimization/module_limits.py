"""Budgets and limits of modules against what a call takes and against those of the whole, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rollouts.budget import Budget, Spend
from rollouts.dtypes import Program, PromptTemplate, Request, Sample, render
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.study import Study

_CAPS = ("max_cost_usd", "max_tokens", "max_calls", "max_trials")
_LIMITS = ("max_prompt_tokens", "max_latency_s", "max_p95_latency_s", "max_cost_per_call_usd")


def usual_by_module(study: Study, start: Program, sample: Sample) -> dict[str, Spend]:
    """What one call of every module usually takes; see `Study.usual_rollout`."""
    return {
        name: study.usual_rollout(replace(start, modules={name: template}), sample)
        for name, template in start.modules.items()
    }


def check_limits(study: Study, start: Program, sample: Sample, usual: Mapping[str, Spend]) -> list[str]:
    """Raises ConfigError for a cap that does not pay for one call; returns what is odd about the budgets and the
    constraints, a sentence each, as an event too."""
    options = study.options
    notes: list[str] = []
    for name, template in start.modules.items():
        worst = _worst_case(study, name, template, sample)
        own = options.module_budgets.get(name)
        for whose, budget in (("the run", options.budget), (f"module {name!r}", own)):
            if budget is not None:
                _check_pays(budget, worst, whose, name)
        notes += _never_binds(name, own, options.budget, _CAPS)
        notes += _never_binds(name, options.constraints.modules.get(name), options.constraints, _LIMITS)
        if not study.fits(template, name):
            notes.append(
                f"the prompt of module {name!r} has {study.prompt_tokens(template)} tokens, above its "
                "max_prompt_tokens: only shorter ones are tried"
            )
    study.emit("budgets", notes=notes, usual={name: spend.to_json() for name, spend in usual.items()})
    return notes


def _worst_case(study: Study, name: str, template: PromptTemplate, sample: Sample) -> Spend:
    task = study.evaluator.task
    values = {**dict.fromkeys(template.placeholders, ""), **sample.inputs}
    return study.worst_case(
        Request(endpoint=task.endpoints.get(name, task.endpoint), messages=render(template, values))
    )


def _check_pays(budget: Budget, worst: Spend, whose: str, module: str) -> None:
    caps = (
        ("max_cost_usd", budget.max_micros, worst.micros, 1e6),
        ("max_tokens", budget.max_tokens, worst.tokens, 1),
        ("max_calls", budget.max_calls, 1, 1),
    )
    for key, cap, wanted, unit in caps:
        if cap is not None and cap < wanted:
            raise ConfigError(
                f"{key} = {cap / unit:g} of {whose} is below one call of module {module!r}, which may take "
                f"{wanted / unit:g}; raise it, or lower max_tokens of that module's endpoint"
            )


def _never_binds(name: str, own: Any, whole: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """Caps or limits of a module above those of the whole, which hold for each of its parts."""
    for key in keys:
        mine, all_of_it = getattr(own, key, None), getattr(whole, key)
        if mine is not None and all_of_it is not None and float(mine) > float(all_of_it):
            yield f"{key} of module {name!r} is above that of the whole run and never binds"
