"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rollouts.client.sse import Message, messages

STREAM = (
    b': hello\nid: 1\nevent: trial\ndata: {"score": 1}\n\n: alive\n\ndata: a\r\ndata:b\r\n\r\n'
    + 'event: end\ndata: "é"\n\n'.encode()
    + b"event: cut\ndata: short"
)
EXPECTED = [
    Message(event="trial", data='{"score": 1}'),
    Message(event="message", data="a\nb"),
    Message(event="end", data='"é"'),
]


@given(st.lists(st.integers(0, len(STREAM))))
async def test_messages_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        places = [0, *sorted(cuts), len(STREAM)]
        for start, end in pairwise(places):
            yield STREAM[start:end]

    assert [message async for message in messages(chunks())] == EXPECTED
