"""MIPROv2's rule for comparison (Opsahl-Ong et al., arXiv 2406.11695, section 3.3, and what its implementation does).

Multivariate TPE proposes a candidate per trial, which is scored on a random minibatch. After every five trials, the
candidate with the best mean of minibatches that was not yet evaluated in full is evaluated on everything. The start is
evaluated first. The best of the full evaluations is recommended. A cell that comes up again is answered by the cache:
it is no call.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from benchmarks.selection.worlds import Candidate, World

MINIBATCH, FULL_EVERY = 35, 5


def course(world: World, seed: int) -> Iterator[tuple[int, Candidate]]:
    """Calls so far and the recommendation, after every step that may change it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    choices = {f"f{i}": CategoricalDistribution(list(range(n))) for i, n in enumerate(world.levels)}
    rng = random.Random(seed)
    everything = range(world.samples)
    seen: dict[Candidate, set[int]] = {}
    batches: dict[Candidate, list[float]] = {}
    full: dict[Candidate, float] = {}
    calls = 0

    def pay(candidate: Candidate, samples: list[int] | range) -> float:
        nonlocal calls
        known = seen.setdefault(candidate, set())
        calls += len(set(samples) - known)
        known.update(samples)
        return sum(world.score(candidate, sample) for sample in samples) / len(samples)

    def evaluate_in_full(candidate: Candidate) -> None:
        full[candidate] = pay(candidate, everything)
        params = {f"f{i}": level for i, level in enumerate(candidate)}
        study.add_trial(create_trial(params=params, distributions=choices, value=full[candidate]))

    yield calls, world.start
    evaluate_in_full(world.start)
    yield calls, world.start
    number = 0
    while True:
        number += 1
        trial = study.ask(choices)
        candidate = tuple(int(trial.params[f"f{i}"]) for i in range(len(world.levels)))
        mean = pay(candidate, rng.sample(everything, min(MINIBATCH, world.samples)))
        study.tell(trial, mean)
        batches.setdefault(candidate, []).append(mean)
        rest = {c: sum(means) / len(means) for c, means in batches.items() if c not in full}
        if number % FULL_EVERY == 0 and rest:
            evaluate_in_full(max(rest, key=lambda c: rest[c]))
        yield calls, max(full, key=lambda c: full[c])
