"""The files a run leaves in its results folder.

- `best_prompt.json`: instruction, demonstrations, and the exact messages to send (placeholders in the last one).
- `score_history.json`: the baseline and one entry per trial.
- `selected_demos.json`: the demonstrations of the best prompt.
- `job_metadata.json`: configuration, seeds, versions, spend by phase, verdict, stop reason.

Each is written beside its place and then moved there, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import rollouts
from rollouts.dtypes import PromptTemplate
from rollouts.errors import RolloutsError
from rollouts.prompt_optimization import OptimizationResult

FILES = ("best_prompt.json", "score_history.json", "selected_demos.json", "job_metadata.json")
_LIBRARIES = ("optuna", "aiohttp", "sqlalchemy", "genai-prices", "xllamacpp", "anthropic")


def prompt_messages(template: PromptTemplate) -> list[dict[str, Any]]:
    """The messages to send, in order, ready for a chat API; fill the placeholders of the system and last user text."""
    head = [{"role": "system", "content": template.system}] if template.system else []
    shown: list[dict[str, Any]] = []
    for demo in template.few_shot_examples:
        shown.append({"role": "user", "content": demo.input})
        if demo.messages:
            shown.extend(message.to_json() for message in demo.messages)
        else:
            shown.append({"role": "assistant", "content": demo.output})
    return [*head, *shown, {"role": "user", "content": template.user_template}]


def best_prompt(template: PromptTemplate) -> dict[str, Any]:
    """`best_prompt.json`."""
    return {
        "instruction": {"role": "system", "content": template.system},
        "demonstrations": demonstrations(template),
        "user_template": template.user_template,
        "messages": prompt_messages(template),
        "template": template.to_json(),
    }


def demonstrations(template: PromptTemplate) -> list[dict[str, str]]:
    """The demonstrations as rows: the user message and the answer."""
    return [{"query": demo.input, "label": demo.output} for demo in template.few_shot_examples]


def write_results(
    folder: Path,
    result: OptimizationResult,
    *,
    config: Mapping[str, Any],
    seed: int,
    events: Sequence[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Writes the four files and returns their paths by name; raises RolloutsError when the folder is not writable."""
    baseline = result.initial_template.score if result.initial_template is not None else None
    contents: dict[str, Any] = {
        "best_prompt.json": best_prompt(result.best_template),
        "score_history.json": {
            "baseline": baseline,
            "best": result.best_template.score,
            "trials": [
                {
                    "trial": stats.generation,
                    "score": None if math.isnan(stats.mean_score) else stats.mean_score,
                    "best_score": stats.best_score,
                    "evaluated": stats.num_evaluated,
                    **_detail(events, stats.generation),
                }
                for stats in result.history
            ],
        },
        "selected_demos.json": demonstrations(result.best_template),
        "job_metadata.json": {
            "run_id": result.run_id,
            "config": dict(config),
            "seed": seed,
            "verdict": None if result.verdict is None else result.verdict.to_json(),
            "stop_reason": result.stop_reason,
            "spend": {"total": result.spend.to_json(), "by_phase": spend_by_phase(result)},
            "versions": versions(),
        },
    }
    paths: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            paths[name] = str(folder / name)
            _write(folder / name, content)
    except OSError as error:
        raise RolloutsError(
            f"the results cannot be written to {folder}: {error.strerror or error}; the run is kept in the store as "
            f"{result.run_id}: make room or set another folder with --out and run again with --resume"
        ) from error
    return paths


def _detail(events: Sequence[Mapping[str, Any]], trial: int) -> dict[str, Any]:
    kept = ("candidate", "instruction_source", "demo_source", "demos")
    return next(({name: e[name] for name in kept if name in e} for e in events if e.get("trial") == trial), {})


def spend_by_phase(result: OptimizationResult) -> dict[str, Any]:
    """Phase -> amounts, as JSON."""
    return {phase: spend.to_json() for phase, spend in result.spend_by_phase.items()}


def versions() -> dict[str, str]:
    """What the run was made with."""
    out = {"rollouts": rollouts.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def _write(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
