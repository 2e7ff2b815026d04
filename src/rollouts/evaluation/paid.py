"""What a resumed run need not pay for again."""

from __future__ import annotations

from collections.abc import Sequence

from rollouts.budget import Spend
from rollouts.store.base import RolloutRow


class Paid:
    """Rollouts that earlier processes of a run paid for and that this one has not asked for yet.

    They stand in the account as spent although they will be served from the store: `left` is what plans may count on
    beside what the account has left. A key leaves when it is used.
    """

    def __init__(self, rows: Sequence[RolloutRow] = ()) -> None:
        self._spends = {
            row.key: Spend(
                micros=row.cost_micros,
                tokens=row.prompt_tokens + row.completion_tokens,
                calls=len(row.data.get("calls", ())) or 1,
                rollouts=1,
            )
            for row in rows
            if row.score is not None
        }
        self._programs = {row.key: row.program for row in rows}
        self.left = sum(self._spends.values(), start=Spend())

    def only(self, program: str) -> None:
        """Forgets the rollouts of all programs but the one with this digest."""
        self._spends = {key: spend for key, spend in self._spends.items() if self._programs[key] == program}
        self.left = sum(self._spends.values(), start=Spend())

    def use(self, key: str) -> Spend | None:
        """What the rollout took that was served from the store; None when this run did not pay for it, or it was
        served before."""
        spend = self._spends.pop(key, None)
        if spend is not None:
            left = self.left
            self.left = Spend(
                micros=left.micros - spend.micros,
                tokens=left.tokens - spend.tokens,
                calls=left.calls - spend.calls,
                rollouts=left.rollouts - spend.rollouts,
            )
        return spend
