"""The embedded model through `LocalProvider` against a bare xllamacpp loop.

    python -m benchmarks.local.bench_local [--json] [--blocks 12] [--calls 4]

Both answer the same prompts (24 demonstrations and one ticket, about 850 tokens, at most 6 generated) with the same
llama.cpp settings. They take turns in blocks, in changing order, each on a model of its own in one process, so that
noise of the machine meets both. Every prompt is met once by each. Three arrivals:

one          all requests share one candidate's prefix
interleaved  four candidates' requests arrive in turn; the loop answers them as they come, with the same host-memory
             cache of prefixes as ours
no_cache     as interleaved, the loop without that cache; the prefixes of both are cold

The figure is calls per second of the median block, and ours divided by the loop's: of the medians, and the median of
the pairs of blocks that ran next to each other.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import cycle, islice
from typing import Any

from rollouts.dtypes import Endpoint, Message, Request
from rollouts.llm.local import LocalProvider, request_body
from rollouts.llm.local_engine import start_server
from rollouts.llm.local_weights import find_weights

DEMOS = 24
ENDPOINT = Endpoint.parse("local").with_sampling(max_tokens=6)
INLINE = [("Why was I charged twice?", "billing"), ("My parcel is lost.", "shipping"), ("I forgot my code.", "login")]


@dataclass
class Result:
    """Calls per second of each block, and how many answers differed."""

    ours: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    answers_differ: int = 0

    def summary(self) -> dict[str, float]:
        ours, loop = statistics.median(self.ours), statistics.median(self.loop)
        pairs = [one / other for one, other in zip(self.ours, self.loop, strict=True)]
        return {
            "ours_per_s": round(ours, 2),
            "loop_per_s": round(loop, 2),
            "ratio": round(ours / loop, 3),
            "ratio_of_pairs": round(statistics.median(pairs), 3),
            "answers_differ": self.answers_differ,
        }


def tickets() -> list[tuple[str, str]]:
    """(ticket, route), from the shipped data set where it is there."""
    source = files("rollouts.datasets") / "data" / "tickets.csv"
    if not source.is_file():
        return [(f"{text} Case {number}.", route) for number, (text, route) in enumerate(islice(cycle(INLINE), 400))]
    return [(row["ticket"], row["route"]) for row in csv.DictReader(source.read_text("utf-8").splitlines())]


def prompts(rows: Sequence[tuple[str, str]], candidate: int, count: int) -> list[Request]:
    """`count` requests of one candidate, which is a choice of demonstrations."""
    rng = random.Random(candidate)
    routes = ", ".join(sorted({route for _, route in rows}))
    shared = [Message("system", f"Candidate {candidate}. Name the route of the ticket, one of: {routes}.")]
    for ticket, route in rng.sample(list(rows[:200]), DEMOS):
        shared += [Message("user", ticket), Message("assistant", route)]
    asked = [Message("user", ticket) for ticket, _ in islice(cycle(rows[200:]), candidate, candidate + count)]
    return [Request(endpoint=ENDPOINT, messages=(*shared, message)) for message in asked]


def interleaved(rows: Sequence[tuple[str, str]], candidates: int, calls: int) -> list[Request]:
    columns = [prompts(rows, candidate, calls // candidates) for candidate in range(candidates)]
    return [request for row in zip(*columns, strict=True) for request in row]


def run_loop(server: Any, requests: Sequence[Request]) -> list[str]:
    """The bare loop: one call after the other, in the order of arrival."""
    replies = [server.handle_chat_completions({**request_body(request), "cache_prompt": True}) for request in requests]
    return [reply["choices"][0]["message"]["content"] for reply in replies]


async def run_ours(provider: LocalProvider, requests: Sequence[Request]) -> list[str]:
    replies = await asyncio.gather(*map(provider.complete, requests))
    return [reply.text for reply in replies]


def timed(work: Callable[[], list[str]], calls: int) -> tuple[list[str], float]:
    start = time.perf_counter()
    answers = work()
    return answers, calls / (time.perf_counter() - start)


def compare(requests: Sequence[Request], blocks: int, warm: int, **settings: Any) -> Result:
    """Both over the same requests, cut into blocks. The first `warm` requests run before the clock starts."""
    weights, result = find_weights(ENDPOINT.model), Result()
    server = start_server(weights, **settings)
    provider = LocalProvider(ENDPOINT)
    runner = asyncio.Runner()
    run_loop(server, requests[:warm])
    runner.run(run_ours(provider, requests[:warm]))
    size = (len(requests) - warm) // blocks
    for number in range(blocks):
        block = requests[warm + number * size : warm + (number + 1) * size]

        def loop(block: Sequence[Request] = block) -> tuple[list[str], float]:
            return timed(lambda: run_loop(server, block), len(block))

        def ours(block: Sequence[Request] = block) -> tuple[list[str], float]:
            return timed(lambda: runner.run(run_ours(provider, block)), len(block))

        if number % 2:
            (theirs, loop_rate), (mine, our_rate) = loop(), ours()
        else:
            (mine, our_rate), (theirs, loop_rate) = ours(), loop()
        result.loop.append(loop_rate)
        result.ours.append(our_rate)
        result.answers_differ += sum(one != other for one, other in zip(mine, theirs, strict=True))
    runner.run(provider.close())
    runner.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--blocks", type=int, default=12, help="turns of each")
    parser.add_argument("--calls", type=int, default=4, help="calls of one turn, a multiple of 4")
    options = parser.parse_args()
    rows, calls = tickets(), options.blocks * options.calls
    cases: dict[str, Callable[[], Result]] = {
        "one": lambda: compare(prompts(rows, 0, calls + 1), options.blocks, 1),
        "interleaved": lambda: compare(interleaved(rows, 4, calls + 4), options.blocks, 4),
        "no_cache": lambda: compare(interleaved(rows, 4, 8), 1, 0, cache_ram_mib=0),
    }
    report = {name: case().summary() for name, case in cases.items()}
    if options.json:
        print(json.dumps(report))
        return
    print(f"{'':12} {'ours/s':>8} {'loop/s':>8} {'ratio':>7} {'paired':>7} {'answers differ':>15}")
    for name, row in report.items():
        figures = f"{row['ours_per_s']:8} {row['loop_per_s']:8} {row['ratio']:7} {row['ratio_of_pairs']:7}"
        print(f"{name:12} {figures} {row['answers_differ']:15}")


if __name__ == "__main__":
    main()
