"""What the commands show at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rollouts.budget import Budget, Spend
from rollouts.cli import words
from rollouts.cli.lineage import modules_table
from rollouts.dtypes import PromptTemplate
from rollouts.experiments.estimate import Estimate, PhaseEstimate
from rollouts.experiments.export import PromptDiff, prompt_diff
from rollouts.experiments.job import Job
from rollouts.prompt_optimization import OptimizationResult, ScoredProgram, Study
from rollouts.prompt_optimization.plan import Plan
from rollouts.stats import Interval, Verdict

_DECISIONS = {
    "ship": ("ship the new prompt", "bold green"),
    "keep": ("keep your prompt", "bold yellow"),
    "undecided": ("undecided", "bold yellow"),
}
_OBJECTIVES = {"cost": "micro-dollars", "latency": "seconds", "length": "prompt tokens"}
_SHOWN_DEMOS = 3


def interval_json(interval: Interval) -> dict[str, Any]:
    """`{mean, interval: [low, high], n}`."""
    return {"mean": interval.mean, "interval": [interval.low, interval.high], "n": interval.n}


def spend_json(spend: Spend) -> dict[str, Any]:
    """A spend with dollars beside the exact micro-dollars."""
    return {"usd": spend.usd, **spend.to_json()}


def show_result(console: Console, result: OptimizationResult, study: Study, files: Mapping[str, str]) -> None:
    """The final screen of an optimization."""
    show_program_diff(console, result.initial.program.modules, result.best_program.modules)
    console.print(scores_table(result))
    if len(result.front) > 1:
        console.print(front_table(result.front))
    if "bottleneck" in result.details:
        console.print(modules_table(result.details["bottleneck"]["modules"]))
    if result.verdict is not None:
        console.print(verdict_line(result.verdict), soft_wrap=True)
    for note in result.notes:
        console.print(f"Note: {note}.", style="yellow", soft_wrap=True)
    console.print(f"The search ended because: {result.stop_reason}.", soft_wrap=True)
    console.print(spend_table(result.spend, result.spend_by_phase, study.ledger.budget, study.elapsed))
    progress = study.evaluator.progress
    known = "1 rollout was" if progress.cached == 1 else f"{progress.cached} rollouts were"
    console.print(f"{known} known already and cost nothing; {progress.failed} failed.")
    if why := study.evaluator.failure_limit.commonest():
        console.print(f"Most often {why}.", style="yellow", soft_wrap=True)
    console.print(f"Run {result.run_id}; files:")
    for path in files.values():
        console.print(f"  {path}", soft_wrap=True)


def show_program_diff(
    console: Console, before: Mapping[str, PromptTemplate], after: Mapping[str, PromptTemplate]
) -> None:
    """`show_prompt_diff` of every module, each under its name where there are several."""
    for name, template in after.items():
        if len(after) > 1:
            console.print(f"Module {name}:", style="bold")
        show_prompt_diff(console, before[name], template)


def show_prompt_diff(console: Console, before: PromptTemplate, after: PromptTemplate) -> None:
    """Instruction and user message as a coloured diff, demonstrations in short."""
    diff = prompt_diff(before, after)
    if diff.same:
        console.print(Panel(Text(after.system or "(no instruction)"), title="Prompt (unchanged)", title_align="left"))
        return
    lines = diff.instruction or tuple(f" {line}" for line in after.system.splitlines())
    console.print(Panel(coloured(lines), title="Instruction", title_align="left"))
    if diff.user:
        console.print(Panel(coloured(diff.user), title="User message", title_align="left"))
    console.print(demos_text(diff, after), soft_wrap=True)


def coloured(lines: tuple[str, ...]) -> Text:
    """A unified diff in colours."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    return Text("\n").join(Text(line, style=styles.get(line[:1], "")) for line in lines)


def demos_text(diff: PromptDiff, after: PromptTemplate) -> Text:
    """How many demonstrations there were and are, and the first of them."""
    text = Text(f"Demonstrations: {diff.demos_before} before, {diff.demos_after} after")
    for demo in after.few_shot_examples[:_SHOWN_DEMOS]:
        text.append(f"\n  {words.short(demo.input, 70)}  →  {words.short(demo.output, 30)}", style="dim")
    if diff.demos_after > _SHOWN_DEMOS:
        text.append(f"\n  … and {diff.demos_after - _SHOWN_DEMOS} more", style="dim")
    return text


def scores_table(result: OptimizationResult) -> Table:
    """Baseline and best, on validation and test rows."""
    table = Table(title="Scores", title_justify="left")
    for column in ("", "validation", "rows", "test", "interval", "rows"):
        table.add_column(column, justify="left" if not column else "right")
    verdict = result.verdict
    for name, scored in (("baseline", result.initial), ("best", result.best)):
        interval = None if verdict is None else getattr(verdict, name)
        table.add_row(name, words.score(scored.score), str(scored.n), *_cells(interval))
    if verdict is not None:
        table.add_row("difference", "", "", *_cells(verdict.difference, signed=True))
    return table


