"""When failures mean that the run itself is broken."""

from __future__ import annotations

from collections import Counter

from rollouts.dtypes import Failure
from rollouts.errors import TooManyFailures

_STAGES = {
    "call": "the model call failed",
    "agent": "the agent came to no answer",
    "score": "the metric raised",
    "timeout": "the rollout ran out of time",
}


class FailureLimit:
    """Counts rollouts and stops a run whose share of failures passes `share`.

    Nothing is decided before `at_least` rollouts failed, so that a few bad rows never stop a run.
    """

    def __init__(self, share: float = 0.5, at_least: int = 10) -> None:
        self.share, self.at_least = share, at_least
        self.total = 0
        self.failures: Counter[tuple[str, str]] = Counter()

    def count(self, failure: Failure | None) -> None:
        """Takes note of one rollout; raises TooManyFailures with the commonest reason.

        A rollout that was cut at its latency cap says something about its candidate, not about the run.
        """
        self.total += 1
        if failure is None or failure.stage == "latency":
            return
        self.failures[(failure.stage, f"{failure.kind}: {failure.message}")] += 1
        failed = self.failures.total()
        if failed >= self.at_least and failed > self.share * self.total:
            (stage, message), times = self.failures.most_common(1)[0]
            what = _STAGES.get(stage, stage)
            raise TooManyFailures(
                f"{what} on {times} of {self.total} samples: {message}; the run is stopped before it spends more "
                f"(limit: {self.share:.0%} failures)"
            )
