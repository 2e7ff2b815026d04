"""What the search itself costs: `python -m benchmarks.gepa.bookkeeping [--calls 10000,30000,100000] [--json FILE]`.

CPU time per metric call spent in the optimizer's own code: planning, fronts, gates, events, the race at the end.
Evaluations come from the law at once and rewrites from the simulated reflector, and the time of both is taken off.
Nothing is stored but events, in memory; 200 validation rows, scores of 0 and 1. The reference is measured in the same
way, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gepa import ours, peer
from benchmarks.gepa.world import LAWS, SEED_TEXT, World
from rollouts.budget import Budget
from rollouts.dtypes import Evaluation, Metric, Program, PromptTemplate, Sample, Score
from rollouts.evaluation import Cell, Task
from rollouts.prompt_optimization import GEPAConfig, Splits, Study, StudyOptions, gepa, open_study
from rollouts.prompt_optimization.reflection import Reflection, Rewrite

ROWS = 200
SCORES = [Score(metrics=(Metric("right", float(value)),)) for value in (0, 1)]


class Watch:
    """Adds up the time of what is not the optimizer's."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def timed(self, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        try:
            return work()
        finally:
            self.seconds += time.process_time() - started


def law_study(world: World, calls: int, watch: Watch) -> Study:
    """A study whose evaluations come from the law at once; nothing else of it is replaced."""
    options = StudyOptions(
        budget=Budget(max_rollouts=calls), providers={ours.ENDPOINT.name: ours.LawLLM(world)}, method="gepa"
    )
    study = open_study(Task(endpoint=ours.ENDPOINT, score_fn=ours.score), [], options)
    known: dict[tuple[str, str], Evaluation] = {}

    def one(cell: Cell) -> Evaluation:
        key = (cell.program.digest, cell.sample.id)
        if key not in known:
            watch.calls += 1
            right = world.right(cell.program.template.system, int(cell.sample.id))
            known[key] = Evaluation(key="", program=key[0], sample_id=key[1], score=SCORES[right])
        return known[key]

    async def evaluate(cells: Sequence[Cell], *, phase: str, priority: int = 0) -> list[Evaluation]:
        found: list[Evaluation] = watch.timed(lambda: [one(cell) for cell in cells])
        return found

    study.evaluate = evaluate  # type: ignore[method-assign]
    return study


class TimedReflector(ours.LawReflector):
    """The reflector with its time taken off."""

    def __init__(self, world: World, watch: Watch) -> None:
        super().__init__(world, 0)
        self._watch = watch

    async def reflect(self, reflection: Reflection) -> Rewrite:
        started = time.process_time()
        rewrite = await super().reflect(reflection)
        self._watch.seconds += time.process_time() - started
        return rewrite


class TimedAdapter(peer.Adapter):
    """The reference's adapter with its time taken off."""

    def __init__(self, world: World, watch: Watch) -> None:
        super().__init__(world, 0)
        self._watch = watch

    def evaluate(self, batch: Sequence[int], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        self._watch.calls += len(batch)
        return self._watch.timed(lambda: super(TimedAdapter, self).evaluate(batch, candidate, capture_traces))

    def propose_new_texts(
        self, candidate: Mapping[str, str], shown: Mapping[str, Any], components: Sequence[str]
    ) -> dict[str, str]:
        texts: dict[str, str] = self._watch.timed(
            lambda: super(TimedAdapter, self).propose_new_texts(candidate, shown, components)
        )
        return texts


def ours_us(calls: int) -> float:
    """Ours, in microseconds per metric call."""
    world, watch = World(LAWS["rules"], 0, train=ROWS, val=ROWS), Watch()

    def samples(examples: range) -> list[Sample]:
        return [Sample(inputs={"question": world.question(i)}, id=str(i)) for i in examples]

    data = Splits(train=samples(world.train), val=samples(world.val), test=())
    config = GEPAConfig(generations=max(10, calls // 100), rule_candidates=0)
    start = Program.single(PromptTemplate(SEED_TEXT, "{question}"))

    async def search() -> float:
        study = law_study(world, calls, watch)
        started = time.process_time()
        await gepa(study, start, data, config, TimedReflector(world, watch))
        taken = time.process_time() - started - watch.seconds
        await study.close("done")
        return taken

    taken = asyncio.run(search())
    if watch.calls < 0.8 * calls:
        raise RuntimeError(f"the run ended after {watch.calls} calls")
    return taken / watch.calls * 1e6


def peer_us(calls: int) -> float:
    """The reference, in microseconds per metric call."""
    world, watch = World(LAWS["rules"], 0, train=ROWS, val=ROWS), Watch()
    started = time.process_time()
    peer.run(world, TimedAdapter(world, watch), calls, 0)
    return (time.process_time() - started - watch.seconds) / watch.calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="10000,30000,100000", help="sizes, separated by commas")
    parser.add_argument("--peer-most", type=int, default=30_000, help="the reference is measured up to this size")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with_peer = peer.wanted(options.no_peer)
    rows = []
    for calls in map(int, options.calls.split(",")):
        row = {"calls": calls, "ours_us": round(ours_us(calls), 1)}
        text = f"{calls:>7,} calls: ours {row['ours_us']:.1f} us per call"
        if with_peer and calls <= options.peer_most:
            row["gepa_us"] = round(peer_us(calls), 1)
            text += f", gepa {row['gepa_us']:.1f} us, ratio {row['ours_us'] / row['gepa_us']:.2f}"
        print(text, flush=True)
        rows.append(row)
    if options.json is not None:
        options.json.write_text(json.dumps({"gepa": peer.version() if with_peer else None, "bookkeeping": rows}))


if __name__ == "__main__":
    main()
