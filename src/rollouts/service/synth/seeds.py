"""The seed pools of a synth-ai job: under which names they come, and what each is for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.errors import ConfigError

MOST_SEEDS = 100_000
_MIPRO_GROUPS = {
    "bootstrap": "bootstrap_train_seeds",
    "online": "online_pool",
    "test": "test_pool",
    "reference": "reference_pool",
}
_POOLS = (
    "bootstrap_train_seeds",
    "online_pool",
    "test_pool",
    "reference_pool",
    "val_seeds",
    "train_seeds",
    "validation_seeds",
    "evaluation_seeds",
    "test_seeds",
    "seeds",
)


_NAMES = {
    "mipro": {"training": "mipro.bootstrap_train_seeds", "validation": "mipro.online_pool"},
    "gepa": {"training": "gepa.evaluation.seeds", "validation": "gepa.evaluation.validation_seeds"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Seeds to learn from, to compare candidates on, and to test on. All empty where none are named."""

    train: Sequence[int] = ()
    val: Sequence[int] = ()
    test: Sequence[int] = ()
    warnings: tuple[str, ...] = ()


def pools_of(section: dict[str, Any], algorithm: str) -> Pools:
    """The pools in a job's settings, which lose them. Raises ConfigError for what is no pool of seeds, and where one of
    the two that a search needs is missing.

    MIPRO bootstraps on `bootstrap_train_seeds` and compares on `val_seeds`, or on the `online_pool` where there are
    none; GEPA has `seeds` and `validation_seeds` under `evaluation`.
    """
    found = _found(section, algorithm)
    if algorithm == "gepa":
        train = found.get("train_seeds") or found.get("seeds") or ()
        val = found.get("val_seeds") or found.get("validation_seeds") or found.get("evaluation_seeds") or ()
    else:
        own, online = found.get("val_seeds") or (), found.get("online_pool") or found.get("evaluation_seeds") or ()
        train = found.get("bootstrap_train_seeds") or found.get("train_seeds") or ()
        train = tuple(dict.fromkeys((*train, *online))) if own else train
        val = own or online
    test = found.get("test_pool") or found.get("test_seeds") or ()
    for name, pool in (("training", train), ("validation", val)):
        if not pool and (train or val or test):
            names = _NAMES[algorithm][name]
            raise ConfigError(f"there are no {name} seeds: give {names}, or no seeds at all to have them drawn")
    reference = "reference_pool has no effect here: proposals are grounded in the training seeds"
    return Pools(train=train, val=val, test=test, warnings=(reference,) if found.get("reference_pool") else ())


def _found(section: dict[str, Any], algorithm: str) -> dict[str, tuple[int, ...]]:
    """Every pool by its name; the search's own go before those of the whole job."""
    found: dict[str, tuple[int, ...]] = {}
    search = section.get(algorithm) or {}
    tables = [search]
    if algorithm == "mipro" and isinstance(search.get("seeds"), Mapping) and not _is_range(search["seeds"]):
        groups = search.pop("seeds")
        tables.append({_MIPRO_GROUPS.get(name, name): pool for name, pool in groups.items()})
    if algorithm == "gepa" and isinstance(search.get("evaluation"), Mapping):
        search["evaluation"] = dict(search["evaluation"])
        tables.insert(0, search["evaluation"])
    for table in (*tables, section):
        for name in _POOLS:
            # The name of a split is no pool; the job file says what becomes of it.
            if name in table and not isinstance(table[name], str):
                pool = _pool(name, table.pop(name))
                found.setdefault(name, pool)
    return found


def _pool(name: str, given: Any) -> tuple[int, ...]:
    if given is None:
        return ()
    if isinstance(given, Mapping):
        given = _range(name, given)
    if isinstance(given, list | range) and len(given) > MOST_SEEDS:
        raise ConfigError(f"{name}: {len(given)} seeds; at most {MOST_SEEDS} can be used")
    if not isinstance(given, list | range) or not all(type(seed) is int and 0 <= seed < 2**63 for seed in given):
        raise ConfigError(f"{name}: expected a list of whole numbers from 0, or {{ start = 0, end = 50, step = 1 }}")
    return tuple(dict.fromkeys(given))


def _is_range(given: Mapping[str, Any]) -> bool:
    return set(given) <= {"start", "end", "step"}


def _range(name: str, given: Mapping[str, Any]) -> range:
    start, end, step = (given.get(key, default) for key, default in (("start", 0), ("end", -1), ("step", 1)))
    whole = all(type(value) is int and 0 <= value < 2**63 for value in (start, end, step))
    if not _is_range(given) or not whole or not step:
        raise ConfigError(f"{name}: a range is {{ start = 0, end = 50, step = 1 }}, the end left out")
    return range(start, end, step)
