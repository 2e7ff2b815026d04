"""A model's tool calls, answered."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections import Counter
from collections.abc import Sequence

from rollouts.agents.arguments import read_arguments
from rollouts.agents.deadline import Overtime, within
from rollouts.agents.limits import AgentLimits
from rollouts.dtypes import Environment, Message, Tool, ToolCall, ToolError, ToolUse
from rollouts.errors import ConfigError, EnvironmentFailed
from rollouts.llm.clock import Clock

Answer = tuple[Message, ToolUse]


class Toolbox:
    """The tools of an environment, for one run of one module.

    `repeated` names a tool once it was called with the same arguments and the same result `max_repeats` times.
    """

    def __init__(self, environment: Environment, module: str, limits: AgentLimits, clock: Clock) -> None:
        self.tools: tuple[Tool, ...] = tuple(environment.tools())
        self._by_name = {tool.name: tool for tool in self.tools}
        if len(self._by_name) < len(self.tools):
            raise ConfigError(
                f"{type(environment).__name__} has two tools of one name ({', '.join(t.name for t in self.tools)})"
            )
        self._environment, self._module, self._limits, self._clock = environment, module, limits, clock
        self._slots = asyncio.Semaphore(limits.max_parallel_tools)
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self.repeated: str | None = None

    async def answer(self, calls: Sequence[ToolCall], turn: int, *, cut_off: bool) -> list[Answer]:
        """One result per call, in their order; what goes wrong is told in it.

        `cut_off` says that the model's answer was cut at its limit of tokens. Raises EnvironmentFailed.
        """
        tasks = [asyncio.create_task(self._answer(call, turn, cut_off)) for call in calls]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        done = {(call.name, call.arguments, message.content) for call, (message, _) in zip(calls, answers, strict=True)}
        self._seen.update(done)
        for entry in sorted(done):
            if self._seen[entry] >= self._limits.max_repeats:
                self.repeated = entry[0]
        return answers

    async def _answer(self, call: ToolCall, turn: int, cut_off: bool) -> Answer:
        async with self._slots:
            started = self._clock.now()
            text, error = await self._result(call, cut_off)
            taken = self._clock.now() - started
        use = ToolUse(
            module=self._module,
            turn=turn,
            name=call.name,
            latency_s=taken,
            output_chars=len(text),
            error=error,
            cut=len(text) > self._limits.max_output_chars,
        )
        return Message("tool", self._shown(text) if use.cut else text, (), call.id), use

    async def _result(self, call: ToolCall, cut_off: bool) -> tuple[str, ToolError | None]:
        tool = self._by_name.get(call.name)
        if tool is None:
            near = difflib.get_close_matches(call.name, self._by_name, n=1)
            meant = f", did you mean {near[0]!r}?" if near else ""
            return f"error: no tool {call.name!r}{meant} (there are: {', '.join(self._by_name)})", "unknown_tool"
        try:
            arguments = read_arguments(call.arguments, tool.parameters)
        except ValueError as problem:
            hint = "; your answer was cut off at its limit of tokens, write a shorter one" if cut_off else ""
            return f"error: {problem}{hint}", "bad_arguments"
        limit = self._limits.tool_timeout_s
        try:
            result = await within(limit, self._clock, self._environment.call(call.name, arguments))
            return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str), None
        except Overtime:
            return f"error: {call.name} gave no result within {limit:g} s", "timeout"
        except EnvironmentFailed:
            raise
        except Exception as error:  # noqa: BLE001 - the model is told, and may mend its call
            return f"error: {_said(error)}", "raised"

    def _shown(self, text: str) -> str:
        limit = self._limits.max_output_chars
        return f"{text[:limit]}\n[cut: the result has {len(text)} characters, of which you see {limit}; ask for less]"


def _said(error: Exception) -> str:
    text = str(error)
    return text if text and type(error) is ValueError else f"{type(error).__name__}: {text}"
