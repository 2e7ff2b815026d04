"""The tool loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from rollouts.agents import AgentLimits, Recorder, opened, run_agent
from rollouts.dtypes import Environment, Message, Response, Tool, Trajectory
from rollouts.errors import ConfigError, EnvironmentFailed, ProviderError, RepeatedCalls, TurnLimitReached
from rollouts.testing import FakeClock, ScriptedLLM

from .kit import ADD, BIG, REQUEST, Adder, added, calling


class Slow(Adder):
    """`add` takes `a` seconds of `clock`, and notes how many run at once."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.running = self.most = 0

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.clock.sleep(arguments["a"])
        finally:
            self.running -= 1
        return f"after {arguments['a']}"


class Raising(Adder):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        raise self.error


def answers(trajectory: Trajectory) -> list[tuple[str | None, str]]:
    return [(m.tool_call_id, m.content) for m in trajectory.messages if m.role == "tool"]


async def test_without_tools_it_is_one_call() -> None:
    llm = ScriptedLLM(["five"])
    trajectory = await run_agent(REQUEST, llm, module="solver")
    assert trajectory.output == "five"
    assert [(call.module, call.turn) for call in trajectory.calls] == [("solver", 1)]
    assert trajectory.messages == (*REQUEST.messages, Message("assistant", "five"))
    assert llm.requests[0].tools == ()


async def test_tool_calls_are_run_until_the_model_answers() -> None:
    llm, adder = ScriptedLLM([added(2, 3), added(5, 1), "6"]), Adder()
    trajectory = await run_agent(REQUEST, llm, environment=adder)
    assert trajectory.output == "6"
    assert trajectory.stop_reason == "answer"
    assert adder.seen == [("add", {"a": 2, "b": 3}), ("add", {"a": 5, "b": 1})]
    assert [m.role for m in trajectory.messages] == ["system", "user", *["assistant", "tool"] * 2, "assistant"]
    assert [content for _, content in answers(trajectory)] == ["5", "6"]
    assert [call.turn for call in trajectory.calls] == [1, 2, 3]
    assert [(use.name, use.turn, use.error) for use in trajectory.tool_uses] == [("add", 1, None), ("add", 2, None)]
    assert trajectory.cost_micros == 14
    assert trajectory.latency_s == 1.0
    assert llm.requests[1].messages == trajectory.messages[:4]
    assert llm.requests[0].tools == (ADD, BIG)


async def test_calls_of_one_turn_run_at_once_and_are_answered_in_their_order() -> None:
    clock = FakeClock(auto=True)
    slow = Slow(clock)
    calls = [("add", json.dumps({"a": seconds})) for seconds in (3, 1, 2)]
    trajectory = await run_agent(REQUEST, ScriptedLLM([calling(*calls), "ok"]), environment=slow, clock=clock)
    assert answers(trajectory) == [("t0", "after 3"), ("t1", "after 1"), ("t2", "after 2")]
    assert slow.most == 3
    assert clock.now() == 3
    assert [use.latency_s for use in trajectory.tool_uses] == [3, 1, 2]
    assert trajectory.tool_s == 6


