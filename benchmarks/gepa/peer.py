"""The reference's side: the package `gepa`, by its adapter interface. All here needs it; ask `wanted` first."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from benchmarks.gepa.world import SEED_TEXT, World


def wanted(skip: bool) -> bool:
    """Whether to compare with it: not when told to skip it, nor when it is not there. Says which."""
    if skip:
        print("gepa is left out")
        return False
    if importlib.util.find_spec("gepa") is None:
        print("gepa is not installed, so nothing is compared: benchmarks/README.md says how to install it")
        return False
    print(f"compared with gepa {version()}")
    return True


def version() -> str:
    """Its version."""
    return importlib.metadata.version("gepa")


class _Silent:
    def log(self, message: str) -> None: ...


class Adapter:
    """The world behind the reference's interface."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._rng = world, Random(f"reflector-{seed}")
        self.calls = 0

    def evaluate(self, batch: Sequence[int], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        from gepa import EvaluationBatch

        self.calls += len(batch)
        scores = [float(self._world.right(candidate["system"], example)) for example in batch]
        traces = list(zip(batch, scores, strict=True)) if capture_traces else None
        return EvaluationBatch(outputs=list(scores), scores=scores, trajectories=traces)

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], batch: Any, components: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        return {name: [{"shown": trace} for trace in batch.trajectories] for name in components}

    def propose_new_texts(
        self, candidate: Mapping[str, str], shown: Mapping[str, Any], components: Sequence[str]
    ) -> dict[str, str]:
        traces = [entry["shown"] for entry in shown["system"]]
        return {"system": self._world.rewrite(candidate["system"], traces, self._rng)}


def optimize(world: World, calls: int, seed: int, **settings: Any) -> tuple[str, int]:
    """The best prompt found with about `calls` metric calls, and how many it took: it may pass the limit."""
    adapter = Adapter(world, seed)
    return run(world, adapter, calls, seed, **settings), adapter.calls


def run(world: World, adapter: Adapter, calls: int, seed: int, **settings: Any) -> str:
    """The best prompt found by way of `adapter`."""
    import gepa

    result = gepa.optimize(
        seed_candidate={"system": SEED_TEXT},
        trainset=list(world.train),
        valset=list(world.val),
        adapter=adapter,
        max_metric_calls=calls,
        seed=seed,
        logger=_Silent(),
        **settings,
    )
    return str(result.best_candidate["system"])
