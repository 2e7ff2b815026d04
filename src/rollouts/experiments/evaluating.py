"""One prompt on rows of a job's data: its mean score, what failed, and which rows went worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rollouts.budget import Spend
from rollouts.datasets import PARTS
from rollouts.dtypes import Evaluation, Program, Sample
from rollouts.errors import ConfigError, DataError, EvaluationError, RolloutsError
from rollouts.evaluation import Cell, EvaluationSummary, summarise
from rollouts.evaluation.summary import scores_by_sample
from rollouts.experiments.job import Job
from rollouts.prompt_optimization.opening import open_study
from rollouts.prompt_optimization.splits import check_inputs
from rollouts.prompt_optimization.study import StudyOptions
from rollouts.stats import Interval, mean_interval
from rollouts.store.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row and its score, the mean over repeats; `output` is that of its worst repeat."""

    sample: Sample
    score: float
    output: str
    feedback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """A prompt's score: `interval` holds the mean over rows, with the job's `confidence`. `rows` are the scored ones,
    worst first. `cached` rollouts came from the store and cost nothing. `stop_reason` is None when all rollouts took
    place. `notes` say what a reader of the score should know. `repeats` has the mean of each repeat (None: no score),
    and `unsteady` rows had another score in one of them."""

    run_id: str
    program: Program
    interval: Interval
    confidence: float
    summary: EvaluationSummary
    rows: tuple[Row, ...]
    cached: int
    spend: Spend
    elapsed_s: float
    stop_reason: str | None = None
    notes: tuple[str, ...] = ()
    repeats: tuple[float | None, ...] = ()
    unsteady: int = 0


def choose_rows(job: Job, part: str, limit: int | None = None) -> list[Sample]:
    """The rows of `part` (`train`, `val`, `test` or `all`), at most `limit`. Raises DataError when there are none."""
    names = PARTS if part == "all" else (part,)
    if not set(names) <= set(PARTS):
        raise ConfigError(f"no split {part!r}; one of {', '.join(PARTS)}, all")
    rows = [(name, sample) for name in names for sample in getattr(job.data, name)][:limit]
    if not rows:
        raise DataError(f"the {part} split is empty; choose another with --split, or give it rows (dataset.{part})")
    if len({sample.id for _, sample in rows}) == len(rows):
        return [sample for _, sample in rows]
    # Splits from files of their own number their rows alike.
    return [replace(sample, id=f"{name} {sample.id}") for name, sample in rows]


async def evaluate_prompt(
    job: Job, store: Store, program: Program, rows: Sequence[Sample], *, repeats: int, options: StudyOptions
) -> EvaluationReport:
    """Scores `program` on `rows`, `repeats` times each, as a run of its own with the job's model, metric and caps.

    Failed rollouts are left out of the mean. Raises EvaluationError when none has a score, TemplateError when the
    prompt asks for what the rows lack, and what ends a run.
    """
    check_inputs(program, rows)
    study = open_study(job.task, job.others, replace(options, store=store, method="evaluate"))
    job.generate.bind(study)
    cells = [Cell(program, sample, repeat) for repeat in range(repeats) for sample in rows]
    try:
        study.emit("plan", total=len(cells))
        study.enter("evaluate")
        evaluations = await study.evaluate(cells, phase="evaluate")
        summary = summarise(evaluations)
        if summary.mean is None and study.stop_reason is None:
            reasons = "; ".join(summary.failures) or "the budget left no rollout"
            raise EvaluationError(f"no rollout has a score: {reasons}")
    except BaseException as error:
        status = "failed" if isinstance(error, RolloutsError) else "stopped"
        await study.close(status, {"error": f"{type(error).__name__}: {error}"})
        raise
    confidence = job.settings.confidence
    missing = f"{summary.missing} rollouts did not fit in the budget" if summary.missing else None
    report = EvaluationReport(
        run_id=study.run_id,
        program=program,
        interval=mean_interval(list(scores_by_sample(evaluations).values()), confidence),
        confidence=confidence,
        summary=summary,
        rows=_rows(rows, evaluations),
        cached=study.evaluator.progress.cached,
        spend=study.ledger.spent,
        elapsed_s=study.elapsed,
        stop_reason=study.stop_reason or missing,
        notes=study.evaluator.answers.notes(program.digest),
        repeats=tuple(summarise(one for one in evaluations if one.repeat == n).mean for n in range(repeats)),
        unsteady=_unsteady(evaluations),
    )
    await study.close("stopped" if study.stopping else "done", _stored(report))
    return report


def _stored(report: EvaluationReport) -> dict[str, Any]:
    program = report.program
    return {
        "best_score": report.summary.mean,
        "best_program": program.digest,
        "start_program": program.digest,
        "score": report.interval.to_json(),
        "confidence": report.confidence,
        "failed": report.summary.failed,
        "notes": list(report.notes),
        "stop_reason": report.stop_reason,
    }


def _unsteady(evaluations: Sequence[Evaluation]) -> int:
    """How many rows had more than one score."""
    pairs = {(evaluation.sample_id, evaluation.value) for evaluation in evaluations if evaluation.value is not None}
    return sum(count > 1 for count in Counter(sample for sample, _ in pairs).values())


def _rows(samples: Sequence[Sample], evaluations: Sequence[Evaluation]) -> tuple[Row, ...]:
    worst: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        known = worst.get(evaluation.sample_id)
        if evaluation.value is not None and (known is None or evaluation.value < (known.value or 0.0)):
            worst[evaluation.sample_id] = evaluation
    means = scores_by_sample(evaluations)
    rows = [
        Row(
            sample=sample,
            score=means[sample.id],
            output=worst[sample.id].output,
            feedback=score.feedback if (score := worst[sample.id].score) is not None else None,
        )
        for sample in samples
        if sample.id in means
    ]
    return tuple(sorted(rows, key=lambda row: row.score))
