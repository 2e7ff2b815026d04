"""One run of one method: `python -m benchmarks.mipro_comparison.one --task sst2 --method start --seed 0`.

Each run is a process of its own, so that no method inherits what another left behind.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.mipro_comparison.outcome import ROOT, Found, Key, Outcome, score
from benchmarks.mipro_comparison.served import EMBEDDED, Model, Served, deal_of, serve
from benchmarks.mipro_comparison.tasks import DATA, TASKS, Data, Sizes, Task, default_sizes, load_task
from rollouts.errors import RolloutsError

RESULTS = Path(__file__).with_name("results")
METHODS = {
    "start": "ours:search_start",
    "labelled": "ours:search_labelled",
    "random": "ours:search_random",
    "rollouts-mipro": "ours:search_mipro",
    "rollouts-gepa": "ours:search_gepa",
    "dspy-mipro": "dspy_mipro:search",
    "gepa": "gepa_peer:search",
}
BY_SERVICE = {
    "local": "online:search_local",
    "online": "online:search_online",
}
"""Settings of `rollouts-mipro` that go by way of the service."""
FREE = ("start", "labelled")
"""Methods without a search: they make no calls before the test, whatever the cap."""
_LINES = 12


def run_one(served: Served, base: Outcome, task: Task, data: Data, more: Mapping[str, Any] | None = None) -> Outcome:
    """The search that `base.key` names, then the test of what it found; `base` is the record that is filled in.

    What a method raises becomes the record's `error`. `more` are further arguments of the search.
    """
    key = base.key
    run, deal = f"{key.name}_{os.getpid()}", deal_of(key.task, key.seed)
    start = time.perf_counter()
    try:
        search = _search(key)  # loads the method's packages, which is no part of the search
        start = time.perf_counter()
        found = search(
            served.base_url(deal, run, "search"),
            task,
            replace(data, test=()),
            cap=key.cap,
            seed=key.seed,
            settings=key.settings,
            slots=base.slots,
            **(more or {}),
        )
        elapsed = time.perf_counter() - start
        said = found.answers(data.test, served.base_url(deal, run, "test"))
        scores = {row["id"]: score(text, row["label"]) for row, text in zip(data.test, said, strict=True)}
    except Exception:
        error = last_lines(traceback.format_exc())
        return replace(base, elapsed=time.perf_counter() - start, calls=served.counts(run), error=error)
    return replace(
        base,
        best_score=fmean(scores.values()),
        elapsed=elapsed,
        mode=found.mode,
        test_scores=scores,
        calls=served.counts(run),
        prompt=found.prompt(data.test[0]),
        notes=found.notes,
    )


def last_lines(text: str) -> str:
    """The end of an error's text, as a record has it: without the places of this machine."""
    for place in (str(ROOT), sys.prefix, sys.base_prefix, str(Path.home())):
        text = text.replace(place, "...")
    return "\n".join(text.strip().splitlines()[-_LINES:])


def _search(key: Key) -> Callable[..., Found]:
    place = METHODS[key.method]
    if key.method == "rollouts-mipro":
        place = BY_SERVICE.get(key.settings, place)
    module, _, name = place.partition(":")
    search: Callable[..., Found] = getattr(import_module(f"{__package__}.{module}"), name)
    return search


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options of `model_of`, and those that every command of the comparison has."""
    parser.add_argument("--model", default=EMBEDDED, help="provider/name; by default the embedded model")
    parser.add_argument("--base-url", help="the model's address, where it is not its provider's own")
    parser.add_argument("--proposer", choices=("scripted", "model"), default="scripted", help="who writes instructions")
    parser.add_argument("--answers", type=Path, help="a file of earlier answers, for repeated requests")
    parser.add_argument("--cpus", default="", help="processors of the embedded model, as 0,1; by default all")
    parser.add_argument("--slots", type=int, default=2, help="calls in flight, for every method")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds banking77 and sst2")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the records go")
    parser.add_argument("--train-size", type=int)
    parser.add_argument("--val-size", type=int)
    parser.add_argument("--test-size", type=int)


def model_of(options: argparse.Namespace) -> Model:
    """The model that the command line asks for."""
    return Model(
        name=options.model,
        base_url=options.base_url,
        proposer=options.proposer,
        answers=options.answers,
        cpus=tuple(int(cpu) for cpu in options.cpus.split(",") if cpu),
    )


def sizes_of(name: str, options: argparse.Namespace) -> Sizes:
    """The task's sizes, where the command line does not say otherwise."""
    usual = default_sizes(name)
    return Sizes(
        train=options.train_size or usual.train,
        val=options.val_size or usual.val,
        test=options.test_size or usual.test,
    )


def record(
    served: Served,
    key: Key,
    options: argparse.Namespace,
    *,
    plain: bool = False,
    more: Mapping[str, Any] | None = None,
) -> tuple[Outcome, Path]:
    """Runs `key` and saves its record, also that of a run that failed. `plain` names the file as the seed does."""
    sizes = sizes_of(key.task, options)
    task, data = load_task(key.task, seed=key.seed, sizes=sizes, data=options.data)
    base = Outcome(
        key=key,
        model=options.model,
        proposer=options.proposer,
        train_size=len(data.train),
        val_size=len(data.val),
        test_size=len(data.test),
        slots=options.slots,
    )
    outcome = run_one(served, base, task, data, more)
    return outcome, outcome.save(options.out, plain=plain)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--settings", default="equal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cap", type=int, default=900, help="most task calls of the search")
    parser.add_argument("--server", help="a proxy that is running already; else one is started")
    add_model_options(parser)
    options = parser.parse_args(argv)
    cap = 0 if options.method in FREE else options.cap
    key = Key(task=options.task, method=options.method, settings=options.settings, cap=cap, seed=options.seed)
    try:
        if options.server:
            outcome, path = record(Served(options.server), key, options)
        else:
            with serve(model_of(options)) as served:
                outcome, path = record(served, key, options)
    except RolloutsError as error:
        print(error, file=sys.stderr)
        return 2
    print(line(outcome), path)
    return int(outcome.error is not None)


def line(outcome: Outcome) -> str:
    """A run in words."""
    if outcome.error is not None:
        return f"{outcome.key.name}: failed: {outcome.error.splitlines()[-1]}"
    search = outcome.calls["search"]
    return (
        f"{outcome.key.name}: {outcome.best_score:.3f} on {outcome.test_size} rows, {search.calls:,} calls in "
        f"{outcome.elapsed:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
