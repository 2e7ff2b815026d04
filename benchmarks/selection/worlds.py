"""What selectors are replayed on: tables of real outcomes, and made-up ones."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Candidate = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Candidates, examples and the outcome of every cell. `value` is a candidate's mean score, `best` the highest;
    `classes` are the examples' labels as numbers, where they have labels."""

    name: str
    levels: tuple[int, ...]
    samples: int
    score: Callable[[Candidate, int], float]
    value: Callable[[Candidate], float]
    best: float
    start: Candidate
    classes: tuple[int, ...] = ()


def tabulated(name: str, outcomes: Any, classes: tuple[int, ...] = ()) -> World:
    """A world from an array of scores (levels x ... x examples), and the examples' classes, if any."""
    means = outcomes.mean(axis=-1)
    return World(
        name=name,
        levels=outcomes.shape[:-1],
        samples=outcomes.shape[-1],
        score=lambda candidate, sample: float(outcomes[candidate][sample]),
        value=lambda candidate: float(means[candidate]),
        best=float(means.max()),
        start=(0,) * means.ndim,
        classes=classes,
    )


def load(directory: Path) -> dict[str, Callable[[], World]]:
    """The tables of a directory by name (NAME.json.gz with `correct`: I x S strings of 0 and 1; and, where they
    have labels, `examples`: the text and label of each)."""

    def read(path: Path) -> World:
        data = json.loads(gzip.decompress(path.read_bytes()))
        outcomes = [[[int(bit) for bit in cells] for cells in row] for row in data["correct"]]
        labels = [label for _, label in data.get("examples", ())]
        numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
        classes = tuple(numbers[label] for label in labels)
        return tabulated(path.name.removesuffix(".json.gz"), np.array(outcomes, dtype=np.uint8), classes)

    return {p.name.removesuffix(".json.gz"): lambda p=p: read(p) for p in sorted(directory.glob("*.json.gz"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Logits of a made-up table, as standard deviations.

    effects: of each factor's levels. own: of candidates (normal, or heavy-tailed). difficulty: of examples.
    level_quirks, quirk: of level x example (by factor) and of candidate x example. With `spread`, the quirks of a level
    have a size of their own; `graded` scores are between 0 and 1.
    """

    levels: tuple[int, ...] = (32, 32)
    samples: int = 320
    effects: tuple[float, ...]
    own: float
    centre: float = 1.5
    heavy: bool = False
    difficulty: float = 2.0
    level_quirks: tuple[float, ...] = (0.0, 0.0)
    quirk: float = 0.7
    spread: float = 0.0
    graded: bool = False


FAMILIES = {
    "syn-additive": Family(effects=(0.42, 0.42), own=0.2),
    "syn-instructions": Family(effects=(0.6, 0.12), own=0.2, level_quirks=(0.8, 0.2)),
    "syn-interactions": Family(effects=(0.35, 0.35), own=0.35, centre=2.5),
    "syn-pure": Family(effects=(0.0, 0.0), own=0.6),
    "syn-outliers": Family(effects=(0.1, 0.5), own=0.25, centre=0.0, heavy=True, level_quirks=(0.2, 1.2)),
    "syn-heteroscedastic": Family(effects=(0.3, 0.3), own=0.3, level_quirks=(0.7, 0.7), spread=1.0),
    "syn-graded": Family(effects=(0.3, 0.4), own=0.2, level_quirks=(0.3, 1.0), graded=True),
    "syn-1-factor": Family(levels=(200,), effects=(0.5,), own=0.0, level_quirks=(0.5,)),
    "syn-4-factors": Family(
        levels=(6, 6, 6, 6), effects=(0.4, 0.4, 0.15, 0.1), own=0.2, centre=0.5, level_quirks=(0.5, 0.8, 0.3, 0.3)
    ),
}


def made_up(name: str, seed: int = 0) -> World:
    """A table of that family."""
    family = FAMILIES[name]
    rng = np.random.default_rng([seed, *name.encode()])
    shape, samples = family.levels, family.samples
    draws = rng.standard_t(3, shape) / math.sqrt(3) if family.heavy else rng.standard_normal(shape)
    logits = np.asarray(family.centre + family.own * draws)[..., None] + np.zeros(samples)
    for factor, (levels, effect) in enumerate(zip(shape, family.effects, strict=True)):
        across = [1] * len(shape)
        across[factor] = levels
        logits = logits + (effect * rng.standard_normal(levels)).reshape(*across, 1)
        size = family.level_quirks[factor] * np.exp(family.spread * rng.standard_normal(levels))
        logits = logits + (size[:, None] * rng.standard_normal((levels, samples))).reshape(*across, samples)
    discrimination = np.exp(0.3 * rng.standard_normal(samples))
    logits = discrimination * (logits + family.difficulty * rng.standard_normal(samples))
    chance = 1 / (1 + np.exp(-(logits + family.quirk * rng.standard_normal(logits.shape))))
    if family.graded:
        return tabulated(name, rng.beta(4 * chance, 4 * (1 - chance)))
    return tabulated(name, (rng.random(chance.shape) < chance).astype(np.uint8))


def many_factors(seed: int = 0, *, factors: int = 16, levels: int = 5, samples: int = 320) -> World:
    """Eight modules with an instruction and a demo set each: too many candidates to write down.

    A candidate's value is its mean chance of success; the best is the best found by coordinate ascent from several
    candidates, the one of the best levels among them.
    """
    rng = np.random.default_rng([seed, 16])
    strength = np.array([0.4, 0.4, 0.2, 0.2] + [0.08] * (factors - 4))
    effect = strength[:, None] * rng.standard_normal((factors, levels))
    quirks = 2 * strength[:, None, None] * rng.standard_normal((factors, levels, samples))
    difficulty = 2 * rng.standard_normal(samples)
    index = np.arange(factors)

    def chances(candidate: Candidate) -> Any:
        chosen = np.array(candidate)
        return 1 / (1 + np.exp(-(effect[index, chosen].sum() + quirks[index, chosen].sum(axis=0) + difficulty)))

    def value(candidate: Candidate) -> float:
        return float(chances(candidate).mean())

    def climb(candidate: Candidate) -> Candidate:
        while True:
            near = [(*candidate[:f], n, *candidate[f + 1 :]) for f in range(factors) for n in range(levels)]
            top = max(near, key=value)
            if value(top) <= value(candidate) + 1e-12:
                return candidate
            candidate = top

    starts = [
        tuple(effect.argmax(axis=1).tolist()),
        *(tuple(rng.integers(levels, size=factors).tolist()) for _ in "123"),
    ]
    return World(
        name="syn-16-factors",
        levels=(levels,) * factors,
        samples=samples,
        score=lambda candidate, sample: float(
            np.random.default_rng([seed, sample, *candidate]).random() < chances(candidate)[sample]
        ),
        value=value,
        best=max(value(climb(candidate)) for candidate in starts),
        start=(0,) * factors,
    )


def synthetic() -> dict[str, Callable[[int], World]]:
    """All families by name: what makes a table of one from a seed."""
    return {**{name: partial(made_up, name) for name in FAMILIES}, "syn-16-factors": many_factors}
