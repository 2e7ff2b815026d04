"""When failures mean that the run itself is broken."""

from __future__ import annotations

from collections import Counter, defaultdict

from rollouts.dtypes import Failure
from rollouts.errors import TooManyFailures

_STAGES = {
    "call": "the model call failed",
    "agent": "the agent came to no answer",
    "program": "the program failed",
    "score": "the metric raised",
    "timeout": "the rollout ran out of time",
}


class FailureLimit:
    """Counts rollouts and stops a run whose share of failures passes `share`, or whose model is away.

    `total` counts those that were known, too: what failed in an earlier run alone is tried again in the next one.
    Nothing is decided before `at_least` rollouts failed, so that a few bad rows never stop a run. `in_a_row` outages
    without an answer between them stop it however much was done before: what came after would be lost, and a resumed
    run has lost nothing.
    """

    def __init__(self, share: float = 0.5, at_least: int = 10, in_a_row: int = 32) -> None:
        self.share, self.at_least, self.in_a_row = share, at_least, in_a_row
        self.total = 0
        self.failed = 0
        self.outages = 0
        self.failures: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def count(self, failure: Failure | None) -> None:
        """Takes note of one rollout; raises TooManyFailures with the commonest stage and kind of failure.

        A rollout that was cut at its latency cap says something about its candidate, not about the run.
        """
        self.total += 1
        self.outages = self.outages + 1 if failure is not None and failure.outage else 0
        if failure is None or failure.stage == "latency":
            return
        self.failed += 1
        self.failures[failure.stage, failure.kind][failure.message] += 1
        if self.outages >= self.in_a_row:
            raise TooManyFailures(
                f"the model gave no answer {self.outages} times in a row, the last time: {failure.message}; the run is "
                "stopped and loses nothing: resume it when the model is back"
            )
        if self.failed >= self.at_least and self.failed > self.share * self.total:
            raise TooManyFailures(
                f"{self.commonest()}; the run is stopped before it spends more (limit: {self.share:.0%} failures)"
            )

    def commonest(self) -> str:
        """The commonest stage and kind of failure with an example, in words; empty where nothing failed."""
        if not self.failures:
            return ""
        (stage, kind), messages = max(self.failures.items(), key=lambda reason: reason[1].total())
        ((message, _),) = messages.most_common(1)
        example = "for example " if len(messages) > 1 else ""
        return f"{_STAGES.get(stage, stage)} on {messages.total()} of {self.total} samples: {example}{kind}: {message}"
