"""The tool loop: ask the model, run the tools it calls, until it answers without calling one."""

from __future__ import annotations

from dataclasses import replace

from rollouts.agents.limits import AgentLimits
from rollouts.agents.recorder import Recorder
from rollouts.agents.tools import Toolbox
from rollouts.dtypes import Environment, Message, Request, Trajectory
from rollouts.errors import AgentError, RepeatedCalls, TurnLimitReached
from rollouts.llm.client import Client
from rollouts.llm.clock import Clock, SystemClock

_DEFAULT_LIMITS = AgentLimits()


async def run_agent(
    request: Request,
    client: Client,
    *,
    module: str = "main",
    environment: Environment | None = None,
    limits: AgentLimits = _DEFAULT_LIMITS,
    recorder: Recorder | None = None,
    clock: Clock | None = None,
) -> Trajectory:
    """Runs `request.messages` to the final answer and returns all that happened.

    Without an environment this is one model call. With one (already reset: see `opened`) the tools that a turn calls
    run at the same time, and their results go back in the order of the calls. A tool that raises, takes too long or
    says too much, and a call that the model got wrong, are answered in words that the model can act on, and noted in
    `Trajectory.tool_uses`.

    A model that never ends has its tools taken away, which forces an answer: on the last turn, or when it has made the
    same call with the same result too often (`Trajectory.stop_reason`). Raises TurnLimitReached or RepeatedCalls when
    that gives no answer either, EnvironmentFailed, and what the client raises; `recorder` then holds what was done so
    far. `clock` measures and limits tools.
    """
    run = recorder or Recorder()
    run.messages.extend(request.messages)
    if environment is None:
        response = await client.complete(request)
        run.called(module, response)
        run.messages.append(response.message())
        return run.trajectory(response.text)
    box = Toolbox(environment, module, limits, clock or SystemClock())
    for turn in range(1, limits.max_turns):
        response = await client.complete(replace(request, messages=tuple(run.messages), tools=box.tools))
        run.called(module, response)
        run.messages.append(response.message())
        if not response.tool_calls:
            return run.trajectory(response.text)
        cut_off = response.finish_reason == "length"
        for message, use in await box.answer(response.tool_calls, turn, cut_off=cut_off):
            run.messages.append(message)
            run.tool_uses.append(use)
        if box.repeated is not None:
            run.stop_reason = "repeated_calls"
            break
    else:
        run.stop_reason = "turn_limit"
    response = await client.complete(replace(request, messages=tuple(run.messages), tools=()))
    run.called(module, response)
    # Calls that it makes all the same are left out: nothing answers them.
    run.messages.append(Message("assistant", response.text))
    if not response.text.strip():
        raise _no_answer(box.repeated, limits)
    return run.trajectory(response.text)


def _no_answer(repeated: str | None, limits: AgentLimits) -> AgentError:
    if repeated is not None:
        return RepeatedCalls(
            f"the model called {repeated!r} with the same arguments and the same result {limits.max_repeats} times, "
            "and gave no answer when it had no tools"
        )
    return TurnLimitReached(
        f"no answer in {limits.max_turns} turns, nor in the last one without tools; raise AgentLimits.max_turns, or "
        "tell the model when to stop"
    )
