"""Records that belong together: the same method, settings and cap in one experiment, over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.mipro_comparison.outcome import Counts, Outcome
from rollouts.stats import Interval, mean_interval

OURS, PEER = "rollouts-mipro", "dspy-mipro"
USUAL, DEFAULT = "equal", "default"
_NONE = Counts()
_CONDITIONS = ("model", "proposer", "train_size", "val_size", "test_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The runs of one method with the same settings and cap in one experiment, one for each seed.

    `task` names the experiment: the task, and where there are runs of it with another model, proposer or other numbers
    of rows, what sets this one apart.
    """

    task: str
    method: str
    settings: str
    cap: int
    runs: tuple[Outcome, ...]

    @property
    def scored(self) -> dict[int, Outcome]:
        """Those that ended well, by seed."""
        return {run.key.seed: run for run in self.runs if run.error is None and run.best_score is not None}

    @property
    def label(self) -> str:
        """Its method, with the settings where they are not the usual ones."""
        return self.method if self.settings == USUAL else f"{self.method} ({self.settings})"

    def mean(self, figure: Callable[[Outcome], float]) -> float:
        """The mean of a figure over the runs that ended well; NaN without any."""
        values = [figure(run) for run in self.scored.values()]
        return fmean(values) if values else float("nan")

    def accuracy(self) -> Interval:
        """Over seeds; over all test rows where there is one seed or all have the same accuracy."""
        scores = [accuracy(run) for run in self.scored.values()]
        if len(set(scores)) > 1:
            return mean_interval(scores)
        over = mean_interval([value for run in self.scored.values() for value in run.test_scores.values()] or scores)
        return Interval(mean=self.mean(accuracy), low=over.low, high=over.high, n=len(scores))


def accuracy(run: Outcome) -> float:
    """Held out; 0 for a run that has none."""
    return run.best_score or 0.0


def calls(run: Outcome) -> float:
    """Task calls of the search."""
    return run.calls.get("search", _NONE).calls


def tokens(run: Outcome) -> float:
    """Of the search and its proposals, prompts and answers. Proposals that were scripted add none."""
    phases = (run.calls.get("search", _NONE), run.calls.get("propose", _NONE))
    return sum(counts.prompt_tokens + counts.completion_tokens for counts in phases)


def model_seconds(run: Outcome) -> float:
    """The seconds of all task calls of the search together, also of those that were answered from a file."""
    return run.calls.get("search", _NONE).call_s


def elapsed(run: Outcome) -> float:
    """Seconds of the search."""
    return run.elapsed


def grouped(runs: Iterable[Outcome]) -> list[Group]:
    """By experiment, method, settings and cap, in that order. Of a repeated run the last counts, but one that failed
    never hides one that ended well."""
    found: dict[tuple[str, str, str, int], dict[int, Outcome]] = {}
    known = sorted(runs, key=lambda run: (run.error is None, run.date))
    names = _experiments(known)
    for run in known:
        key = run.key
        found.setdefault((names[_conditions(run)], key.method, key.settings, key.cap), {})[key.seed] = run
    return [
        Group(
            task=task, method=method, settings=settings, cap=cap, runs=tuple(by_seed[seed] for seed in sorted(by_seed))
        )
        for (task, method, settings, cap), by_seed in sorted(found.items())
    ]


def _conditions(run: Outcome) -> tuple[object, ...]:
    """What runs that are held against each other must share."""
    return run.key.task, *(getattr(run, name) for name in _CONDITIONS)


def _experiments(runs: Iterable[Outcome]) -> dict[tuple[object, ...], str]:
    """A name for all conditions that runs were made under: the task, and what is not the same in all runs of it."""
    by_task: dict[str, set[tuple[object, ...]]] = {}
    for run in runs:
        by_task.setdefault(run.key.task, set()).add(_conditions(run))
    names = {}
    for task, found in by_task.items():
        several = [len(set(values)) > 1 for values in zip(*found, strict=True)]
        for conditions in found:
            apart = zip(_CONDITIONS, conditions[1:], several[1:], strict=True)
            said = [f"{name.replace('_', ' ')} {value}" for name, value, differs in apart if differs]
            names[conditions] = f"{task} ({', '.join(said)})" if said else task
    return names


def tasks_of(groups: Sequence[Group]) -> list[str]:
    """Their tasks, in order."""
    return list(dict.fromkeys(group.task for group in groups))
