"""Accounts of single modules, beside the account of the whole run.

A module's budget holds its own calls: money, tokens, calls, and model time. Each is reserved before a call leaves, so
none is passed at any concurrency; and each is authorised durably, so none is passed through a death of the process.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from rollouts.budget.authorisation import Authorisation
from rollouts.budget.ledger import Ledger, Reservation
from rollouts.budget.limits import Budget, Spend
from rollouts.errors import BudgetExhausted, ConfigError

_HEADROOM = 16
_TINY_S = 1e-3
"""Less is no time for a call."""
_UNIT = 1_000_000


class ModuleReservation:
    """An amount set aside for one call of a module, and the seconds that it may take at most."""

    __slots__ = ("inner", "open", "seconds")

    def __init__(self, inner: Reservation, seconds: float) -> None:
        self.inner, self.seconds, self.open = inner, seconds, True


class ModuleAccount:
    """What one module may spend. `spent` is what earlier processes of the run spent on it or may have spent.

    `max_seconds` of a module's budget is the time of its model calls, added up; not the wall clock's.
    """

    def __init__(self, name: str, budget: Budget, *, spent: Spend | None = None) -> None:
        self.name, self.budget = name, budget
        self.ledger = Ledger(replace(budget, max_seconds=None, max_rollouts=None), spent=spent)
        self._held = 0  # in whole millionths of a second, so that nothing is lost to rounding
        self._commit: Callable[[Spend], None] | None = None
        self._authorisation: Authorisation | None = None
        self._durable_s = 0.0 if spent is None else spent.seconds

    def authorise(self, commit: Callable[[Spend], None]) -> None:
        """From now on `commit` stores a bound of the module's spend before a call leaves (see `Authorisation`)."""
        self._commit = commit
        self._authorisation = Authorisation(self.ledger, self._store, headroom_calls=_HEADROOM)

    def reserve(self, worst: Spend, seconds: float, *, phase: str) -> ModuleReservation | None:
        """Sets `worst` and up to `seconds` aside, or raises `BudgetExhausted`.

        None says that too much of what is left is set aside for calls under way: ask again when one of them is
        settled. Raises the error of a `commit` that failed.
        """
        granted = seconds
        cap = self.budget.max_seconds
        if cap is not None:
            settled = self.ledger.spent.seconds
            if settled + _TINY_S >= cap:
                raise BudgetExhausted("seconds", cap=cap, committed=settled, wanted=seconds, module=self.name)
            free = cap - settled - self._held / _UNIT
            if free < min(seconds, cap - settled):
                return None
            granted = min(seconds, free)
        try:
            inner = self.ledger.reserve(worst, phase=phase)
        except BudgetExhausted as error:
            if self.ledger.may_pay(worst):
                return None
            raise BudgetExhausted(
                error.resource, cap=error.cap, committed=error.committed, wanted=error.wanted, module=self.name
            ) from None
        held = int(granted * _UNIT)
        self._held += held
        reservation = ModuleReservation(inner, held / _UNIT)
        try:
            self._cover(worst)
        except BaseException:
            self.release(reservation)
            raise
        return reservation

    def settle(self, reservation: ModuleReservation, actual: Spend) -> None:
        """Replaces a reservation by what was taken, once; never more model time than was set aside."""
        if not reservation.open:
            return
        reservation.open = False
        self._held -= round(reservation.seconds * _UNIT)
        self.ledger.settle(reservation.inner, replace(actual, seconds=min(actual.seconds, reservation.seconds)))

    def release(self, reservation: ModuleReservation) -> None:
        """Gives a reservation back: nothing was sent."""
        self.settle(reservation, Spend())

    @property
    def committed(self) -> Spend:
        """Settled and reserved: what may have been spent if this process died now."""
        committed = self.ledger.committed
        return replace(committed, seconds=committed.seconds + self._held / _UNIT)

    def _cover(self, worst: Spend) -> None:
        if self._authorisation is None:
            return
        self._authorisation.cover(worst)
        if self.budget.max_seconds is not None and self.committed.seconds > self._durable_s:
            self._store(self._authorisation.authorised)

    def _store(self, bound: Spend) -> None:
        """Model time gets a headroom of a 32nd of its cap, so that not every call needs a commit."""
        held = self.committed.seconds
        cap = self.budget.max_seconds
        seconds = held if cap is None else min(cap, held + cap / 32)
        if self._commit is not None:
            self._commit(replace(bound, seconds=seconds))
        self._durable_s = seconds


def check_module_budgets(budgets: Mapping[str, Budget], modules: Iterable[str]) -> None:
    """Raises ConfigError for a budget of what is no module, with the nearest name, and for a cap that only a whole run
    has."""
    known = list(modules)
    for name, budget in budgets.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"a budget is given for {name!r}, which is no module ({', '.join(known)}){hint}")
        if budget.max_rollouts is not None:
            raise ConfigError(
                f"the budget of module {name!r} has max_rollouts, which counts runs of the whole program; "
                "use max_trials or max_calls"
            )
