"""`rollouts optimize` and `rollouts demo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from rollouts.cli import failures, reports, words
from rollouts.cli.checking import check
from rollouts.cli.running import check_folder, is_store, prepared, watched
from rollouts.datasets import PARTS
from rollouts.errors import ConfigError, RunNotFound
from rollouts.experiments.estimate import check_models, estimate
from rollouts.experiments.job import Job, prepare, run_job, save
from rollouts.experiments.loading import LoadedConfig
from rollouts.experiments.results import front_json
from rollouts.experiments.resuming import check_unchanged, run_to_resume
from rollouts.prompt_optimization import OptimizationResult, Study, StudyOptions
from rollouts.store import Store, open_store
from rollouts.store.dialects import without_password


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asks for beside the job's own settings."""

    dry_run: bool = False
    check: bool = False
    resume: bool = False
    run_id: str | None = None
    fail_under: float | None = None
    as_json: bool = False


def optimize(loaded: LoadedConfig, wishes: Wishes) -> int:
    """Runs the job, or tells what it would take, and returns the exit code."""
    console = words.make_console(stderr=wishes.as_json)
    job = prepared(loaded, console)
    again = wishes.resume or wishes.run_id is not None
    if [wishes.check, wishes.dry_run, again].count(True) > 1:
        raise ConfigError("each of --check, --dry-run and --resume (or --run) is a run of its own: give one of them")
    if wishes.dry_run:
        return _dry_run(job, console, as_json=wishes.as_json)
    if wishes.check:
        return check(job, console, as_json=wishes.as_json)
    if again and not is_store(job.store):
        raise RunNotFound(
            f"there is no store at {job.store}, so no run to go on with; name one with --store, or start without "
            "--resume or --run"
        )
    check_folder(job.folder)
    store = open_store(job.store)
    try:
        return _run(_resumed(loaded, job, store, wishes.run_id) if again else job, store, wishes, console)
    finally:
        store.close()


def _dry_run(job: Job, console: Console, *, as_json: bool) -> int:
    guess, problems = estimate(job), check_models(job)
    if as_json:
        rows = {part: len(getattr(job.data, part)) for part in PARTS}
        failures.print_json(words.plain({**guess.to_json(), "rows": rows, "problems": problems, "dry_run": True}))
    else:
        reports.show_estimate(console, job, guess, problems)
    return 0


def _run(job: Job, store: Store, wishes: Wishes, console: Console) -> int:
    async def work(seen: StudyOptions) -> tuple[OptimizationResult, Study]:
        return await run_job(job, store, options=seen)

    ended = watched(console, job.options, work)
    result, study = ended.value
    if study.kept:
        if wishes.as_json:
            failures.print_json({"run_id": study.run_id, "kept": True, "stop_reason": result.stop_reason})
        told = f"{result.stop_reason}: run {study.run_id} keeps the verdict and the files that it had"
        console.print(told, style="yellow", soft_wrap=True)
        return int(ended.interrupted or _gate(wishes.fail_under, study.settled or {}, console))
    files = save(job, result, store)
    if wishes.as_json:
        failures.print_json(words.plain(result_json(result, study, files, job.store)))
    else:
        reports.show_result(console, result, study, files)
    if ended.interrupted is not None:
        console.print("interrupted: the best so far is kept; go on with --resume", style="yellow", soft_wrap=True)
        return int(ended.interrupted)
    return _gate(wishes.fail_under, result.details["summary"], console)


def _resumed(loaded: LoadedConfig, job: Job, store: Store, run_id: str | None) -> Job:
    """The job as it goes on with a run: under the caps that the command line gave it, where it gives none now."""
    run = run_to_resume(store, job, run_id)
    before = loaded.under(run.config.get("caps", ()))
    if before is not loaded:
        job = prepare(before)
    check_unchanged(store, job, run)
    return replace(job, options=replace(job.options, run_id=run.id, resume=True))


def _gate(threshold: float | None, summary: Mapping[str, Any], console: Console) -> int:
    """`below` for the mean on test rows that a summary has, on validation rows where there are none."""
    verdict = summary.get("verdict") or {}
    tested = verdict.get("best", {})
    if not tested.get("n"):
        return below(threshold, summary.get("best_score"), console)
    return below(threshold, tested["mean"], console, scored=tested["n"], failed=verdict.get("failed", 0))


def below(threshold: float | None, mean: float | None, console: Console, *, scored: int = 1, failed: int = 0) -> int:
    """The exit code of a mean of `scored` scores under a threshold, 0 when it is reached or there is none; `failed`
    rollouts count as 0: a prompt whose answers cannot be read must not pass by what is left of them."""
    value = None if mean is None else mean * scored / (scored + failed)
    if threshold is None or (value is not None and value >= threshold):
        return 0
    counted = f", {failed} failed rollouts counted as 0," if failed else ""
    told = f"the score {words.score(value)}{counted} is below {threshold:g} (--fail-under)"
    console.print(told, style="red", soft_wrap=True)
    return failures.BELOW


def result_json(result: OptimizationResult, study: Study, files: dict[str, str], store: str) -> dict[str, Any]:
    """The one object of `--json`."""
    verdict, progress = result.verdict, study.evaluator.progress
    tested = (
        {}
        if verdict is None
        else {
            "baseline": reports.interval_json(verdict.baseline),
            "best": reports.interval_json(verdict.best),
            "difference": reports.interval_json(verdict.difference),
            "p_value": verdict.p_value,
        }
    )
    return {
        "run_id": result.run_id,
        "method": study.options.method,
        "verdict": None if verdict is None else verdict.decision,
        "reason": None if verdict is None else verdict.reason,
        "best_score": result.best.score,
        "baseline_score": result.initial.score,
        "front": [front_json(entry) for entry in result.front],
        **({"bottleneck": result.details["bottleneck"]} if "bottleneck" in result.details else {}),
        "test": tested,
        "notes": list(result.notes),
        "trials": len(result.history),
        "stop_reason": result.stop_reason,
        "spend": {
            "total": reports.spend_json(result.spend),
            "by_phase": {phase: reports.spend_json(spend) for phase, spend in result.spend_by_phase.items()},
            "elapsed_s": study.elapsed,
        },
        "rollouts": {"done": progress.done, "cached": progress.cached, "failed": progress.failed},
        "retries": dict(study.context.retries),
        "files": files,
        "store": without_password(store),
    }
