"""How busy a whole MIPRO run keeps its slots, and how long it takes: `python -m benchmarks.engine.slots [--trials 60]`.

Slot use is the latencies of all model calls together, divided by slots times the wall-clock time of the run: proposals,
bootstrap, search, and for ours also the final check. Two laws of latency: always 50 ms, and a heavy tail (log-normal,
median 30 ms, sigma 1). Both optimizers get the same rows (the built-in ticket data), as many candidates and
demonstrations, samples per trial, and a model in this process whose latency is drawn by the same law. DSPy makes
`--trials` trials; ours gets as many as take the same number of calls, and times are compared per call, which makes up
for the few calls that are still missing.

The figures are means over seeds. The same seed is run several times and its best run counts, because noise of the
machine only makes it worse; a seed is never left out, because seeds differ by more than noise.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.engine import peer
from rollouts.datasets import DatasetSpec, load, split
from rollouts.dtypes import Endpoint, PromptTemplate, Sample, Sampling
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import MIPROConfig, StudyOptions, run_mipro
from rollouts.prompt_optimization.mipro import mipro_plan
from rollouts.prompt_optimization.splits import Splits
from rollouts.store import open_store
from rollouts.testing import SimulatedLLM, SimulatedTask
from rollouts.testing.latency import LatencyLaw, fixed, log_normal

LAWS: dict[str, LatencyLaw] = {"fixed 50 ms": fixed(0.05), "heavy tail": log_normal(0.03, 1.0)}
START = PromptTemplate("Route the ticket.", "Ticket: {ticket}\nRoute:")
CANDIDATES, DEMOS, BOOTSTRAPPED, MINIBATCH = 12, 16, 4, 35
SELECTORS = ("racing", "tpe")


class Ran(NamedTuple):
    """A whole run: its model calls, its seconds, and the share of its slots' time with a call under way."""

    calls: int
    seconds: float
    use: float


def rows() -> tuple[Splits, list[Sample]]:
    """The splits, and all rows."""
    samples = load(DatasetSpec(path="tickets", inputs={"ticket": "ticket"}, ground_truth="route"))
    parts = split(samples, {"train": 100, "val": 100, "test": 150}, seed=0)
    return Splits(train=parts["train"], val=parts["val"], test=parts["test"]), list(samples)


def config_of(trials: int, seed: int, selector: str) -> MIPROConfig:
    """Ours, with the sizes of the comparison."""
    return MIPROConfig(
        num_trials=trials,
        num_candidates=CANDIDATES,
        max_labeled_demos=DEMOS,
        max_bootstrapped_demos=BOOTSTRAPPED,
        minibatch_size=MINIBATCH,
        selector=selector,
        seed=seed,
    )


def trials_for(calls: int, slots: int, selector: str) -> int:
    """As many trials of ours as take so many calls, proposals included."""
    data, _ = rows()
    one = mipro_plan(config_of(1, 0, selector), data, None, slots).total
    return max(1, 1 + round((calls - CANDIDATES - one) / MINIBATCH))


def ours(law: LatencyLaw, slots: int, trials: int, seed: int, directory: Path, selector: str = SELECTORS[0]) -> Ran:
    """`run_mipro`."""
    data, samples = rows()
    labels = tuple(sorted({str(sample.ground_truth) for sample in samples}))
    answers = {sample.inputs["ticket"]: sample.ground_truth for sample in samples}
    llm = SimulatedLLM(SimulatedTask(labels=labels, answers=answers), seed=seed, latency=law)
    endpoint = Endpoint(provider="simulated", model="m", sampling=Sampling(max_tokens=16))
    store = open_store(directory / f"{time.time_ns()}.db")
    options = StudyOptions(slots=slots, store=store, providers={endpoint.name: llm})
    config = config_of(trials, seed, selector)
    start = time.perf_counter()
    result = asyncio.run(run_mipro(START, config, data, endpoint, endpoint, exact_match(), options=options))
    seconds = time.perf_counter() - start
    store.close()
    return Ran(result.spend.calls, seconds, result.spend.seconds / (slots * seconds))


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def dspys(law: LatencyLaw, slots: int, trials: int, seed: int) -> Ran:
    """`dspy.MIPROv2`, whose model is right on seven of ten samples."""
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
    return Ran(len(lm.waits), seconds, float(sum(lm.waits)) / (slots * seconds))


def measure(law: LatencyLaw, options: argparse.Namespace, with_peer: bool, directory: Path) -> dict[str, list[Ran]]:
    """The best run of each seed by selector, and as "dspy"; the kinds take turns."""
    best: dict[str, list[Ran]] = {}
    trials = dict.fromkeys(options.selectors, options.trials)

    def keep(kind: str, seed: int, ran: Ran) -> None:
        known = best.setdefault(kind, [])
        if seed == len(known):
            known.append(ran)
        known[seed] = max(known[seed], ran, key=lambda each: each.calls / each.seconds)

    for seed in [seed for _ in range(options.rounds) for seed in range(options.seeds)]:
        if with_peer:
            ran = dspys(law, options.slots, options.trials, seed)
            keep("dspy", seed, ran)
            trials = {name: trials_for(ran.calls, options.slots, name) for name in trials}
        for name in options.selectors:
            keep(name, seed, ours(law, options.slots, trials[name], seed, directory, name))
    return best


def figures_of(best: Mapping[str, Sequence[Ran]]) -> dict[str, dict[str, Any]]:
    """By kind: slot use by seed, calls and seconds (means), seconds per 1,000 calls, and that divided by DSPy's."""
    found: dict[str, dict[str, Any]] = {}
    for kind, runs in best.items():
        found[kind] = {
            "use": round(fmean(run.use for run in runs), 3),
            "uses": [round(run.use, 3) for run in runs],
            "calls": round(fmean(run.calls for run in runs)),
            "seconds": round(fmean(run.seconds for run in runs), 2),
            "seconds_per_1000_calls": round(fmean(1000 * run.seconds / run.calls for run in runs), 3),
        }
    for kind in found.keys() - {"dspy"} if "dspy" in found else ():
        found[kind]["time_ratio"] = round(
            found[kind]["seconds_per_1000_calls"] / found["dspy"]["seconds_per_1000_calls"], 3
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=16, help="calls in flight, and DSPy's threads")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--selectors", type=lambda text: text.split(","), default=SELECTORS, help="ours; default: both")
    parser.add_argument("--seeds", type=int, default=3, help="the figures are means over seeds")
    parser.add_argument("--rounds", type=int, default=2, help="of each seed the best counts")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with_peer = peer.wanted(options.no_peer)
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        for law_name, law in LAWS.items():
            figures[law_name] = figures_of(measure(law, options, with_peer, Path(directory)))
            for kind, found in figures[law_name].items():
                ratio = f", {found['time_ratio']:.2f} of dspy's" if "time_ratio" in found else ""
                print(
                    f"{law_name}, {kind}: slot use {found['use']:.2f} {found['uses']}, {found['calls']:,} calls in "
                    f"{found['seconds']:.1f} s, {found['seconds_per_1000_calls']:.2f} s per 1,000{ratio}",
                    flush=True,
                )
    if options.json is not None:
        found = {"dspy": peer.version() if with_peer else None, "slots": options.slots, "runs": figures}
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
