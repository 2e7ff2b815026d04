"""What DSPy's MIPROv2 calls, so that its settings can be chosen to fit a number of task calls. Numbers in and out.

Its search evaluates the starting program on all validation rows, then each trial on a minibatch; after every fifth
trial and after the last it evaluates, on all rows, the best combination that it has not yet evaluated so. With 50
validation rows or fewer there are no minibatches. Its cache, on as it comes, answers a request that was sent before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MINIBATCH = 35
NO_MINIBATCH = 50
FULL_EVERY = 5
BOOTSTRAPPED = 4
LEAST_CANDIDATES = 2
NO_LIMIT = 10**6
"""More trials than any search has."""
TEACHER_ACCURACY = 1 / 3
"""How often the teacher is taken to be right when the number of candidates is chosen; the truth is known only later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`candidates`: demonstration sets, and instructions; `trials`: as many as are expected to fit."""

    candidates: int
    trials: int


def trial_calls(trials: int, val: int, *, done: int = 0) -> int:
    """The most task calls of `trials` trials on `val` rows, and of the full evaluations between and after them.

    A full evaluation repeats at least one minibatch of the same combination, which the cache answers. So it does the
    first `done` trials and the full evaluations between them, if they were made before.
    """
    if val <= NO_MINIBATCH:
        return (trials - done) * val
    full = math.ceil(trials / FULL_EVERY) - done // FULL_EVERY
    return (trials - done) * MINIBATCH + full * (val - MINIBATCH)


def most_trials(calls: int, val: int, *, done: int = 0) -> int:
    """The largest number of trials that takes at most `calls` task calls more than `done` trials; at least `done`."""
    trials = done
    while trial_calls(trials + 1, val, done=done) <= calls:
        trials += 1
    return trials


def advised_trials(candidates: int) -> int:
    """The number of trials that MIPROv2 advises for a program of one module with demonstrations."""
    return int(max(4 * math.log2(candidates), 1.5 * candidates))


def most_candidates(trials: int) -> int:
    """The most candidates for which `trials` are as many as advised; at least 2."""
    candidates = LEAST_CANDIDATES
    while advised_trials(candidates + 1) <= trials:
        candidates += 1
    return candidates


def bootstrap_calls(candidates: int, train: int, *, accuracy: float = TEACHER_ACCURACY) -> int:
    """Task calls expected for bootstrapping `candidates` demonstration sets with a teacher of that accuracy.

    The first two sets need none, the third takes 4 right answers, and each of the rest 1 to 4, evenly; a set looks at
    each training row once at most.
    """
    sizes = [float(BOOTSTRAPPED)] * (candidates > 2) + [(1 + BOOTSTRAPPED) / 2] * max(0, candidates - 3)
    return math.ceil(sum(min(size / accuracy, train) for size in sizes))


def plan(calls: int, *, train: int, val: int, most: int = NO_LIMIT) -> Plan:
    """The most candidates whose bootstrapping and advised number of trials are expected to fit into `calls` task calls,
    which are those left after the evaluation of the starting program, and into `most` trials.

    Raises ValueError when not even one trial fits.
    """
    best = Plan(candidates=LEAST_CANDIDATES, trials=min(most, most_trials(calls, val)))
    if not best.trials:
        raise ValueError(
            f"the evaluation of the starting prompt leaves {max(0, calls)} calls, and one trial on {val} validation "
            f"rows takes {trial_calls(1, val)}: raise the cap or take fewer validation rows"
        )
    for candidates in range(LEAST_CANDIDATES + 1, most_candidates(best.trials) + 1):
        trials = min(most, most_trials(calls - bootstrap_calls(candidates, train), val))
        if trials < advised_trials(candidates):
            break
        best = Plan(candidates=candidates, trials=trials)
    return best
