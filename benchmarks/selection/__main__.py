"""Regret of selectors replayed on tables of outcomes: `python -m benchmarks.selection [--tables DIR]`.

A call is one candidate on one example; regret is how much worse the recommended candidate's mean over all examples is
than the best candidate's, in percentage points. The first method of the list is compared with the others.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from benchmarks.options import count, counts
from benchmarks.selection.replay import METHODS, regrets
from benchmarks.selection.report import Record, comparison, lines, plot
from benchmarks.selection.worlds import World, load, synthetic

_SEEDS_AT_ONCE = 5


def names(directory: Path | None, *, families: bool) -> list[str]:
    """What to replay: tables, and families of made-up ones."""
    return [*(load(directory) if directory else ()), *(synthetic() if families else ())]


@cache
def table(directory: Path, name: str) -> World:
    """Read once per process."""
    return load(directory)[name]()


def world(directory: Path | None, name: str, seed: int) -> World:
    """The table of that name; of a family, one of its own for every seed."""
    family = synthetic().get(name)
    if family is not None:
        return family(seed)
    assert directory is not None
    return table(directory, name)


Job = tuple[Path | None, str, str, tuple[int, ...], range, int]


def run(job: Job) -> list[list[float]]:
    """Regrets of a few seeds, one list per seed."""
    directory, name, method, budgets, seeds, batch = job
    return [regrets(method, world(directory, name, seed), seed, budgets, batch) for seed in seeds]


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    for name in names(options.tables, families=not options.no_synthetic):
        for method in options.methods:
            for first in range(0, options.seeds, _SEEDS_AT_ONCE):
                seeds = range(first, min(first + _SEEDS_AT_ONCE, options.seeds))
                yield options.tables, name, method, options.budgets, seeds, options.batch


def measure(options: argparse.Namespace) -> list[Record]:
    """All records, by table, method and budget."""
    values: dict[tuple[str, str, int], list[float]] = {}
    todo = list(jobs(options))
    with ProcessPoolExecutor(options.processes) as pool:
        for (_, name, method, budgets, *_), rows in zip(todo, pool.map(run, todo), strict=True):
            for row in rows:
                for budget, value in zip(budgets, row, strict=True):
                    values.setdefault((name, method, budget), []).append(value)
    return [Record.of(*key, found) for key, found in values.items()]


def folder(text: str) -> Path:
    """A folder that has tables. Raises what argparse makes an error of the command line."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    if not load(path):
        raise argparse.ArgumentTypeError(f"there is no file NAME.json.gz in {text}")
    return path


def add_options(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    """What to replay, how often, and on how many processors."""
    parser.add_argument("--tables", type=folder, help="a directory of NAME.json.gz")
    parser.add_argument("--no-synthetic", action="store_true", help="the tables only")
    parser.add_argument("--seeds", type=count, default=seeds)
    parser.add_argument("--processes", type=count, default=os.cpu_count())


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options, with something to replay."""
    options = parser.parse_args(argv)
    if options.no_synthetic and options.tables is None:
        parser.error("nothing to replay: --no-synthetic needs a directory with --tables")
    return options


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, seeds=40)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS), help=",".join(METHODS))
    parser.add_argument("--budgets", type=counts, default=(400, 800, 2000, 4000, 8000))
    parser.add_argument("--batch", type=count, default=32, help="cells in flight")
    parser.add_argument("--json", type=Path, help="write the records here")
    parser.add_argument("--plot", type=Path, help="draw regret against calls here (needs matplotlib)")
    options = parsed(parser, argv)
    unknown = set(options.methods) - set(METHODS)
    if unknown:
        parser.error(f"unknown methods: {', '.join(sorted(unknown))} (known: {', '.join(METHODS)})")
    return options


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    records = measure(options)
    if options.json:
        options.json.write_text(json.dumps([record.to_json() for record in records], indent=1))
    print("\n".join(lines(records)))
    if len(options.methods) > 1:
        print("\n".join(comparison(records, options.methods[0])))
    if options.plot:
        plot(records, options.plot)


if __name__ == "__main__":
    main()
