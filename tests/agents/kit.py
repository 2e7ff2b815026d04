"""A request, scripted turns and a small environment to run agents with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Endpoint, Message, Request, Response, Tool, ToolCall, Usage

ADD = Tool(
    name="add",
    description="a + b",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]},
)
BIG = Tool(name="big", description="", parameters={"type": "object"})
REQUEST = Request(
    endpoint=Endpoint(provider="fake", model="m"), messages=(Message("system", "Compute."), Message("user", "2 + 3"))
)


class Adder:
    """Adds; `big` returns a text of `size` characters. Notes what happens to it in `life` and `seen`."""

    def __init__(self, size: int = 10_000) -> None:
        self.size = size
        self.life: list[str] = []
        self.seen: list[tuple[str, Any]] = []

    async def reset(self, sample: Mapping[str, Any]) -> None:
        self.life.append(f"reset {sorted(sample)}")

    def tools(self) -> tuple[Tool, ...]:
        return (ADD, BIG)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        self.seen.append((name, arguments))
        return "x" * self.size if name == "big" else str(arguments["a"] + arguments["b"])

    async def close(self) -> None:
        self.life.append("close")


def calling(*calls: tuple[str, str], text: str = "", finish: str = "tool_calls") -> Response:
    tool_calls = tuple(ToolCall(id=f"t{i}", name=name, arguments=given) for i, (name, given) in enumerate(calls))
    return Response(
        text=text,
        tool_calls=tool_calls,
        finish_reason=finish,
        usage=Usage(prompt_tokens=10, completion_tokens=5),
        cost_micros=7,
        latency_s=0.5,
    )


def added(a: int, b: int) -> Response:
    return calling(("add", f'{{"a": {a}, "b": {b}}}'))
