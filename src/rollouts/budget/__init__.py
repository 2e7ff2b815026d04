"""Limits, and the account that reserves before a call and settles after it. Pure: no clock, no I/O."""

from rollouts.budget.authorisation import Authorisation
from rollouts.budget.ledger import Ledger, Reservation
from rollouts.budget.limits import MICROS, Budget, Constraints, Spend
from rollouts.budget.modules import ModuleAccount, check_module_budgets

__all__ = [
    "MICROS",
    "Authorisation",
    "Budget",
    "Constraints",
    "Ledger",
    "ModuleAccount",
    "Reservation",
    "Spend",
    "check_module_budgets",
]
