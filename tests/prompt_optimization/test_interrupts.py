"""Ctrl-C while runs of the Python API are on."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.errors import ConfigError
from rollouts.prompt_optimization import MIPROConfig
from rollouts.store import MemoryStore

from .worlds import World

FULL = MIPROConfig(num_trials=40, num_candidates=6, num_demo_sets=6)


def interrupting(at: int) -> Any:
    """A listener that presses Ctrl-C at a trial."""
    seen = 0

    def listen(kind: str, data: Any) -> None:
        nonlocal seen
        seen += kind == "trial"
        if kind == "trial" and seen == at:
            signal.raise_signal(signal.SIGINT)

    return listen


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores Ctrl-C
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler, "the handler that was there is not back"


def test_the_first_one_returns_the_best_so_far() -> None:
    world, store = World(), MemoryStore()
    result = asyncio.run(
        world.run(
            FULL,
            store=store,
            run_id="r",
            listeners=(interrupting(2),),
            budget=Budget(max_rollouts=600),
            stop_on_interrupt=True,
        )
    )
    assert (result.stop_reason, store.run("r").status) == ("interrupted", "stopped")
    assert result.verdict is not None
    assert world.llm.calls < 400


def test_the_second_one_is_pythons_own() -> None:
    def listen(kind: str, data: Any) -> None:
        if kind == "stopping":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(World().run(FULL, listeners=(interrupting(2), listen), stop_on_interrupt=True))


def test_without_the_option_the_first_one_is_pythons_own() -> None:
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(World().run(FULL, listeners=(interrupting(2),)))


def test_all_runs_of_a_loop_that_runs_on_are_stopped() -> None:
    """As in a notebook, whose loop is not `asyncio.run`'s."""

    async def three() -> list[Any]:
        listeners = [(), (interrupting(2),), ()]
        return await asyncio.gather(*(World().run(FULL, listeners=told, stop_on_interrupt=True) for told in listeners))

    loop = asyncio.new_event_loop()
    try:
        results = loop.run_until_complete(three())
        assert [result.stop_reason for result in results] == ["interrupted"] * 3
        again = loop.run_until_complete(World().run(FULL, listeners=(interrupting(1),), stop_on_interrupt=True))
        assert again.stop_reason == "interrupted"
    finally:
        loop.close()


def test_outside_of_the_main_thread_it_is_refused_before_anything_is_paid() -> None:
    world, raised = World(), []

    def work() -> None:
        try:
            asyncio.run(world.run(FULL, stop_on_interrupt=True))
        except ConfigError as error:
            raised.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert "main thread" in raised[0]
    assert world.llm.calls == 0
