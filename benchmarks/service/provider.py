"""The provider of `benchmarks.service.load`, as a process: prints its base URL and answers until it is ended."""

from __future__ import annotations

import asyncio
import sys
import zlib
from typing import Any

from rollouts.testing import MockProvider

LABELS = ("billing", "bugs", "sales")


def label_of(text: str) -> str:
    """The right answer for a ticket."""
    return LABELS[zlib.crc32(text.encode()) % 3]


def reply(body: dict[str, Any]) -> str:
    """Better with demonstrations in the prompt."""
    *shown, last = body["messages"]
    text = last["content"].removeprefix("Ticket: ")
    if text == last["content"]:
        return f"<instruction>Answer with one of {', '.join(LABELS)}.</instruction>"
    right = zlib.crc32(f"{text}!".encode()) % 100 < (80 if len(shown) > 1 else 40)
    return label_of(text) if right else "unclear"


async def serve(latency: float) -> None:
    """Answers for ever."""
    async with MockProvider(reply=reply, latency=latency, keep=1) as mock:
        print(mock.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
