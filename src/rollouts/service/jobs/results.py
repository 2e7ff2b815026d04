"""What a run that came to an end has to say, as JSON that is kept with the job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rollouts.experiments.job import Job, result_files
from rollouts.experiments.results import prompts_json, write_results
from rollouts.prompt_optimization import OptimizationResult, ScoredProgram
from rollouts.store import Store
from rollouts.store.codec import clean


def said(job: Job, result: OptimizationResult, store: Store) -> dict[str, Any]:
    """The fields `summary` and `result` of the job's row; the latter holds the `candidates`, best first, and under
    `files` the contents of the result files, by name.

    The files are also written to the job's folder. Raises RolloutsError when they cannot be.
    """
    files = result_files(job, result, store)
    write_results(job.folder, files, result.run_id)
    candidates = [candidate_json(entry) for entry in result.population]
    return {
        "summary": _sendable(result.details["summary"]),
        "result": {"candidates": _sendable(candidates), "files": _sendable(files)},
    }


def candidate_json(entry: ScoredProgram) -> dict[str, Any]:
    """A candidate: its prompt, and its mean score over `n` validation samples."""
    return {
        "id": entry.id,
        "program": entry.program.digest,
        "score": entry.score,
        "n": entry.n,
        "objectives": dict(entry.objectives),
        "prompt": prompts_json(entry),
    }


def _sendable(value: Any) -> Any:
    """`value` with None for numbers that JSON does not have, and U+FFFD for halves of characters."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(name): _sendable(inner) for name, inner in value.items()}
    return [_sendable(inner) for inner in value] if isinstance(value, list | tuple) else value
