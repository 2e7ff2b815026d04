"""Limits, and the account that reserves before a call and settles after it. Pure: no clock, no I/O."""

from rollouts.budget.authorisation import Authorisation
from rollouts.budget.ledger import Ledger, Reservation
from rollouts.budget.limits import Budget, Constraints, Spend

__all__ = ["Authorisation", "Budget", "Constraints", "Ledger", "Reservation", "Spend"]
