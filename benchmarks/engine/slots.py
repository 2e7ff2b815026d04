"""How busy a whole MIPRO run keeps its slots: `python -m benchmarks.engine.slots [--slots 16] [--trials 60]`.

Slot use is the latencies of all model calls together, divided by slots times the wall-clock time of the run: proposals,
bootstrap, search, and for ours also the final check. Two laws of latency: always 50 ms, and a heavy tail (log-normal,
median 30 ms, sigma 1). Both optimizers get the same rows (the built-in ticket data), as many trials of as many samples,
candidates and demonstrations, and a model in this process whose latency is drawn by the same law.

The figure is the mean over seeds. The same seed is run several times and its best run counts, because noise of the
machine only lowers it; a seed is never left out, because seeds differ by more than noise.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.engine import peer
from rollouts.datasets import DatasetSpec, load, split
from rollouts.dtypes import Endpoint, PromptTemplate, Sample, Sampling
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import MIPROConfig, StudyOptions, run_mipro
from rollouts.prompt_optimization.splits import Splits
from rollouts.store import open_store
from rollouts.testing import SimulatedLLM, SimulatedTask
from rollouts.testing.latency import LatencyLaw, fixed, log_normal

LAWS: dict[str, LatencyLaw] = {"fixed 50 ms": fixed(0.05), "heavy tail": log_normal(0.03, 1.0)}
START = PromptTemplate("Route the ticket.", "Ticket: {ticket}\nRoute:")
CANDIDATES, DEMOS, BOOTSTRAPPED, MINIBATCH = 12, 16, 4, 35


def rows() -> tuple[Splits, list[Sample]]:
    """The splits, and all rows."""
    samples = load(DatasetSpec(path="tickets", inputs={"ticket": "ticket"}, ground_truth="route"))
    parts = split(samples, {"train": 100, "val": 100, "test": 150}, seed=0)
    return Splits(train=parts["train"], val=parts["val"], test=parts["test"]), list(samples)


def ours(law: LatencyLaw, slots: int, trials: int, seed: int, directory: Path) -> float:
    """Slot use of `run_mipro`."""
    data, samples = rows()
    labels = tuple(sorted({str(sample.ground_truth) for sample in samples}))
    answers = {sample.inputs["ticket"]: sample.ground_truth for sample in samples}
    llm = SimulatedLLM(SimulatedTask(labels=labels, answers=answers), seed=seed, latency=law)
    endpoint = Endpoint(provider="simulated", model="m", sampling=Sampling(max_tokens=16))
    config = MIPROConfig(
        num_trials=trials,
        num_candidates=CANDIDATES,
        max_labeled_demos=DEMOS,
        max_bootstrapped_demos=BOOTSTRAPPED,
        minibatch_size=MINIBATCH,
        seed=seed,
    )
    store = open_store(directory / f"{time.time_ns()}.db")
    options = StudyOptions(slots=slots, store=store, providers={endpoint.name: llm})
    start = time.perf_counter()
    result = asyncio.run(run_mipro(START, config, data, endpoint, endpoint, exact_match(), options=options))
    seconds = time.perf_counter() - start
    store.close()
    return result.spend.seconds / (slots * seconds)


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def dspys(law: LatencyLaw, slots: int, trials: int, seed: int, _: Path) -> float:
    """Slot use of `dspy.MIPROv2`, whose model is right on seven of ten samples."""
    dspy = peer.load()
    data, samples = rows()
    routes = {str(sample.inputs["ticket"]): str(sample.ground_truth) for sample in samples}

    def reply(text: str) -> str:
        asked = peer.asked_fields(text)
        if asked != ["route"]:
            return peer.fields(**{name: f"Route the ticket to its team, take {_uniform(text):.6f}." for name in asked})
        ticket = text[text.rfind("[[ ## ticket ## ]]\n") + 19 :].split("\n\nRespond with", maxsplit=1)[0]
        return peer.fields(route=routes[ticket] if _uniform(text + "right") < 0.7 else "unknown")

    def examples(part: Sequence[Sample]) -> list[Any]:
        pairs = [(sample.inputs["ticket"], sample.ground_truth) for sample in part]
        return [dspy.Example(ticket=ticket, route=route).with_inputs("ticket") for ticket, route in pairs]

    def matches(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(prediction.route == example.route)

    lm = peer.make_lm(reply, lambda text: law(_uniform(text)))
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), dspy.context(lm=lm):
        optimizer = dspy.MIPROv2(
            metric=matches,
            auto=None,
            num_candidates=CANDIDATES,
            max_bootstrapped_demos=BOOTSTRAPPED,
            max_labeled_demos=DEMOS,
            num_threads=slots,
            seed=seed or 9,
        )
        start = time.perf_counter()
        optimizer.compile(
            dspy.Predict("ticket -> route"),
            trainset=examples(data.train),
            valset=examples(data.val),
            num_trials=trials,
            minibatch_size=MINIBATCH,
        )
        seconds = time.perf_counter() - start
    return float(sum(lm.waits)) / (slots * seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=16, help="calls in flight, and DSPy's threads")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3, help="the figure is the mean over seeds")
    parser.add_argument("--rounds", type=int, default=2, help="of each seed the best counts")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    runs: dict[str, Callable[[LatencyLaw, int, int, int, Path], float]] = {"ours": ours}
    if peer.wanted(options.no_peer):
        runs["dspy"] = dspys
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for law_name, law in LAWS.items():
            used = {name: [0.0] * options.seeds for name in runs}
            for seed in [seed for _ in range(options.rounds) for seed in range(options.seeds)]:
                for name, run in runs.items():
                    use = round(run(law, options.slots, options.trials, seed, Path(directory)), 3)
                    used[name][seed] = max(used[name][seed], use)
            shown = ", ".join(f"{name} {fmean(uses):.2f} {uses}" for name, uses in used.items())
            print(f"{law_name}: slot use {shown}", flush=True)
            figures[law_name] = used
    if options.json is not None:
        options.json.write_text(json.dumps({"slots": options.slots, "trials": options.trials, "slot_use": figures}))


if __name__ == "__main__":
    main()