async def test_no_more_tools_run_at_once_than_allowed() -> None:
    clock = FakeClock(auto=True)
    slow, llm = Slow(clock), ScriptedLLM([calling(*[("add", '{"a": 1}')] * 7), "ok"])
    limits = AgentLimits(max_parallel_tools=2)
    trajectory = await run_agent(REQUEST, llm, environment=slow, limits=limits, clock=clock)
    assert slow.most == 2
    assert clock.now() == 4
    assert [use.latency_s for use in trajectory.tool_uses] == [1] * 7


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (("subtract", "{}"), "unknown_tool", "no tool 'subtract' (there are: add, big)"),
        (("ad", "{}"), "unknown_tool", "did you mean 'add'?"),
        (("", "{}"), "unknown_tool", "no tool ''"),
        (("add", '{"a": 1,'), "bad_arguments", "not JSON"),
        (("add", "[1, 2]"), "bad_arguments", "must be a JSON object"),
        (("add", ""), "bad_arguments", "missing argument 'a'"),
        (("add", '{"a": "x", "b": 1}'), "bad_arguments", "'a' must be integer"),
        (("add", '{"a": 1}'), "raised", "KeyError: 'b'"),
        (("add", '{"a": 1, "b": "x"}'), "raised", "TypeError"),
    ],
)
async def test_what_goes_wrong_with_a_call_is_told_to_the_model(call: tuple[str, str], error: str, told: str) -> None:
    trajectory = await run_agent(REQUEST, ScriptedLLM([calling(call), "sorry"]), environment=Adder())
    ((_, content),) = answers(trajectory)
    assert content.startswith("error: ")
    assert told in content
    assert [use.error for use in trajectory.tool_uses] == [error]
    assert trajectory.output == "sorry"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("the door is locked"), "error: the door is locked"),
        (ValueError(), "error: ValueError: "),
        (RuntimeError("broken"), "error: RuntimeError: broken"),
        (TimeoutError("the database is slow"), "error: TimeoutError: the database is slow"),
        (ConfigError("no such table"), "error: ConfigError: no such table"),
        (asyncio.CancelledError(), "error: RuntimeError: it was cancelled from inside"),
        (SystemExit(3), "error: RuntimeError: it tried to end the process: SystemExit(3)"),
    ],
)
async def test_whatever_a_tool_raises_the_run_goes_on(error: BaseException, told: str) -> None:
    trajectory = await run_agent(REQUEST, ScriptedLLM([added(1, 1), "sorry"]), environment=Raising(error))
    assert answers(trajectory) == [("t0", told)]
    assert trajectory.tool_uses[0].error == "raised"
    assert trajectory.output == "sorry"


async def test_an_environment_that_is_lost_ends_the_run() -> None:
    recorder = Recorder()
    lost = Raising(EnvironmentFailed("the server went away"))
    llm = ScriptedLLM([calling(("add", '{"a": 1}'), ("big", "{}"))])
    with pytest.raises(EnvironmentFailed, match="went away"):
        await run_agent(REQUEST, llm, environment=lost, recorder=recorder)
    assert len(recorder.calls) == 1


async def test_a_call_that_the_token_limit_cut_off_is_told_so() -> None:
    llm = ScriptedLLM([calling(("add", '{"a": 1'), finish="length"), "ok"])
    ((_, content),) = answers(await run_agent(REQUEST, llm, environment=Adder()))
    assert "cut off at its limit of tokens" in content


@pytest.mark.parametrize(("first", "last"), [("tool_calls", "length"), ("length", "stop")])
async def test_a_run_says_whether_its_answer_was_cut(first: str, last: str) -> None:
    end = Response(text="4 and", finish_reason=last)
    result = await run_agent(REQUEST, ScriptedLLM([calling(("add", "{}"), finish=first), end]), environment=Adder())
    assert result.cut is (last == "length")
    assert (await run_agent(REQUEST, ScriptedLLM([end]))).cut is (last == "length")


async def test_a_tool_that_hangs_is_given_up() -> None:
    clock = FakeClock(auto=True)
    slow, llm = Slow(clock), ScriptedLLM([calling(("add", '{"a": 1000000}'), ("add", '{"a": 2}')), "never mind"])
    trajectory = await run_agent(REQUEST, llm, environment=slow, limits=AgentLimits(tool_timeout_s=5), clock=clock)
    assert answers(trajectory) == [("t0", "error: add gave no result within 5 s"), ("t1", "after 2")]
    assert [(use.error, use.latency_s) for use in trajectory.tool_uses] == [("timeout", 5), (None, 2)]
    assert slow.running == 0
    assert trajectory.output == "never mind"


