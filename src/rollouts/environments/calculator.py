"""A calculator as a tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Tool
from rollouts.environments.arithmetic import evaluate, show

CALCULATE = Tool(
    name="calculate",
    description=(
        "Computes an arithmetic expression exactly. It may hold numbers, + - * / // (whole division) % (remainder) "
        "** (power), parentheses, and the functions abs, ceil, factorial, floor, gcd, lcm, max, min, round, sqrt."
    ),
    parameters={
        "type": "object",
        "properties": {"expression": {"type": "string", "description": "for example (12.5 + 3) * 4 / 7"}},
        "required": ["expression"],
        "additionalProperties": False,
    },
)


class CalculatorEnvironment:
    """An `Environment` with the one tool `calculate(expression)`; it keeps no state.

    Whole numbers, fractions and decimal numbers are exact (`0.1 + 0.2` is 0.3). A result is written as a whole number,
    as a decimal number where one of at most 40 places is exact, else as a fraction and to 20 digits, as in
    `1/3 (about 0.33333333333333333333)`. What it cannot compute is a ValueError in words for the model; the limits are
    those of `rollouts.environments.arithmetic`.
    """

    async def reset(self, sample: Mapping[str, Any]) -> None:
        """Nothing to prepare."""

    def tools(self) -> tuple[Tool, ...]:
        """`calculate`."""
        return (CALCULATE,)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The value of `arguments["expression"]`."""
        expression = arguments.get("expression")
        if name != CALCULATE.name or not isinstance(expression, str):
            raise ValueError("the one tool is calculate(expression), and the expression is a text")
        return show(evaluate(expression))

    async def close(self) -> None:
        """Nothing to free."""
