"""The account of a run: `reserve` the worst case before a call leaves, `settle` what it took after.

Invariant, at every moment and for every capped resource: settled + reserved <= cap, as long as no call takes more than
was reserved for it. Amounts are integers, so nothing is lost to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.budget.limits import Budget, Spend
from rollouts.errors import BudgetExhausted

_RESOURCES = ("micros", "tokens", "calls", "rollouts")


class Reservation:
    """An amount set aside. Settle it exactly once; a second time is ignored."""

    __slots__ = ("_open", "phase", "worst")

    def __init__(self, worst: Spend, phase: str) -> None:
        self.worst, self.phase, self._open = worst, phase, True

    def _close(self) -> bool:
        was_open, self._open = self._open, False
        return was_open


class Ledger:
    """Reserves and settles against a `Budget`.

    `spent` is what earlier processes of the same run spent or may have spent, and `elapsed` the seconds they ran.
    """

    def __init__(self, budget: Budget, *, spent: Spend | None = None, elapsed: float = 0.0) -> None:
        start = spent or Spend()
        self.budget = budget
        self.elapsed_before = elapsed
        self._caps: dict[str, int | None] = {
            "micros": budget.max_micros,
            "tokens": budget.max_tokens,
            "calls": budget.max_calls,
            "rollouts": budget.max_rollouts,
        }
        self._limited = tuple((name, cap) for name, cap in self._caps.items() if cap is not None)
        self._spent: dict[str, int] = {name: getattr(start, name) for name in _RESOURCES}
        self._reserved: dict[str, int] = dict.fromkeys(_RESOURCES, 0)
        self._largest: dict[str, int] = dict.fromkeys(_RESOURCES, 0)
        self._seconds = start.seconds
        self._closed = False
        # Lists in the order of `_RESOURCES`, then the seconds: added to at every call, where a Spend would be costly.
        self._phases: dict[str, list[Any]] = {}
        if start != Spend():
            self._phases["earlier"] = [start.micros, start.tokens, start.calls, start.rollouts, start.seconds]

    def reserve(self, worst: Spend, *, phase: str = "task") -> Reservation:
        """Sets `worst` aside or raises `BudgetExhausted`, all resources or none."""
        if self._closed:
            raise BudgetExhausted("rollouts", cap=self._spent["rollouts"], committed=self._spent["rollouts"], wanted=1)
        for name, cap in self._limited:
            wanted = getattr(worst, name)
            if wanted:
                committed = self._spent[name] + self._reserved[name]
                if committed + wanted > cap:
                    resource = "usd" if name == "micros" else name
                    raise BudgetExhausted(resource, cap=cap, committed=committed, wanted=wanted)
                if wanted > self._largest[name] and phase.startswith("task"):
                    self._largest[name] = wanted
        reserved = self._reserved
        reserved["micros"] += worst.micros
        reserved["tokens"] += worst.tokens
        reserved["calls"] += worst.calls
        reserved["rollouts"] += worst.rollouts
        return Reservation(worst, phase)

    def close(self) -> None:
        """Refuses every further reservation."""
        self._closed = True

    def may_pay(self, worst: Spend) -> bool:
        """Whether `worst` would fit if all that can come back of what is set aside did: not calls, of which every
        attempt takes its own, however it ends."""
        lost = {"calls": self._reserved["calls"]}
        return not self._closed and all(
            self._spent[name] + lost.get(name, 0) + getattr(worst, name) <= cap for name, cap in self._limited
        )

    def settle(self, reservation: Reservation, actual: Spend) -> None:
        """Replaces a reservation by what was really taken."""
        if not reservation._close():
            return
        worst, reserved, spent = reservation.worst, self._reserved, self._spent
        reserved["micros"] -= worst.micros
        reserved["tokens"] -= worst.tokens
        reserved["calls"] -= worst.calls
        reserved["rollouts"] -= worst.rollouts
        spent["micros"] += actual.micros
        spent["tokens"] += actual.tokens
        spent["calls"] += actual.calls
        spent["rollouts"] += actual.rollouts
        self._seconds += actual.seconds
        phase = self._phases.get(reservation.phase)
        if phase is None:
            phase = self._phases[reservation.phase] = [0, 0, 0, 0, 0.0]
        phase[0] += actual.micros
        phase[1] += actual.tokens
        phase[2] += actual.calls
        phase[3] += actual.rollouts
        phase[4] += actual.seconds

    def release(self, reservation: Reservation) -> None:
        """Gives a reservation back: nothing was sent."""
        self.settle(reservation, Spend())

    def check_time(self, elapsed: float) -> float | None:
        """Seconds left when this process has run for `elapsed`; None without a cap.

        Raises BudgetExhausted when none are left.
        """
        cap = self.budget.max_seconds
        if cap is None:
            return None
        total = self.elapsed_before + elapsed
        if total >= cap:
            raise BudgetExhausted("seconds", cap=cap, committed=total, wanted=0)
        return cap - total

    def left(self, resource: str) -> int | None:
        """What is neither spent nor reserved of `micros`, `tokens`, `calls` or `rollouts`; None without a cap."""
        cap = self._caps[resource]
        return None if cap is None else max(0, cap - self._spent[resource] - self._reserved[resource])

    def largest(self, resource: str) -> int:
        """The most of a capped resource that was set aside at once for the task (phases `task...`); 0 without a cap."""
        return self._largest[resource]

    def within(self, bound: Spend) -> bool:
        """Whether what is spent and reserved is at most `bound` in every resource but seconds."""
        spent, reserved = self._spent, self._reserved
        return (
            spent["calls"] + reserved["calls"] <= bound.calls
            and spent["tokens"] + reserved["tokens"] <= bound.tokens
            and spent["micros"] + reserved["micros"] <= bound.micros
            and spent["rollouts"] + reserved["rollouts"] <= bound.rollouts
        )

    @property
    def spent(self) -> Spend:
        """What is settled so far, earlier processes included."""
        return Spend(seconds=self._seconds, **self._spent)

    @property
    def committed(self) -> Spend:
        """Settled and reserved: what may have been spent if this process died now."""
        return Spend(seconds=self._seconds, **{name: self._spent[name] + self._reserved[name] for name in _RESOURCES})

    @property
    def by_phase(self) -> Mapping[str, Spend]:
        """What each phase spent in this process; earlier processes stand under `earlier`."""
        names = (*_RESOURCES, "seconds")
        return {phase: Spend(**dict(zip(names, amounts, strict=True))) for phase, amounts in self._phases.items()}
