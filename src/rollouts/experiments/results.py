"""The files a run leaves in its results folder.

- `best_prompt.json`: instruction, demonstrations, and the exact messages to send (placeholders in the last one).
- `score_history.json`: the baseline, one entry per trial, and GEPA's children with their parents.
- `selected_demos.json`: the demonstrations of the best prompt.
- `bottleneck.json`, of r-MIPRO: the modules by head-room, and where every round's trials went and why.
- `front.json`, for several objectives: the candidates that no other one beats on all of them.
- `job_metadata.json`: configuration, seeds, versions, spend by phase, verdict, stop reason.

For a program of several modules prompts and demonstrations stand under `modules`, by name.

Each is written beside its place and then moved there, so that a reader never sees half of one.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import rollouts
from rollouts.errors import RolloutsError
from rollouts.integrations.exports.layout import each
from rollouts.integrations.exports.native import best_prompt, demonstrations
from rollouts.prompt_optimization import OptimizationResult, ScoredProgram
from rollouts.prompt_optimization.saving import BEST_PROMPT, write_json

FILES = (BEST_PROMPT, "score_history.json", "selected_demos.json", "job_metadata.json")
_BOTTLENECK, _FRONT = "bottleneck.json", "front.json"
_LIBRARIES = ("optuna", "aiohttp", "sqlalchemy", "genai-prices", "xllamacpp", "anthropic")


def contents_of(
    result: OptimizationResult,
    *,
    config: Mapping[str, Any],
    seed: int,
    events: Sequence[Mapping[str, Any]] = (),
    children: Sequence[Mapping[str, Any]] = (),
    rounds: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What a run leaves: the content of each file by its name.

    `events` are those of trials, `children` those of GEPA's children, `rounds` those of r-MIPRO's allocations.
    """
    best = result.best
    modules = {"main": best.template} if len(best.program.modules) == 1 else best.program.modules
    contents: dict[str, Any] = {
        BEST_PROMPT: prompts_json(best),
        "score_history.json": {
            "baseline": result.initial.score,
            "best": best.score,
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
            **({"children": list(children)} if children else {}),
        },
        "selected_demos.json": each(modules, demonstrations),
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
    if rounds:
        contents[_BOTTLENECK] = {**result.details["bottleneck"], "rounds": list(rounds)}
    if len(result.front) > 1:
        contents[_FRONT] = [front_json(entry) | {"prompt": prompts_json(entry)} for entry in result.front]
    return contents


def write_results(folder: Path, contents: Mapping[str, Any], run_id: str) -> dict[str, str]:
    """Writes the files and returns their paths by name; raises RolloutsError when the folder is not writable."""
    paths: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            paths[name] = str(folder / name)
            write_json(folder / name, content)
        for name in {_BOTTLENECK, _FRONT} - contents.keys():
            (folder / name).unlink(missing_ok=True)  # an earlier run's would be taken for this one's
    except OSError as error:
        raise RolloutsError(
            f"the results cannot be written to {folder}: {error.strerror or error}; the run is kept in the store: make "
            f"room, or name another folder with --out, and run the command again with --run {run_id} (nothing is paid "
            "twice)"
        ) from error
    return paths


def prompts_json(entry: ScoredProgram) -> dict[str, Any]:
    """The prompt of a candidate, or all its prompts and the program."""
    if len(entry.program.modules) == 1:
        return best_prompt(entry.template)
    return {
        "modules": {name: best_prompt(template) for name, template in entry.program.modules.items()},
        "program": entry.program.to_json(),
    }


def front_json(entry: ScoredProgram) -> dict[str, Any]:
    """What a candidate of the front is worth; less of every objective but the score is better."""
    return {"id": entry.id, "score": entry.score, "n": entry.n, **entry.objectives}


def _detail(events: Sequence[Mapping[str, Any]], trial: int) -> dict[str, Any]:
    kept = ("candidate", "candidates", "instruction_source", "demo_source", "demos", "modules", "members", "front")
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
