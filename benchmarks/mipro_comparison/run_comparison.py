"""Every optimizer on every task, seed by seed: `python run_comparison.py --all --seeds 5`.

A run whose record is in the folder of results is not made again, so a comparison that was stopped goes on. One that
fails is recorded as failed, does not stop the others, and is tried again the next time. A method may be followed by
`:settings` and `@cap`, as in `dspy-mipro:default` or `rollouts-mipro@300`.

Ends with 1 when a run failed, and says which; with 2 when the comparison could not begin.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.mipro_comparison.one import (  # noqa: E402 - the checkout is on the path only now
    FREE,
    METHODS,
    add_model_options,
    last_lines,
    line,
    model_of,
    sizes_of,
)
from benchmarks.mipro_comparison.outcome import Key, Outcome, outcomes  # noqa: E402
from benchmarks.mipro_comparison.report import report  # noqa: E402
from benchmarks.mipro_comparison.served import serve  # noqa: E402
from benchmarks.mipro_comparison.tasks import TASKS, load_task  # noqa: E402
from rollouts.errors import ConfigError, RolloutsError  # noqa: E402

Run = Callable[[Key], Outcome]
PACKAGES = {"dspy-mipro": "dspy", "gepa": "gepa"}
_USUAL = (
    "rollouts-mipro",
    "dspy-mipro:plain",
    "dspy-mipro",
    "rollouts-gepa",
    "gepa",
    "random",
    "dspy-mipro:default",
    "start",
    "labelled",
)


def usual_methods(cap: int) -> tuple[str, ...]:
    """Ours with a third of the calls, then all methods with `cap`."""
    return (f"rollouts-mipro@{cap // 3}", *_USUAL)


def keys_of(tasks: Sequence[str], methods: Iterable[str], seeds: int, cap: int) -> list[Key]:
    """The runs of a comparison in their order: all tasks and methods of a seed before the next one, so that what is
    there when it is stopped is balanced. Raises ConfigError for an unknown task or method."""
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ConfigError(f"there is no task {unknown[0]!r}; the tasks are {', '.join(TASKS)}")
    parsed = [_parsed(method, cap) for method in methods]
    keys = [
        Key(task=task, method=name, settings=settings, cap=most, seed=seed)
        for seed in range(seeds)
        for task in tasks
        for name, settings, most in parsed
    ]
    return list(dict.fromkeys(keys))


def _parsed(method: str, cap: int) -> tuple[str, str, int]:
    name, _, most = method.strip().partition("@")
    name, _, settings = name.partition(":")
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}; the methods are {', '.join(METHODS)}")
    if most and not most.isdecimal():
        raise ConfigError(f"{method!r}: the cap after @ must be a number of calls")
    return name, settings or "equal", 0 if name in FREE else int(most or cap)


def compare(
    keys: Sequence[Key], folder: Path, run: Run, same: Callable[[Outcome], bool], workers: int
) -> list[Outcome]:
    """Makes the runs that are missing in `folder`, `workers` at a time, and says how each went; returns them.

    A record counts as there when it did not fail, and `same` says that it was made under the same conditions.
    """
    known = outcomes(folder)
    done = {outcome.key for outcome in known.values() if outcome.error is None and same(outcome)}
    missing = [key for key in keys if key not in done]
    print(f"{len(keys)} runs, {len(keys) - len(missing)} of them are there", flush=True)

    def make(key: Key) -> Outcome:
        outcome = run(key)
        for path, before in known.items():
            if before.key == key and before.error is not None:
                path.unlink(missing_ok=True)
        print(line(outcome), flush=True)
        return outcome

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(make, missing))


def in_process(options: argparse.Namespace, server: str, key: Key) -> Outcome:
    """A run in a process of its own; one that leaves no record is recorded as failed with its last lines."""
    sizes, before = sizes_of(key.task, options), set(outcomes(options.out))
    command = [
        *(sys.executable, "-m", "benchmarks.mipro_comparison.one", "--server", server),
        *("--task", key.task, "--method", key.method, "--settings", key.settings),
        *("--cap", str(key.cap), "--seed", str(key.seed)),
        *("--model", options.model, "--proposer", options.proposer, "--slots", str(options.slots)),
        *("--data", str(options.data.resolve()), "--out", str(options.out.resolve())),
        *("--train-size", str(sizes.train), "--val-size", str(sizes.val), "--test-size", str(sizes.test)),
    ]
    try:
        made = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            timeout=options.limit_s,
            capture_output=True,
            text=True,
            errors="replace",
        )
        said = made.stderr
    except subprocess.TimeoutExpired:
        said = f"stopped after {options.limit_s:g} seconds"
    for path, outcome in outcomes(options.out).items():
        if path not in before and outcome.key == key:
            return outcome
    failed = Outcome(
        key=key,
        model=options.model,
        proposer=options.proposer,
        train_size=sizes.train,
        val_size=sizes.val,
        test_size=sizes.test,
        slots=options.slots,
        error=last_lines(said) or "the run left no record",
    )
    failed.save(options.out)
    return failed


def installed(methods: Iterable[str]) -> list[str]:
    """The methods whose packages are there; says which are left out."""
    kept = []
    for method in methods:
        package = PACKAGES.get(method.partition("@")[0].partition(":")[0])
        if package is None or find_spec(package) is not None:
            kept.append(method)
        else:
            print(f"{method} is left out: {package} is not installed (pip install -r requirements.txt)")
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all tasks and methods, where no others are named")
    parser.add_argument("--tasks", help=f"of {', '.join(TASKS)}, separated by commas")
    parser.add_argument("--methods", help=f"of {', '.join(METHODS)}, separated by commas")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--cap", type=int, default=900, help="most task calls of a search")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--limit-s", type=float, default=4 * 3600.0, help="seconds after which a run is given up")
    add_model_options(parser)
    options = parser.parse_args(argv)
    if not (options.all or options.tasks):
        parser.error("say which tasks with --tasks, or --all")
    tasks = options.tasks.split(",") if options.tasks else TASKS
    methods = installed(options.methods.split(",") if options.methods else usual_methods(options.cap))

    def same(outcome: Outcome) -> bool:
        if outcome.key.task not in tasks:
            return False
        sizes = sizes_of(outcome.key.task, options)
        mine = (options.model, options.proposer, sizes.train, sizes.val, sizes.test)
        return mine == (outcome.model, outcome.proposer, outcome.train_size, outcome.val_size, outcome.test_size)

    try:
        keys = keys_of(tasks, methods, options.seeds, options.cap)
        for task in tasks:
            load_task(task, seed=0, sizes=sizes_of(task, options), data=options.data)
        with serve(model_of(options)) as served:
            made = compare(keys, options.out, lambda key: in_process(options, served.url, key), same, options.workers)
    except RolloutsError as error:
        print(error, file=sys.stderr)
        return 2
    print(report(options.out))
    failed = [outcome for outcome in made if outcome.error is not None]
    for outcome in failed:
        print(line(outcome), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
