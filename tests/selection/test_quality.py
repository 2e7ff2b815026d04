"""A selector that learns finds better candidates than chance does, on made-up and on real outcomes."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from statistics import mean

import pytest

from rollouts.prompt_optimization.selection import Candidate, Space

from .tables import all_candidates, coin, factor_chance, play, selector

TABLES = Path(__file__).resolve().parents[2] / ".." / "shared" / "prompt_tables"


def regret(name: str, seed: int, levels: tuple[int, ...], *, trials: int = 30, minibatch: int = 10) -> float:
    """How much worse than the best the recommended candidate truly is."""
    chance = factor_chance(seed, levels)
    where = Space(levels=levels, samples=200, start=(0,) * len(levels))
    chooser = selector(name, where, seed=seed, trials=trials, minibatch=minibatch)
    play(chooser, coin(seed, chance), ahead=2)
    return max(map(chance, all_candidates(levels))) - chance(chooser.recommend().candidate)


@pytest.mark.parametrize("levels", [(20, 20), (6, 6, 6)])
def test_tpe_learns_strong_effects(levels: tuple[int, ...]) -> None:
    seeds = range(20)
    by_chance = mean(regret("random", seed, levels) for seed in seeds)
    learnt = mean(regret("tpe", seed, levels) for seed in seeds)
    assert learnt < 0.8 * by_chance, (learnt, by_chance)


@pytest.mark.shared
@pytest.mark.skipif(not TABLES.exists(), reason="needs the prompt tables beside the checkout")
@pytest.mark.parametrize("table", ["sst2", "clinc15", "banking12"])
def test_tpe_is_no_worse_than_chance_on_real_outcomes(table: str) -> None:
    data = json.loads(gzip.decompress((TABLES / f"{table}.json.gz").read_bytes()))
    correct: list[list[str]] = data["correct"]
    levels = (len(correct), len(correct[0]))
    held_out = list(range(160, 320))

    def truth(candidate: Candidate) -> float:
        bits = correct[candidate[0]][candidate[1]]
        return mean(int(bits[i]) for i in held_out)

    def score(candidate: Candidate, sample: int) -> float:
        return float(correct[candidate[0]][candidate[1]][order[sample]])

    best = max(map(truth, all_candidates(levels)))
    regrets: dict[str, list[float]] = {"random": [], "tpe": []}
    for seed in range(12):
        order = random.Random(seed).sample(range(160), 160)
        for name, out in regrets.items():
            where = Space(levels=levels, samples=160, start=(0, 0))
            chooser = selector(name, where, seed=seed, trials=40, minibatch=20)
            play(chooser, score, ahead=2)
            out.append(best - truth(chooser.recommend().candidate))
    assert mean(regrets["tpe"]) <= mean(regrets["random"]) + 0.005, regrets
