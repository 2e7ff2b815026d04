"""Numbers, times and texts as people read them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def make_console(*, stderr: bool = False) -> Console:
    """Where people read: stdout, or stderr where stdout belongs to a JSON object. Wide where nobody set a width."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=False)
    if not console.is_terminal and console.width == 80:
        console.width = 120
    return console


def score(value: float | None) -> str:
    """A score with three digits; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def usd(value: float | None) -> str:
    """Dollars, with as many digits as a small amount needs."""
    if value is None:
        return "unknown"
    if value == 0:
        return "$0"
    return f"${value:.2f}" if value >= 1 else f"${value:.4f}"


def count(value: float) -> str:
    """A number with separators."""
    return f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A span of time."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def age(then: float) -> str:
    """How long ago a moment was."""
    days = (time.time() - then) / 86400
    return f"{days:.0f} days" if days >= 2 else seconds(max(0.0, time.time() - then))


def short(text: Any, width: int = 80) -> str:
    """One line of at most `width` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def told(value: Any) -> str:
    """A value of a row: a text as it is, any other as JSON, a dash where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def answer(output: str, failure: Mapping[str, Any] | None) -> str:
    """What a rollout said, or why it failed."""
    return output if failure is None else f"{failure['kind']}: {failure['message']}"


def plain(value: Any) -> Any:
    """`value` as JSON can say it: numbers that are not finite become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
