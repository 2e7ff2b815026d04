"""Where tools act: the protocol between the tool loop and what it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from rollouts.dtypes.messages import Tool


@runtime_checkable
class Environment(Protocol):
    """The tools of one rollout, and the state they work on.

    A fresh one is made for every run of a module on a sample: `reset` once, before the first model call, then `tools`,
    then `call` as often as the model likes, `close` at the end, whatever happened before (an error or a cancellation,
    in `reset` too). Calls of one turn run at the same time.
    """

    async def reset(self, sample: Mapping[str, Any]) -> None:
        """Prepares for `sample`, the inputs of the row; what it raises fails the rollout."""
        ...

    def tools(self) -> tuple[Tool, ...]:
        """The tools that the model may call, each by its own name."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The result of one of `tools` as text.

        What it raises goes back to the model as the result, so the message should say what to do better. Only
        EnvironmentFailed (the environment itself is lost) fails the rollout. It is cancelled when it takes too long.
        """
        ...

    async def close(self) -> None:
        """Frees what the environment holds."""
        ...


EnvironmentFactory = Callable[[dict[str, Any]], Environment]
"""The inputs of a sample -> a fresh environment for it."""