def front_table(front: Sequence[ScoredProgram]) -> Table:
    """The candidates that no other one beats on all objectives."""
    table = Table(title="Front (front.json has the prompts)", title_justify="left")
    names = list(front[0].objectives)
    for column in ("candidate", "validation", "rows", *(_OBJECTIVES.get(name, name) for name in names)):
        table.add_column(column, justify="left" if column == "candidate" else "right")
    for entry in front:
        amounts = [f"{entry.objectives[name]:,.4g}" for name in names]
        table.add_row(entry.id, words.score(entry.score), str(entry.n), *amounts)
    return table


def _cells(interval: Interval | None, *, signed: bool = False) -> tuple[str, str, str]:
    if interval is None or not interval.n:
        return "–", "–", "0"
    mean = f"{interval.mean:+.3f}" if signed else words.score(interval.mean)
    return mean, f"{words.score(interval.low)} to {words.score(interval.high)}", str(interval.n)


def verdict_line(verdict: Verdict) -> Text:
    """The decision and its reason."""
    label, style = _DECISIONS[verdict.decision]
    return Text.assemble("Verdict: ", (label, style), " – ", verdict.reason)


def spend_table(spend: Spend, by_phase: Mapping[str, Spend], budget: Budget, elapsed_s: float | None = None) -> Table:
    """What each phase took, the sum, and the caps."""
    table = Table(title="Spend", title_justify="left")
    for column in ("phase", "rollouts", "calls", "tokens", "dollars", "seconds"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, part in by_phase.items():
        table.add_row(phase, *_amounts(part))
    table.add_section()
    table.add_row("total", *_amounts(spend), style="bold")
    if elapsed_s is not None:
        table.add_row("wall clock", "", "", "", "", words.seconds(elapsed_s))
    caps = (budget.max_rollouts, budget.max_calls, budget.max_tokens)
    money = None if budget.max_micros is None else words.usd(budget.max_micros / 1e6)
    if any(cap is not None for cap in (*caps, money, budget.max_seconds)):
        shown = ["–" if cap is None else words.count(cap) for cap in caps]
        time = "–" if budget.max_seconds is None else words.seconds(budget.max_seconds)
        table.add_row("cap", *shown, money or "–", time, style="dim")
    return table


def _amounts(spend: Spend) -> tuple[str, ...]:
    counts = (words.count(spend.rollouts), words.count(spend.calls), words.count(spend.tokens))
    return (*counts, words.usd(spend.usd), words.seconds(spend.seconds))


def show_estimate(console: Console, job: Job, guess: Estimate, problems: list[str]) -> None:
    """The screen of `--dry-run`."""
    data, endpoint = job.data, job.task.endpoint
    console.print(f"Job {job.options.name!r}: {job.options.method} on {endpoint.name}, proposer {job.proposer.name}")
    console.print(f"Rows: {len(data.train)} train, {len(data.val)} validation, {len(data.test)} test")
    console.print(f"Plan: {plan_line(guess.plan)}")
    table = Table(title="Estimate (nothing was called)", title_justify="left")
    for column in ("phase", "rollouts", "calls", "tokens", "at most", "dollars", "at most "):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase in guess.phases:
        table.add_row(*_estimate_row(phase))
    table.add_section()
    table.add_row(*_estimate_row(guess.total), style="bold")
    console.print(table)
    for line in caps_lines(job.options.budget):
        console.print(line)
    console.print("Time: not known before the first calls.")
    for problem in problems:
        console.print(f"before it can run: {problem}", style="yellow", soft_wrap=True)


def plan_line(plan: Plan) -> str:
    """What the search will do, in words."""
    if not plan.searched:
        return "no search: the caps leave nothing for it beside the test; give more"
    if plan.children:
        search = f"{plan.trials} generations of at most {plan.children} children and {plan.minibatch} rollouts"
    elif plan.raced:
        search = f"a race of all candidates in {plan.trials} rounds of {plan.minibatch} rollouts"
    else:
        search = f"{plan.trials} trials of {plan.minibatch} rows"
    return f"{search}, then {plan.finals} for the finalists" if plan.finals else search


def caps_lines(budget: Budget) -> list[str]:
    """The caps that are set, one a line."""
    money = None if budget.max_micros is None else words.usd(budget.max_micros / 1e6)
    caps = {
        "rollouts": budget.max_rollouts,
        "calls": budget.max_calls,
        "tokens": budget.max_tokens,
        "dollars": money,
        "seconds": budget.max_seconds,
    }
    return [
        f"Cap on {name}: {cap:,}" if isinstance(cap, int) else f"Cap on {name}: {cap}"
        for name, cap in caps.items()
        if cap is not None
    ]


def _estimate_row(phase: PhaseEstimate) -> tuple[str, ...]:
    numbers = (phase.rollouts, phase.calls, phase.tokens, phase.worst_tokens)
    return (phase.phase, *map(words.count, numbers), words.usd(phase.usd), words.usd(phase.worst_usd))
