"""How far an agent may go."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rollouts.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """Bounds of one agent run. Raises ConfigError for one that is not above 0.

    max_turns: model calls. The last one is made without tools, so that it has to be the answer.
    max_repeats: times that the same call may have the same result; after that the next turn is the last.
    max_parallel_tools: tool calls of one turn that run at the same time.
    max_output_chars: characters of one tool result that the model is shown; longer ones are cut, and say so.
    tool_timeout_s: seconds of one tool call, and of an environment's `reset` and `close` each.
    """

    max_turns: int = 12
    max_repeats: int = 4
    max_parallel_tools: int = 8
    max_output_chars: int = 8_000
    tool_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"AgentLimits.{field.name} = {value!r} must be above 0")
