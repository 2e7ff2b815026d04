"""A job's events as lines of text, in the manner of the MIPRO walkthrough. Pure: events in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.cli import words
from rollouts.client import Event, Job

RULE = "=" * 40
_BARS = "▁▂▃▄▅▆▇█"
_PHASES = ("bootstrap", "search", "validate", "test")
_TITLES = {
    "mipro": ("Bootstrap", "Optimization", "Validation of the leaders", "Test"),
    "gepa": ("Baseline", "Evolution", "Validation of the leaders", "Test"),
}
_ONCE = {"phase": "phase", "demo_sets": "", "proposals": "round", "trial": "trial", "child": "child"}
"""Kinds that a run which goes on tells again, and the key that says which of its kind one is."""
_ENDS = {"succeeded": "Complete", "failed": "Failed", "cancelled": "Cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """What is shown beside phases and totals: a line for each trial, the curve of the leader's score, the amounts."""

    show_trial_results: bool = True
    show_curve: bool = False
    verbose_summary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A job that is over: `summary` of its run (empty where it has no result), and its spend."""

    job: Job
    summary: Mapping[str, Any]
    spend: Mapping[str, Any]


class Listing:
    """Tells a job from its first event on. What a restart of the service repeats is told once."""

    def __init__(self, algorithm: str, display: Display) -> None:
        self._display = display
        self._gepa = algorithm == "gepa"
        self._titles = _TITLES["gepa" if self._gepa else "mipro"]
        self._name = algorithm.upper()
        self._seen: set[tuple[str, Any]] = set()
        self._planned = self._trials = 0
        self._bests: list[float] = []

    def begin(self, job: Job) -> Iterator[str]:
        """The head."""
        yield from (RULE, f"{self._name} Prompt Optimization", RULE, f"Job ID: {job.id}")

    def add(self, event: Event) -> Iterator[str]:
        """The lines of one more event; mostly none."""
        told = _KINDS.get(event.kind)
        if told is None:
            return iter(())
        if event.kind in _ONCE:
            key = (event.kind, event.data.get(_ONCE[event.kind]))
            if key in self._seen:
                return iter(())
            self._seen.add(key)
        return told(self, event.data)

    def end(self, outcome: Outcome) -> Iterator[str]:
        """Best score and totals."""
        job, spend = outcome.job, outcome.spend
        yield from ("", RULE, f"Optimization {_ENDS.get(job.status, job.status)}", RULE)
        if job.error:
            yield f"Error: {job.error}"
        if outcome.summary:
            yield from _found(outcome)
        yield f"Total {'Generations' if self._gepa else 'Iterations'}: {self._trials}"
        yield f"Total Evaluations: {spend['total']['rollouts']}"
        if self._display.show_curve and self._bests:
            first, last = _score(self._bests[0]), _score(self._bests[-1])
            yield f"Curve: {curve(self._bests)}  (the leader's estimated score, from {first} to {last})"
        if self._display.verbose_summary:
            yield from _amounts(outcome)

    def _job(self, data: Mapping[str, Any]) -> Iterator[str]:
        if data["status"] not in _ENDS:
            yield f"Status: {data['status']}"

    def _plan(self, data: Mapping[str, Any]) -> Iterator[str]:
        self._planned = data.get("trials", 0)
        yield from ()

    def _enter(self, data: Mapping[str, Any]) -> Iterator[str]:
        if data["phase"] not in _PHASES:
            return
        number = 1 + _PHASES.index(data["phase"])
        if number == 2 and not self._gepa:
            yield f"  Total instructions: {data.get('instructions', 0)}"
            yield "  ✓ Bootstrap complete"
        yield from ("", f"Phase {number}: {self._titles[number - 1]}")
        if number == 1:
            yield "  Scoring your prompt..." if self._gepa else "  Generating instruction candidates..."

    def _demo_sets(self, data: Mapping[str, Any]) -> Iterator[str]:
        yield "  Sampling demonstrations..."
        yield f"  - Good answers of your prompt: {data['successes']}"
        yield f"  - Demonstration sets: {sum(map(len, data['sources'].values()))}"

    def _proposals(self, data: Mapping[str, Any]) -> Iterator[str]:
        if self._display.show_trial_results and data["added"]:
            yield f"  - {data['added']} more instructions generated"

    def _trial(self, data: Mapping[str, Any]) -> Iterator[str]:
        self._trials = data["trial"]
        if data["best"] is not None:
            self._bests.append(data["best"])
        if self._display.show_trial_results:
            unit = "Generation" if self._gepa else "Iteration"
            planned = f"/{self._planned}" if self._planned >= self._trials else ""
            yield f"  {unit} {self._trials}{planned}... score: {_score(data['score'])}"

    def _candidate(self, data: Mapping[str, Any]) -> Iterator[str]:
        if self._display.show_trial_results:
            fate = f"accepted as {data['id']}" if data["accepted"] else f"rejected: {data['reason']}"
            yield f"  - Candidate {data['child']} ({data['origin']} of {', '.join(data['parents'])}) {fate}"

    def _resumed(self, data: Mapping[str, Any]) -> Iterator[str]:
        yield "  (the job goes on where it was)"

    def _stopping(self, data: Mapping[str, Any]) -> Iterator[str]:
        yield f"  Stopping: {data['reason']}"


_KINDS: Mapping[str, Callable[[Listing, Mapping[str, Any]], Iterator[str]]] = {
    "job": Listing._job,
    "plan": Listing._plan,
    "phase": Listing._enter,
    "demo_sets": Listing._demo_sets,
    "proposals": Listing._proposals,
    "trial": Listing._trial,
    "child": Listing._candidate,
    "resumed": Listing._resumed,
    "stopping": Listing._stopping,
}


def curve(values: Sequence[float]) -> str:
    """The values as a line of bars, the lowest of them as the lowest bar."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def _found(outcome: Outcome) -> Iterator[str]:
    """The best score, on samples that the search never saw where there were any."""
    summary = outcome.summary
    verdict = summary.get("verdict") or {}
    if verdict.get("n"):
        best, start = verdict["best"]["mean"], verdict["baseline"]["mean"]
        where = f"{verdict['n']} test samples that the search never saw"
    else:
        best, start, where = summary.get("best_score"), summary.get("baseline_score"), "validation samples"
    yield f"Best Score: {_score(best)}"
    yield f"Your Prompt: {_score(start)} (both on {where})"
    if verdict:
        yield f"Verdict: {verdict['decision']}: {verdict['reason']}"


def _amounts(outcome: Outcome) -> Iterator[str]:
    spend, summary = outcome.spend, outcome.summary
    yield f"Spend: {_amount(spend['total'])}, {words.seconds(spend['elapsed_s'])}"
    for phase, part in spend["by_phase"].items():
        yield f"  {phase}: {_amount(part)}"
    if summary.get("stop_reason"):
        yield f"Stopped: {summary['stop_reason']}"
    for note in summary.get("notes", ()):
        yield f"Note: {note}"


def _amount(spent: Mapping[str, Any]) -> str:
    rollouts, calls, tokens = (words.count(spent[name]) for name in ("rollouts", "calls", "tokens"))
    return f"{rollouts} evaluations, {calls} calls, {tokens} tokens, {words.usd(spent['micros'] / 1e6)}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
