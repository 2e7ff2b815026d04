"""What a resumed run need not pay for again."""

from __future__ import annotations

from collections.abc import Iterable

from rollouts.budget import Spend
from rollouts.store.base import RolloutRow


class Paid:
    """Rollouts that earlier processes of a run paid for and that this one has not asked for yet.

    They stand in the account as spent although they will be served from the store: `left` is what plans may count on
    beside what the account has left. A key leaves when it is used.
    """

    def __init__(self, rows: Iterable[RolloutRow] = ()) -> None:
        self._known = {row.key: (row.program, _spend(row)) for row in rows if row.score is not None}
        self.left = self._all()

    def only(self, program: str) -> None:
        """Forgets the rollouts of all programs but the one with this digest."""
        self._known = {key: pair for key, pair in self._known.items() if pair[0] == program}
        self.left = self._all()

    def _all(self) -> Spend:
        return sum((spend for _, spend in self._known.values()), start=Spend())

    def use(self, key: str) -> Spend | None:
        """What the rollout took that was served from the store; None when this run did not pay for it, or it was
        served before."""
        _, spend = self._known.pop(key, (None, None))
        if spend is not None:
            left = self.left
            self.left = Spend(
                micros=left.micros - spend.micros,
                tokens=left.tokens - spend.tokens,
                calls=left.calls - spend.calls,
                rollouts=left.rollouts - spend.rollouts,
            )
        return spend


def _spend(row: RolloutRow) -> Spend:
    return Spend(
        micros=row.cost_micros,
        tokens=row.prompt_tokens + row.completion_tokens,
        calls=len(row.data.get("calls", ())) or 1,
        rollouts=1,
    )