async def test_ten_megabytes_are_cut_and_say_so() -> None:
    llm = ScriptedLLM([calling(("big", "{}")), "ok"])
    trajectory = await run_agent(REQUEST, llm, environment=Adder(size=10_000_000), limits=AgentLimits())
    ((_, content),) = answers(trajectory)
    assert content.startswith("x" * 8_000 + "\n[cut: the result has 10000000 characters")
    assert len(content) < 8_200
    assert (trajectory.tool_uses[0].cut, trajectory.tool_uses[0].output_chars) == (True, 10_000_000)


async def test_a_result_that_is_no_text_is_shown_as_json() -> None:
    class Loose(Adder):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
            return {"sum": [1, None]}

    trajectory = await run_agent(REQUEST, ScriptedLLM([added(1, 1), "ok"]), environment=Loose())
    assert answers(trajectory) == [("t0", '{"sum": [1, null]}')]


async def test_the_last_turn_is_sent_without_tools() -> None:
    llm = ScriptedLLM([added(1, 1), added(2, 1), "3"])
    trajectory = await run_agent(REQUEST, llm, environment=Adder(), limits=AgentLimits(max_turns=3))
    assert [len(request.tools) for request in llm.requests] == [2, 2, 0]
    assert trajectory.output == "3"
    assert trajectory.stop_reason == "turn_limit"


async def test_a_model_that_makes_one_call_again_and_again_has_its_tools_taken_away() -> None:
    llm, adder = ScriptedLLM([added(20, 22)] * 3 + ["42"]), Adder()
    trajectory = await run_agent(REQUEST, llm, environment=adder, limits=AgentLimits(max_repeats=3))
    assert (trajectory.output, trajectory.stop_reason) == ("42", "repeated_calls")
    assert len(adder.seen) == 3
    assert llm.requests[-1].tools == ()


async def test_the_same_call_with_other_results_is_no_loop() -> None:
    class Counting(Adder):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
            self.seen.append((name, arguments))
            return str(len(self.seen))

    llm = ScriptedLLM([added(1, 1)] * 6 + ["6"])
    trajectory = await run_agent(REQUEST, llm, environment=Counting(), limits=AgentLimits(max_repeats=2))
    assert (trajectory.output, trajectory.stop_reason) == ("6", "answer")


@pytest.mark.parametrize(
    ("limits", "error", "turns"),
    [(AgentLimits(max_turns=3), TurnLimitReached, 3), (AgentLimits(max_repeats=2), RepeatedCalls, 3)],
)
async def test_a_model_that_never_answers_is_an_error_and_all_it_cost_is_recorded(
    limits: AgentLimits, error: type[Exception], turns: int
) -> None:
    """A tool's result is never taken for the model's answer."""
    recorder, llm = Recorder(), ScriptedLLM([added(20, 22)] * 20)
    with pytest.raises(error):
        await run_agent(REQUEST, llm, environment=Adder(), limits=limits, recorder=recorder)
    trajectory = recorder.trajectory("")
    assert (len(trajectory.calls), trajectory.cost_micros) == (turns, 7 * turns)
    assert trajectory.messages[-1] == Message("assistant", "")
    assert len(trajectory.tool_uses) == turns - 1


async def test_a_last_turn_that_answers_and_calls_has_answered() -> None:
    llm = ScriptedLLM([calling(("add", '{"a": 1}'), text="It is 2.")])
    trajectory = await run_agent(REQUEST, llm, environment=Adder(), limits=AgentLimits(max_turns=1))
    assert trajectory.output == "It is 2."
    assert trajectory.messages[-1] == Message("assistant", "It is 2.")


async def test_a_failing_model_is_not_the_loops_business() -> None:
    recorder, llm = Recorder(), ScriptedLLM([added(1, 1), ProviderError("down")])
    with pytest.raises(ProviderError, match="down"):
        await run_agent(REQUEST, llm, environment=Adder(), recorder=recorder)
    assert recorder.trajectory("").cost_micros == 7
    assert [m.role for m in recorder.messages] == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize(
    "name", ["max_turns", "max_repeats", "max_parallel_tools", "max_output_chars", "tool_timeout_s"]
)
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        AgentLimits(**{name: 0})


