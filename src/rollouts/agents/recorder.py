"""What an agent run has done so far."""

from __future__ import annotations

from rollouts.dtypes import Call, Message, Response, StopReason, ToolUse, Trajectory


class Recorder:
    """Filled by `run_agent` as things happen, so that a run which fails or is cut off leaves what it paid for."""

    __slots__ = ("calls", "cut", "messages", "stop_reason", "tool_uses")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls: list[Call] = []
        self.tool_uses: list[ToolUse] = []
        self.stop_reason: StopReason = "answer"
        self.cut = False

    def called(self, module: str, response: Response) -> None:
        """Notes one more model call, without its message."""
        self.cut = response.finish_reason == "length"
        self.calls.append(
            Call(
                module=module,
                usage=response.usage,
                cost_micros=response.cost_micros,
                latency_s=response.latency_s,
                cached=response.cached,
                turn=len(self.calls) + 1,
                saved_micros=response.saved_micros,
            )
        )

    def trajectory(self, output: str) -> Trajectory:
        """All of it, with `output` as the answer."""
        return Trajectory(
            messages=tuple(self.messages),
            output=output,
            calls=tuple(self.calls),
            tool_uses=tuple(self.tool_uses),
            stop_reason=self.stop_reason,
            cut=self.cut,
        )
