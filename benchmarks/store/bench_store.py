"""How fast a store takes, finds and lists rollouts: `python -m benchmarks.store.bench_store [--rollouts N]`.

A pair is one rollout and its generation. CPU is that of the whole process, the writer's thread included. Beside it the
same pairs go through the standard library's sqlite3 into the same tables, 500 a transaction (`benchmarks.store.plain`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.store.plain import PlainStore
from rollouts.store import GenerationRow, RolloutRow, Store, open_store

RUN, PROGRAMS = "20260101-000000-benchmark", 50
ANSWER = "The customer asks for a refund of a duplicate charge; the label is card_payment_wrong_exchange_rate."


def key(kind: str, number: int) -> str:
    return hashlib.blake2b(f"{kind}{number}".encode(), digest_size=16).hexdigest()


def rollout(number: int) -> RolloutRow:
    failed = number % 100 == 99
    return RolloutRow(
        key=key("rollout", number),
        run_id=RUN,
        program=key("program", number // 100 % PROGRAMS),
        sample_id=str(number % 500),
        repeat=0,
        score=None if failed else 0.5,
        output="" if failed else ANSWER,
        failure={"kind": "CallTimeout", "message": "no answer in 60 s"} if failed else None,
        prompt_tokens=712,
        completion_tokens=25,
        cached_tokens=512,
        cost_micros=83,
        latency_s=0.731,
        data={
            "metrics": {"exact": 0.5},
            "feedback": "expected refund",
            "calls": [{"module": "main", "usage": [712, 25]}],
        },
        created_at=1.7e9 + number,
    )


def generation(number: int) -> GenerationRow:
    return GenerationRow(
        key=key("generation", number),
        run_id=RUN,
        phase="task",
        model="openai/gpt-4.1-nano",
        request=None,
        response={"text": ANSWER, "finish": "stop", "tool_calls": [], "usage": {"prompt": 712, "completion": 25}},
        prompt_tokens=712,
        completion_tokens=25,
        cached_tokens=512,
        cost_micros=83,
        latency_s=0.731,
        created_at=1.7e9 + number,
    )


def record(store: Store, count: int, *, pace: float | None = None) -> float:
    """Records `count` pairs and returns how many in a second; `pace` is pairs per second, None as fast as they are
    taken."""
    wall = cpu = own = 0.0
    done = 0
    while done < count:
        some = range(done, min(done + 10_000, count))
        pairs = [(rollout(number), generation(number)) for number in some]
        before = time.perf_counter(), time.process_time(), time.thread_time()
        for place, (first, second) in enumerate(pairs):
            if pace is not None and place % 20 == 0:
                time.sleep(max(0.0, before[0] + place / pace - time.perf_counter()))
            store.record(first, second)
        own += time.thread_time() - before[2]
        store.flush()
        wall += time.perf_counter() - before[0]
        cpu += time.process_time() - before[1]
        done = some.stop
    how = "flat out" if pace is None else f"at {pace:,.0f}/s"
    print(
        f"record {count:,} pairs {how}: {count / wall:,.0f} pairs/s, CPU per pair {cpu / count * 1e6:.1f} us, "
        f"of it on the producer's thread {own / count * 1e6:.1f} us"
    )
    return count / wall


def record_plainly(path: Path, count: int) -> float:
    """Pairs per second of the standard library."""
    store, wall = PlainStore(path), 0.0
    for first in range(0, count, 500):
        numbers = range(first, min(first + 500, count))
        rollouts, generations = [rollout(number) for number in numbers], [generation(number) for number in numbers]
        start = time.perf_counter()
        store.record(rollouts, generations)
        wall += time.perf_counter() - start
    store.close()
    return count / wall


def timed(what: str, action: Callable[[], int]) -> None:
    start = time.perf_counter()
    count = action()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {count:,} in {time.perf_counter() - start:.3f} s, peak RSS {peak:,.0f} MB")


def resume(store: Store, count: int) -> int:
    found = 0
    for start in range(0, count, 500):
        found += len(store.rollouts([key("rollout", number) for number in range(start, min(start + 500, count))]))
    return found


def size(scan: object) -> int:
    return sum(1 for _ in scan)  # type: ignore[call-overload]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--place", default=None, help="path or URL of the store; a temporary file when left out")
    parser.add_argument("--rounds", type=int, default=2, help="of recording flat out and plainly: the best counts")
    parser.add_argument("--json", type=Path, help="also write the rates here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = options.place or str(Path(directory) / "bench.db")
        plain = ours = 0.0
        for number in range(options.rounds):
            plain = max(plain, record_plainly(Path(directory) / f"plain{number}.db", options.rollouts))
            store = open_store(place if number == 0 else Path(directory) / f"bench{number}.db")
            ours = max(ours, record(store, options.rollouts))
            store.close()
        print(f"sqlite3 alone {plain:,.0f} pairs/s, ratio {ours / plain:.2f}")
        if options.json is not None:
            options.json.write_text(json.dumps({"ours": ours, "sqlite3": plain}))
        if options.place is None:
            paced = open_store(Path(directory) / "paced.db")
            record(paced, min(options.rollouts, 20_000), pace=5000)
            paced.close()
            print(f"file: {Path(place).stat().st_size / options.rollouts:,.0f} bytes per pair")
        start = time.perf_counter()
        store = open_store(place)
        print(f"open an up-to-date store: {(time.perf_counter() - start) * 1e3:.1f} ms")
        timed("resume, 500 keys at a time", lambda: resume(store, options.rollouts))
        timed("scan all rollouts", lambda: size(store.scan_rollouts(RUN)))
        timed("scan failures", lambda: size(store.scan_rollouts(RUN, failed=True)))
        timed("scan one program", lambda: size(store.scan_rollouts(RUN, program=key("program", 7))))
        timed("list runs", lambda: len(store.runs()))
        store.close()


if __name__ == "__main__":
    main()
