"""Python functions as tools."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from rollouts.environments import PythonFunctionsEnvironment
from rollouts.errors import ConfigError


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Order(BaseModel):
    item: str
    count: Annotated[int, Field(ge=1)] = 1


def book(
    day: date,
    colour: Colour,
    points: list[Point],
    order: Order,
    json: str = "a",
    note: str | None = None,
    *,
    speed: Literal["slow", "fast"] = "slow",
) -> Any:
    """Books a thing.

    Do this first.

    Args:
        day: when it
            should be
        colour (Colour): of the thing
        order: what

    Returns:
        what was booked
    """
    return [day, colour, points, order, json, note, speed]


def search(query: str, limit: int = 3) -> str:
    """Searches.

    :param query: what to look for
    :param int limit: how many
    """
    return f"{query} {limit}"


async def later(n: int) -> dict[str, int]:
    """Later."""
    await asyncio.sleep(0)
    return {"n": n}


GOOD = {"day": "2024-02-29", "colour": "red", "points": [{"x": "1"}], "order": {"item": "hat"}}


def one(function: Callable[..., Any]) -> PythonFunctionsEnvironment:
    return PythonFunctionsEnvironment([function])


def test_the_schema_is_that_of_the_annotations() -> None:
    (tool,) = one(book).tools()
    properties = tool.parameters["properties"]
    assert tool.name == "book"
    assert tool.description.startswith("Books a thing.\n\nDo this first.")
    assert "of the thing" not in tool.description
    assert tool.parameters["required"] == ["day", "colour", "points", "order"]
    assert tool.parameters["additionalProperties"] is False
    assert properties["day"] == {"type": "string", "format": "date", "description": properties["day"]["description"]}
    assert properties["colour"]["description"] == "of the thing"
    assert properties["speed"]["enum"] == ["slow", "fast"]
    assert properties["json"] == {"default": "a", "type": "string"}
    assert json.dumps(tool.parameters)


def test_other_docstring_styles() -> None:
    (tool,) = one(search).tools()
    assert tool.description == "Searches."
    assert {name: field["description"] for name, field in tool.parameters["properties"].items()} == {
        "query": "what to look for",
        "limit": "how many",
    }


async def test_arguments_are_converted_and_results_are_json() -> None:
    result = json.loads(await one(book).call("book", GOOD))
    assert result == ["2024-02-29", "red", [{"x": 1, "y": 0}], {"item": "hat", "count": 1}, "a", None, "slow"]
    assert await one(search).call("search", {"query": "ü", "limit": "5"}) == "ü 5"
    assert await one(later).call("later", {"n": 2}) == '{"n": 2}'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"day": "soon"}, "day: "),
        ({"points": [{"y": 1}]}, "points.0.x: Field required"),
        ({"order": {"item": "hat", "count": 0}}, "order.count: "),
        ({"speed": "medium"}, "speed: Input should be 'slow' or 'fast'"),
        ({"colours": "red"}, "colours: "),
    ],
)
async def test_arguments_that_do_not_fit_never_reach_the_function(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        await one(book).call("book", {**GOOD, **change})
    assert "http" not in str(raised.value)


async def test_a_plain_function_runs_beside_the_event_loop() -> None:
    started, go = threading.Event(), threading.Event()

    def wait() -> str:
        started.set()
        return str(go.wait(5))

    call = asyncio.create_task(one(wait).call("wait", {}))
    while not started.is_set():
        await asyncio.sleep(0)
    go.set()
    assert await call == "True"


async def test_a_function_that_hangs_in_its_thread_can_be_given_up() -> None:
    go = threading.Event()

    def wait() -> str:
        go.wait(5)
        return ""

    call = asyncio.create_task(one(wait).call("wait", {}))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()


async def test_what_a_function_raises_is_passed_on() -> None:
    def empty() -> str:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await one(empty).call("empty", {})


async def test_bound_methods_share_their_object() -> None:
    class Shop:
        def __init__(self) -> None:
            self.sold: list[str] = []

        def sell(self, item: str) -> int:
            """Sells."""
            self.sold.append(item)
            return len(self.sold)

        def list_sold(self) -> list[str]:
            """What was sold."""
            return self.sold

    shop = Shop()
    environment = PythonFunctionsEnvironment([shop.sell, shop.list_sold])
    assert [tool.name for tool in environment.tools()] == ["sell", "list_sold"]
    assert await environment.call("sell", {"item": "hat"}) == "1"
    assert await environment.call("list_sold", {}) == '["hat"]'


def untyped(a, b: int = 1) -> str:  # type: ignore[no-untyped-def]
    return ""


def variadic(*numbers: int) -> str:
    return ""


def strange(stream: threading.Event) -> str:
    return ""


def unknown(a: Nowhere) -> str:  # type: ignore[name-defined] # noqa: F821
    return ""


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ([untyped], "untyped: the parameter 'a' has no type"),
        ([variadic], "cannot be given by name"),
        ([strange], "no JSON schema"),
        ([unknown], "Nowhere"),
        ([lambda: ""], "no name that a model could call"),
        ({"bad name": search}, "'bad name' cannot be a tool's name"),
        ([search, search], "same name"),
        ([], "at least one"),
    ],
)
def test_what_cannot_be_a_tool_says_what_to_change(functions: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PythonFunctionsEnvironment(functions)


def test_a_mapping_gives_names() -> None:
    environment = PythonFunctionsEnvironment({"find": search, "find_2": search})
    assert [tool.name for tool in environment.tools()] == ["find", "find_2"]