async def test_two_tools_of_one_name_are_refused() -> None:
    class Twice(Adder):
        def tools(self) -> tuple[Tool, ...]:
            return (ADD, ADD)

    with pytest.raises(ConfigError, match="two tools of one name"):
        await run_agent(REQUEST, ScriptedLLM(["x"]), environment=Twice())


# The life of an environment.


async def test_an_environment_is_reset_once_and_closed_once() -> None:
    made = []

    def make(sample: dict[str, Any]) -> Environment:
        made.append(Adder())
        return made[-1]

    async with opened(make, {"q": 1}, AgentLimits()) as environment:
        assert environment is made[0]
        assert made[0].life == ["reset ['q']"]
        await run_agent(REQUEST, ScriptedLLM([added(1, 1), "2"]), environment=environment)
    assert made[0].life == ["reset ['q']", "close"]


@pytest.mark.parametrize("where", ["reset", "inside"])
async def test_it_is_closed_whatever_happens(where: str) -> None:
    class Broken(Adder):
        async def reset(self, sample: Mapping[str, Any]) -> None:
            if where == "reset":
                raise RuntimeError("no")

    adder = Broken()
    with pytest.raises(RuntimeError, match="no"):
        async with opened(lambda _: adder, {}, AgentLimits()):
            raise RuntimeError("no")
    assert adder.life == ["close"]


@pytest.mark.parametrize("where", ["reset", "tool"])
async def test_it_is_closed_when_the_run_is_cancelled(where: str) -> None:
    reached = asyncio.Event()

    class Hanging(Adder):
        async def reset(self, sample: Mapping[str, Any]) -> None:
            if where == "reset":
                reached.set()
                await asyncio.Event().wait()

        async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.life.append("tool ended")
            return ""

    async def work() -> None:
        async with opened(lambda _: adder, {}, AgentLimits()) as environment:
            await run_agent(REQUEST, ScriptedLLM([added(1, 1)]), environment=environment)

    adder = Hanging()
    task = asyncio.create_task(work())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert adder.life == (["close"] if where == "reset" else ["tool ended", "close"])


@pytest.mark.parametrize("where", ["reset", "close"])
async def test_one_that_hangs_holds_up_nothing(where: str) -> None:
    clock = FakeClock(auto=True)

    class Hanging(Adder):
        async def reset(self, sample: Mapping[str, Any]) -> None:
            await clock.sleep(1e6 if where == "reset" else 0)

        async def close(self) -> None:
            await clock.sleep(1e6)

    limits = AgentLimits(tool_timeout_s=5)
    if where == "reset":
        with pytest.raises(EnvironmentFailed, match="reset took longer than 5 s"):
            async with opened(lambda _: Hanging(), {}, limits, clock):
                pass
    else:
        async with opened(lambda _: Hanging(), {}, limits, clock):
            pass
    assert clock.now() <= 10


async def test_an_error_while_closing_does_not_lose_the_result() -> None:
    class Stuck(Adder):
        async def close(self) -> None:
            raise OSError("busy")

    async with opened(lambda _: Stuck(), {}, AgentLimits()) as environment:
        trajectory = await run_agent(REQUEST, ScriptedLLM(["5"]), environment=environment)
    assert trajectory.output == "5"


async def test_what_is_no_environment_is_a_configuration_error() -> None:
    class Half:
        def tools(self) -> tuple[Tool, ...]:
            return ()

    make: Any = lambda _: Half()  # noqa: E731
    with pytest.raises(ConfigError, match="without reset, call, close"):
        async with opened(make, {}, AgentLimits()):
            pass


async def test_a_result_that_is_no_json_is_told_to_the_model() -> None:
    class Odd(Adder):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
            return {(1, 2): 3}

    trajectory = await run_agent(REQUEST, ScriptedLLM([added(2, 3), "5"]), environment=Odd())
    assert trajectory.output == "5"
    assert trajectory.tool_uses[0].error == "raised"
    assert answers(trajectory)[0][1].startswith("error: TypeError: keys must be")
