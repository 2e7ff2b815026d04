"""The package `gepa` on the comparison's tasks, with its own default adapter. Importing this needs gepa and litellm.

It searches instructions only. `max_metric_calls` is the cap, and one of its metric calls is one task call; it looks at
the limit between iterations, so a run may pass it by one evaluation of the validation rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its price list would be fetched from the network

import gepa
from gepa.adapters.default_adapter.default_adapter import DefaultAdapter, EvaluationResult

from benchmarks.mipro_comparison.outcome import Found, Row, score
from benchmarks.mipro_comparison.tasks import Data, Task
from rollouts.dtypes.prompts import fill

COMPONENT = "system_prompt"
SETTINGS = ("equal",)


class _Silent:
    def log(self, message: str) -> None: ...


def search(base_url: str, task: Task, data: Data, *, cap: int, seed: int, settings: str, slots: int) -> Found:
    """The best instruction that `gepa.optimize` finds with about `cap` task calls. Raises ValueError for settings other
    than "equal": it has no budget of its own."""
    if settings not in SETTINGS:
        raise ValueError(f"there are no settings {settings!r} of gepa; there are {', '.join(SETTINGS)}")
    result = gepa.optimize(
        seed_candidate={COMPONENT: task.instruction},
        trainset=_rows(task, data.train),
        valset=_rows(task, data.val),
        adapter=_adapter(base_url, task, slots),
        reflection_lm="openai/proposer",
        reflection_lm_kwargs={"api_base": base_url, "api_key": "none"},
        max_metric_calls=cap,
        seed=seed,
        logger=_Silent(),
    )
    best = dict(result.best_candidate)

    def prompt(row: Row) -> list[dict[str, str]]:
        return [
            {"role": "system", "content": best[COMPONENT]},
            {"role": "user", "content": fill(task.user, row)},
        ]

    def answers(rows: Sequence[Row], test_url: str) -> list[str]:
        evaluated = _adapter(test_url, task, slots).evaluate(_rows(task, rows), best)
        return [output["full_assistant_response"] for output in evaluated.outputs]

    notes = {
        "metric_calls": result.total_metric_calls,
        "candidates": result.num_candidates,
        "val_score": result.val_aggregate_scores[result.best_idx],
    }
    return Found(answers=answers, prompt=prompt, mode="instruction-only", notes=notes)


def evaluate(row: Any, response: str) -> EvaluationResult:
    """The metric of everyone, with the feedback of gepa's own evaluator in substance: right, or the answer it was."""
    right = score(response, row["answer"])
    said = (
        "The response is correct." if right else f"The response is incorrect. The correct answer is '{row['answer']}'."
    )
    return EvaluationResult(score=float(right), feedback=said)


def _adapter(base_url: str, task: Task, slots: int) -> DefaultAdapter:
    request = {"api_base": base_url, "api_key": "none", "temperature": 0.0, "max_tokens": task.max_tokens}
    return DefaultAdapter(
        model="openai/task", evaluator=evaluate, max_litellm_workers=slots, litellm_batch_completion_kwargs=request
    )


def _rows(task: Task, rows: Sequence[Row]) -> list[Any]:
    return [{"input": fill(task.user, row), "additional_context": {}, "answer": row["label"]} for row in rows]
