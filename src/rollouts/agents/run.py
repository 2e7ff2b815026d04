"""The tool loop: ask the model, run the tools it calls, until it answers without calling one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rollouts.dtypes import Call, Environment, Message, Request, Response, ToolCall, Trajectory
from rollouts.llm.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """Bounds of one agent run: model calls, and characters of one tool result (longer ones are cut, and say so)."""

    max_turns: int = 12
    max_tool_output: int = 8_000


_DEFAULT_LIMITS = AgentLimits()


async def run_agent(
    request: Request,
    client: Client,
    *,
    module: str = "main",
    environment: Environment | None = None,
    limits: AgentLimits = _DEFAULT_LIMITS,
) -> Trajectory:
    """Runs `request.messages` to the final answer and returns all that happened.

    Without an environment this is one model call. A tool that fails, or a call that the model got wrong, is answered
    with the error's text so that the model can mend it. The last allowed turn is sent without tools, which forces an
    answer. Raises what the client raises.
    """
    if environment is None:
        response = await client.complete(request)
        return Trajectory(
            messages=(*request.messages, response.message()), output=response.text, calls=(_call(module, response),)
        )
    messages: list[Message] = list(request.messages)
    calls: list[Call] = []
    tools = environment.tools()
    for turn in range(1, limits.max_turns + 1):
        offered = tools if turn < limits.max_turns else ()
        response = await client.complete(replace(request, messages=tuple(messages), tools=offered))
        calls.append(_call(module, response))
        messages.append(response.message())
        if not response.tool_calls or turn == limits.max_turns:
            break
        messages.extend(await _answer_calls(response.tool_calls, environment, limits))
    return Trajectory(messages=tuple(messages), output=messages[-1].content, calls=tuple(calls))


def _call(module: str, response: Response) -> Call:
    return Call(
        module=module,
        usage=response.usage,
        cost_micros=response.cost_micros,
        latency_s=response.latency_s,
        cached=response.cached,
    )


async def _answer_calls(tool_calls: Sequence[ToolCall], environment: Environment, limits: AgentLimits) -> list[Message]:
    answers = []
    for call in tool_calls:
        try:
            arguments = json.loads(call.arguments or "{}")
            if not isinstance(arguments, dict):
                raise TypeError(f"arguments must be a JSON object, not {call.arguments}")
            result = await environment.call(call.name, arguments)
        except Exception as error:  # noqa: BLE001 - the model is told, and may mend its call
            result = f"error: {type(error).__name__}: {error}"
        if len(result) > limits.max_tool_output:
            result = result[: limits.max_tool_output] + f"\n[cut: {len(result)} characters]"
        answers.append(Message("tool", result, (), call.id))
    return answers
