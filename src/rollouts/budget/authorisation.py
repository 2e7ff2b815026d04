"""Keeps a budget hard through a sudden death of the process.

A reservation lives in memory. Before a call leaves, something that outlives the process must say that the call may
have been paid: the run's `authorised` spend. It is raised in steps of several calls, because each step is a commit.
The next process starts with `Ledger(spent=authorised)`, so both together stay within the caps.
"""

from __future__ import annotations

from collections.abc import Callable

from rollouts.budget.ledger import Ledger
from rollouts.budget.limits import Spend

_SOON_S = 0.1
_FASTER, _LONGEST_STRIDE = 4, 64


class Authorisation:
    """A durable upper bound of what a run may have spent, kept ahead of its ledger. One per run and process.

    `commit` stores a bound and returns only when it is durable; what it raises keeps the call from being sent. A step
    covers what is committed, `headroom_calls` more calls like the one at hand, but of tokens and money no more than a
    quarter of what is left, and a 32nd of what is committed, and never passes a cap: so a killed run loses at most that
    headroom of its budget, and a long run commits rarely. A resource without a cap, where nothing can be lost, gets
    eight times the headroom.

    With `now` (seconds that only grow), steps that come within 0.1 s of each other take four times as many calls each,
    up to 64 times `headroom_calls` and never beyond a 16th of what is left, and half as many when calls get slower: a
    commit may take longer than many fast calls.
    """

    def __init__(
        self,
        ledger: Ledger,
        commit: Callable[[Spend], None],
        *,
        headroom_calls: int = 16,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._ledger, self._commit, self._headroom, self._now = ledger, commit, headroom_calls, now
        self._authorised = Spend()
        self._stride, self._stepped_at = 1, float("-inf")

    @property
    def authorised(self) -> Spend:
        """What was committed last by this process."""
        return self._authorised

    def cover(self, worst: Spend) -> None:
        """Call it after reserving `worst` and before sending: commits a new bound when the old one is passed."""
        if not self._ledger.within(self._authorised):
            self._pace()
            self._set(self._step(worst))

    def close(self) -> None:
        """Gives the headroom back. With no call in flight the bound is then exactly what was spent."""
        self._set(self._ledger.committed)

    def _pace(self) -> None:
        if self._now is None:
            return
        before, self._stepped_at = self._stepped_at, self._now()
        soon = self._stepped_at - before < _SOON_S
        self._stride = min(_FASTER * self._stride, _LONGEST_STRIDE) if soon else max(1, self._stride // 2)

    def _set(self, bound: Spend) -> None:
        if bound != self._authorised:
            self._commit(bound)
            self._authorised = bound

    def _step(self, worst: Spend) -> Spend:
        committed, calls = self._ledger.committed, self._headroom

        def step(resource: str, each: int) -> int:
            base: int = getattr(committed, resource)
            plain, share = each * calls, base // 32
            left = self._ledger.left(resource)
            if left is None:
                return base + 8 * (plain * self._stride + share)
            least = min(plain, max(left // 4, calls))
            return base + min(left, max(least, min(plain * self._stride, left // 16)) + share)

        return Spend(
            micros=step("micros", worst.micros),
            tokens=step("tokens", worst.tokens),
            calls=step("calls", worst.calls),
            # The study reserves rollouts, one for one or more calls.
            rollouts=step("rollouts", 1),
            seconds=committed.seconds,
        )
