"""`rollouts optimize --check`: is there anything to gain? The start and a few variants on a few validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import Evaluation, Program, PromptTemplate
from rollouts.errors import EvaluationError
from rollouts.evaluation.summary import scores_by_sample, summarise
from rollouts.experiments.job import Job
from rollouts.prompt_optimization import GEPAConfig
from rollouts.prompt_optimization.demos import DemoLimits, build_demo_sets, with_one_answer
from rollouts.prompt_optimization.opening import open_study
from rollouts.prompt_optimization.plan import affordable
from rollouts.prompt_optimization.proposers import RuleProposer
from rollouts.prompt_optimization.study import Study, StudyOptions, cells_of
from rollouts.prompt_optimization.targets import targets_of
from rollouts.stats import HeadRoom, Interval, head_room, mean_interval
from rollouts.store import Store

METHOD = "check"
_ROWS = 32
_LEAST_ROWS = 16
_SIZES = (5, 3, 2, 1)
"""How many variants are tried: the most that leave at least `_LEAST_ROWS` rows within the check's share."""
_SHARE = 4
"""The check takes at most this part of what the job's caps pay for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A prompt that was tried: what it is, the program, and its mean score over the rows that all prompts have."""

    name: str
    program: Program
    score: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What the check found. `rows` are the rows that the start and all `variants` have a score on; `failed` rollouts
    have none. `cached` rollouts came from the store and cost nothing. `stop_reason` is None when all took place."""

    run_id: str
    head_room: HeadRoom
    variants: tuple[Variant, ...]
    rows: int
    test_rows: int
    failed: int
    cached: int
    spend: Spend
    elapsed_s: float
    stop_reason: str | None = None


async def check_head_room(job: Job, store: Store, *, options: StudyOptions | None = None) -> CheckReport:
    """Scores the job's prompt on up to 32 validation rows, and unless these say that there is nothing to gain, up to
    five variants on the same rows: instructions by rule and demonstrations from the training rows, as MIPRO makes them.

    It is a run of its own with the job's caps and takes at most a quarter of them; an optimization of the same job
    finds the start's rollouts in the store. No test row is used and nothing is written but the store. Raises
    EvaluationError when the start has no score on any row, and what ends a run.
    """
    study = open_study(job.task, job.others, replace(options or job.options, store=store, method=METHOD))
    job.generate.bind(study)
    try:
        report = await _check(job, study)
    except BaseException as error:
        await study.close_after(error)
        raise
    await study.close("stopped" if study.stopping else "done", _stored(report, job.start))
    return report


async def _check(job: Job, study: Study) -> CheckReport:
    start, tests = job.start, len(job.data.test)
    payable = affordable(job.options.budget, study.usual_rollout(start, job.data.train[-1]), 0)
    count, most = _size(payable)
    rows = job.data.cut(val=most, test=0).val
    study.emit("plan", total=(1 + count) * len(rows))
    study.enter(METHOD)
    evaluations = await study.evaluate(cells_of(start, rows), phase=METHOD)
    scored = [scores_by_sample(evaluations)]
    if not scored[0]:
        reasons = study.stop_reason or "; ".join(summarise(evaluations).failures) or "the budget left no rollout"
        raise EvaluationError(f"no rollout of the starting prompt has a score: {reasons}")
    variants: list[tuple[str, Program]] = []
    if "ceiling" not in head_room(list(scored[0].values())).findings:
        variants = (await _variants(job, study, start))[:count]
        more = await study.evaluate([cell for _, program in variants for cell in cells_of(program, rows)], phase=METHOD)
        evaluations += more
        scored += [scores_by_sample(more[i : i + len(rows)]) for i in range(0, len(more), len(rows))]
    return _report(study, variants, scored, evaluations, tests)


def _size(payable: int | None) -> tuple[int, int]:
    """How many variants, and on how many validation rows: the first ones, which an optimization begins with too."""
    for count in _SIZES:
        rows = _ROWS if payable is None else min(_ROWS, payable // _SHARE // (1 + count))
        if rows >= _LEAST_ROWS:
            break
    return count, max(1, rows)


async def _variants(job: Job, study: Study, start: Program) -> list[tuple[str, Program]]:
    """The first instruction with demonstrations, which may gain what neither does alone; then both in turns."""
    config, alone = job.settings, len(start.modules) == 1
    rewritten = isinstance(config, GEPAConfig) or config.optimize_instructions
    texts: list[tuple[str, Program]] = []
    for target in await targets_of(study, start, job.data.train, config) if rewritten else ():
        for proposal in await target.propose([RuleProposer()], _SIZES[0]):
            changed = start.modules[target.module].replace(**{target.part: proposal.text})
            where = "" if alone else f"{target.module}: "
            texts.append((f"{where}{target.part} by rule {len(texts) + 1}", _with(start, target.module, changed)))
    shown = _shown(job, start)
    out = [(f"{text} with {demos}", both) for text, program in texts[:1] for demos, both in _shown(job, program)[:1]]
    out += [pair for several in zip(texts, shown, strict=False) for pair in several]
    out += texts[len(shown) :] + shown[len(texts) :]
    return [(name, program) for name, program in out if all(map(study.fits, program.modules.values()))]


def _shown(job: Job, program: Program) -> list[tuple[str, Program]]:
    """`program` with demonstrations of training rows. None for several modules: what the inner ones are given is not
    known from the rows."""
    config, out = job.settings, []
    if config.optimize_demos and len(program.modules) == 1:
        (module,) = program.modules
        limits = DemoLimits(bootstrapped=0, labelled=config.max_labeled_demos, sets=2)
        rows = with_one_answer(job.data.train, job.task.score_fn)
        for entry in build_demo_sets(program.template, rows, (), limits, seed=config.seed):
            if entry.source not in ("none", "own"):
                changed = program.template.replace(few_shot_examples=entry.examples)
                out.append((f"{len(entry.examples)} demonstrations, {entry.source}", _with(program, module, changed)))
    return out


def _with(start: Program, module: str, template: PromptTemplate) -> Program:
    return start.with_modules({**start.modules, module: template})


def _report(
    study: Study,
    variants: Sequence[tuple[str, Program]],
    scored: Sequence[dict[str, float]],
    evaluations: Sequence[Evaluation],
    tests: int,
) -> CheckReport:
    # Variants that the budget left out say nothing; of the others the rows that all have are compared.
    tried = [(pair, scores) for pair, scores in zip(variants, scored[1:], strict=True) if scores]
    shared = sorted(set(scored[0]).intersection(*(scores for _, scores in tried)))
    if not shared:
        shared, tried = sorted(scored[0]), []
    rows = [[scores[sample] for sample in shared] for scores in (scored[0], *(scores for _, scores in tried))]
    summary = summarise(evaluations)
    missing = f"{summary.missing} rollouts did not fit in the budget" if summary.missing else None
    found = head_room(rows[0], rows[1:], test_samples=tests)
    study.emit("headroom", **found.to_json())
    return CheckReport(
        run_id=study.run_id,
        head_room=found,
        variants=tuple(
            Variant(name=name, program=program, score=mean_interval(row))
            for ((name, program), _), row in zip(tried, rows[1:], strict=True)
        ),
        rows=len(shared),
        test_rows=tests,
        failed=summary.failed,
        cached=study.evaluator.progress.cached,
        spend=study.ledger.spent,
        elapsed_s=study.elapsed,
        stop_reason=study.stop_reason or missing,
    )


def _stored(report: CheckReport, start: Program) -> dict[str, Any]:
    return {
        "best_score": report.head_room.baseline.mean,
        "best_program": start.digest,
        "start_program": start.digest,
        "head_room": report.head_room.to_json(),
        "stop_reason": report.stop_reason,
    }
