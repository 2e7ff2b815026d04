"""What the interceptor adds to a call: `python -m benchmarks.interceptor.latency [--streams 64]`.

Streams at once, begun one after the other as real ones are; one call at a time; and plain calls per second. Through the
interceptor and directly to the same mock provider, in turns.
Client, interceptor and provider are three processes that share the machine's cores. Of all rounds the least counts,
for each figure and kind by itself: what else the machine does only ever adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

import aiohttp

from benchmarks.interceptor.servers import BASELINE, Server, interceptor, mock_provider, running
from rollouts.dtypes import render

Timed = list[tuple[float, float]]
"""Milliseconds to the first piece and to the end, of each call."""
_QUANTILES = {"p50": 50, "p99": 99}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, help="calls in flight")
    parser.add_argument("--calls", type=int, default=640, help="of each kind and round")
    parser.add_argument("--rounds", type=int, default=5, help="of each the best counts; a first one warms up")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds before a stream begins")
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for name, part in PARTS.items():
        if options.only in (None, name):
            figures |= part(options)
    for name, value in figures.items():
        print(f"{name:44} {value:9.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures))


def streams(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds to the first piece and to the end of a stream of ten pieces, 20 ms apart."""
    least: dict[str, dict[str, float]] = {"direct": {}, "through": {}}
    apart = (options.latency + 0.2) / options.streams
    with running(mock_provider, options.latency, 0.02) as mock, running(interceptor, mock.url) as proxy:
        kinds = {"direct": mock, "through": proxy}
        for number in range(options.rounds + 1):
            for kind, server in kinds.items():
                timed = asyncio.run(calls(server.url, options.calls, options.streams, stream=True, apart=apart))
                if number:
                    least[kind] = _least(least[kind], _quantiles(timed))
            if number == 0:
                before = proxy.cpu_seconds()
        cpu = 1000 * (proxy.cpu_seconds() - before) / (options.rounds * options.calls)
    figures = {f"{name}, {kind} (ms)": value for kind, values in least.items() for name, value in values.items()}
    figures |= {f"{name}, added (ms)": value - least["direct"][name] for name, value in least["through"].items()}
    return figures | {"CPU of the interceptor per stream (ms)": cpu}


def alone(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of the fastest call of all, one at a time: what is left when nothing else runs."""
    least = {"direct": float("inf"), "through": float("inf")}
    with running(mock_provider, 0.0, 0.0) as mock, running(interceptor, mock.url) as proxy:
        for _ in range(options.rounds):
            for kind, server in {"direct": mock, "through": proxy}.items():
                timed = asyncio.run(calls(server.url, options.calls, 1, stream=True))
                least[kind] = min(least[kind], *(end for _, end in timed))
    figures = {f"one at a time, fastest, {kind} (ms)": value for kind, value in least.items()}
    return figures | {"one at a time, fastest, added (ms)": least["through"] - least["direct"]}


def rates(options: argparse.Namespace) -> dict[str, float]:
    """Plain calls per second with a provider that answers at once."""
    count = 2 * options.calls
    best = {"direct": 0.0, "through": 0.0}
    with running(mock_provider, 0.0, 0.0) as mock, running(interceptor, mock.url) as proxy:
        kinds: dict[str, Server] = {"direct": mock, "through": proxy}
        before = proxy.cpu_seconds()
        for _ in range(options.rounds):
            for kind, server in kinds.items():
                start = time.perf_counter()
                asyncio.run(calls(server.url, count, options.streams, stream=False))
                best[kind] = max(best[kind], count / (time.perf_counter() - start))
        cpu = 1000 * (proxy.cpu_seconds() - before) / (options.rounds * count)
    figures = {f"calls per second, {kind}": rate for kind, rate in best.items()}
    return figures | {"CPU of the interceptor per plain call (ms)": cpu}


async def calls(base_url: str, count: int, at_once: int, *, stream: bool, apart: float = 0.0) -> Timed:
    """`count` calls, `at_once` of them in flight, which begin `apart` seconds apart. Raises for one that fails."""
    numbers, timed = iter(range(count)), Timed()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work(place: int) -> None:
            await asyncio.sleep(apart * place)
            for number in numbers:
                prompt = render(BASELINE, {"query": f"Where is my card? This is call {number}."})
                body = {"model": "m", "messages": [message.to_json() for message in prompt], "stream": stream}
                body |= {"stream_options": {"include_usage": True}} if stream else {}
                start, first = time.perf_counter(), 0.0
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    response.raise_for_status()
                    async for _ in response.content.iter_any():
                        first = first or time.perf_counter() - start
                timed.append((1000 * first, 1000 * (time.perf_counter() - start)))

        await asyncio.gather(*(work(place) for place in range(at_once)))
    return timed


def _quantiles(timed: Timed) -> dict[str, float]:
    figures = {}
    for what, times in zip(("first piece", "end"), zip(*timed, strict=True), strict=True):
        cuts = statistics.quantiles(times, n=100)
        figures |= {f"{what}, {name}": cuts[quantile - 1] for name, quantile in _QUANTILES.items()}
    return figures


def _least(known: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    return {name: min(value, known.get(name, value)) for name, value in new.items()}


PARTS = {"streams": streams, "alone": alone, "rates": rates}

if __name__ == "__main__":
    main()
