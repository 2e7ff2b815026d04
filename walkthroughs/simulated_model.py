"""A stand-in for a language model: an OpenAI-compatible server that routes tickets as well as the prompt deserves.

`--simulated` puts it in the place of the embedded model, so that a walkthrough takes seconds, for CI and for a first
look. Its answers depend on the prompt and the ticket alone.
"""

from __future__ import annotations

import signal
import threading
import zlib
from typing import Any

from rollouts.datasets import DatasetSpec, load
from rollouts.testing import MockProvider

ROUTES = {sample.inputs["ticket"]: str(sample.ground_truth) for sample in load(DatasetSpec(path="tickets"))}
LABELS = sorted(set(ROUTES.values()))
WORDINGS = (
    "Route the support ticket to the team that can answer it.",
    f"Route the support ticket. Answer with one of {', '.join(LABELS)} and nothing else.",
    "Find the route of the ticket. Do not explain it.",
)


def reply(body: dict[str, Any]) -> str:
    """A route, or a rewritten instruction where the last message is no ticket.

    One ticket in five is routed right by chance; an instruction that lists the routes adds three, every demonstration a
    third of one.
    """
    *shown, last = body["messages"]
    text = last["content"].removeprefix("Ticket: ").removesuffix("\nRoute:")
    route = ROUTES.get(text)
    if route is None:
        return f"<instruction>{WORDINGS[zlib.crc32(last['content'].encode()) % len(WORDINGS)]}</instruction>"
    system = next((said["content"] for said in shown if said["role"] == "system"), "")
    demonstrations = sum(said["role"] == "assistant" for said in shown)
    share = 20 + 30 * all(label in system for label in LABELS) + min(40, 3 * demonstrations)
    draw = zlib.crc32(f"{system}\n{demonstrations}\n{text}".encode()) % 100
    return route if draw < share else LABELS[draw % len(LABELS)]


def main() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with MockProvider.in_thread(reply=reply) as mock:
        print(f"simulated model at {mock.base_url}", flush=True)  # noqa: T201
        ended.wait()


if __name__ == "__main__":
    main()
