"""From a job to its end on the command line: folder check, store, signals, progress."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from rollouts.cli.progress import Progress
from rollouts.errors import ConfigError
from rollouts.experiments.job import DEFAULT_STORE, Job, prepare
from rollouts.experiments.loading import LoadedConfig
from rollouts.prompt_optimization import StudyOptions
from rollouts.prompt_optimization.interrupts import GRACE_S, INTERRUPTED, Interrupts

T = TypeVar("T")

_SETTINGS = {
    "method": "algorithm",
    "budget": "termination_config.budget",
    "budget_usd": "termination_config.max_cost_usd",
    "max_calls": "termination_config.max_calls",
    "jobs": "execution.slots",
    "fail_fast": "execution.fail_fast",
    "track": "execution.track",
    "limit": "dataset.limit",
    "seed": "seed",
    "store": "execution.store",
    "out": "results_folder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a run returned, and the exit code of the signal that ended it, if one did."""

    value: Any
    interrupted: int | None


def overrides(settings: Sequence[str], **options: Any) -> list[str]:
    """`--set` texts and options as overrides of the job file; options win."""
    given = [f"{_SETTINGS[name]}={json.dumps(value)}" for name, value in options.items() if value is not None]
    return [*settings, *given]


def prepared(loaded: LoadedConfig, console: Console) -> Job:
    """The job of a file, its notes shown."""
    job = prepare(loaded)
    for note in job.notes:
        console.print(f"note: {note}", style="dim", soft_wrap=True)
    return job


def check_folder(folder: Path) -> None:
    """Raises ConfigError where results could not be written: better before anything is paid than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the results folder {folder} cannot be made ({error.strerror}); name another with --out"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the results folder {folder} cannot be written to; change its permissions, or name another with --out"
        )


def place_of_store(given: str | None) -> str:
    """The store that was named, else that of `ROLLOUTS_STORE`, else the working directory's."""
    return given or os.environ.get("ROLLOUTS_STORE") or DEFAULT_STORE


def is_store(place: str) -> bool:
    """False where there is no store to read from, and opening one would make an empty one."""
    return "://" in place or Path(place).expanduser().exists()


def watched(console: Console, options: StudyOptions, work: Callable[[StudyOptions], Awaitable[T]]) -> Ended:
    """Runs `work` with options that show progress and obey signals."""

    async def inner() -> Ended:
        progress = Progress(console)

        def stop() -> None:
            if progress.study is not None:
                progress.study.stop(INTERRUPTED, grace_s=GRACE_S)

        def keep() -> None:
            if progress.study is not None:
                progress.study.store.flush()

        interrupts = Interrupts(stop, progress.restore, keep)
        seen = replace(options, on_start=progress.attach, listeners=(*options.listeners, progress.listen))
        with interrupts.installed():
            try:
                async with progress:
                    value = await work(seen)
            except Exception:
                if progress.study is not None:
                    note = (
                        f"run {progress.study.run_id}: what was answered so far is in the store and is not paid again"
                    )
                    console.print(note, style="yellow", soft_wrap=True)
                raise
        return Ended(value=value, interrupted=interrupts.exit_code)

    return asyncio.run(inner())
