"""What only the race promises: scores of any range, a rule for stopping, estimates that fit the data."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import product
from statistics import mean

import numpy as np
import pytest

from rollouts.prompt_optimization.selection import Candidate, Cell, Result
from rollouts.prompt_optimization.selection.cells import CellLog
from rollouts.prompt_optimization.selection.model import FactorModel

from .tables import all_candidates, coin, factor_chance, play, selector, space


def test_the_unit_of_the_scores_changes_nothing() -> None:
    def run(low: float, high: float) -> tuple[list[Cell], float]:
        score = coin(3, factor_chance(3, (5, 5)))
        chooser = selector("racing", space(5, 5, samples=30), budget=400, low=low, high=high)
        cells = play(chooser, lambda c, s: low + (high - low) * (score(c, s) or 0.0), batch=16).cells
        return cells, (chooser.recommend().estimate - low) / (high - low)

    cells, estimate = run(0.0, 1.0)
    for low, high in ((-4.0, 4.0), (0.0, 128.0)):
        same, scaled = run(low, high)
        assert same == cells
        assert scaled == pytest.approx(estimate)


def test_calls_go_to_the_good_ones() -> None:
    chance = factor_chance(5, (12, 12))
    chooser = selector("racing", space(12, 12, samples=200), budget=2000)
    played = play(chooser, coin(5, chance), batch=32)
    best = sorted(all_candidates((12, 12)), key=chance)[-14:]
    assert sum(cell.candidate in best for cell in played.cells) > 0.4 * len(played.cells)


@pytest.mark.parametrize("together", [2, 4])
def test_cells_of_a_candidate_come_together(together: int) -> None:
    chooser = selector("racing", space(8, 8, samples=200), budget=600, together=together)
    played = play(chooser, coin(5, factor_chance(5, (8, 8))), batch=8)
    first = Counter(cell.candidate for cells in played.rounds[:3] for cell in cells)
    assert set(first.values()) == {1}  # the start is a look at as many as possible
    for cells in played.rounds[4:]:
        counts = Counter(cell.candidate for cell in cells).values()
        assert sum(n < together for n in counts) <= 1  # what is left of the room


def test_it_stops_when_nothing_can_be_much_better_and_says_so() -> None:
    chooser = selector("racing", space(3, 3, samples=400), budget=3600, epsilon=0.1)
    played = play(chooser, lambda c, s: float(c == (2, 1)), batch=32)
    assert len(played.cells) < 1800
    assert chooser.recommend().candidate == (2, 1)
    assert "within 0.1 of the best" in chooser.why_stopped()
    assert f"{3600 - len(played.cells)} calls saved" in chooser.why_stopped()


@pytest.mark.parametrize("epsilon", [None, 0.001])
def test_it_does_not_stop_while_the_best_is_open(epsilon: float | None) -> None:
    chooser = selector("racing", space(10, 10, samples=100), budget=600, epsilon=epsilon)
    assert len(play(chooser, coin(1, lambda c: 0.5), batch=32).cells) == 600
    assert chooser.why_stopped() == ""


def test_one_candidate_is_within_any_epsilon_of_the_best() -> None:
    chooser = selector("racing", space(1, samples=400), budget=400, epsilon=0.0)
    assert len(play(chooser, coin(1, lambda c: 0.5), batch=32).cells) == 128


def test_what_is_barred_on_the_way_is_neither_recommended_nor_a_reason_to_stop() -> None:
    barred: set[Candidate] = set()

    def worth(candidate: Candidate) -> float:
        return 0.95 if candidate == (7, 7) else 0.62 if candidate == (5, 5) else 0.45

    chooser = selector("racing", space(8, 8, samples=400, feasible=lambda c: c not in barred), budget=3000)
    score, stars = coin(2, worth), 0
    while not chooser.should_stop() and (cells := chooser.ask(16)):
        chooser.tell([Result(c, score(c.candidate, c.sample)) for c in cells])
        stars += sum(c.candidate == (7, 7) for c in cells)
        if stars >= 40:
            barred.add((7, 7))
    assert barred
    assert chooser.recommend().candidate == (5, 5)
    assert chooser.ranking()[-1].candidate == (7, 7)


def test_a_candidate_that_joins_opens_a_stopped_race_again() -> None:
    chooser = selector("racing", space(3, 3, samples=400), budget=3600, epsilon=0.1)
    play(chooser, lambda c, s: float(c == (2, 1)), batch=32)
    assert chooser.should_stop()
    chooser.add_level(0)
    assert not chooser.should_stop()


@pytest.mark.parametrize(("zero", "unit"), [(0.0, 10.0), (0.0, 100.0), (0.0, 0.1), (0.7, 0.1), (-3.0, 2.0)])
def test_a_unit_that_was_not_told_decides_nothing(zero: float, unit: float) -> None:
    def asked(zero: float, unit: float) -> tuple[list[Cell], Candidate]:
        score = coin(3, factor_chance(3, (8, 8)))
        chooser = selector("racing", space(8, 8, samples=60), budget=500, epsilon=0.03 * unit)
        played = play(chooser, lambda c, s: zero + unit * (score(c, s) or 0.0), batch=16)
        return played.cells, chooser.recommend().candidate

    assert asked(zero, unit) == asked(0.0, 1.0)


@pytest.mark.parametrize(("least", "most"), [(-1.0, 0.0), (-100.0, 0.0), (5.0, 10.0)])
def test_wherever_the_scores_lie_the_race_ends_at_one_as_good(least: float, most: float) -> None:
    regrets: dict[bool, list[float]] = {True: [], False: []}
    for seed, told in product(range(6), (True, False)):
        chance = factor_chance(seed, (8, 8))
        score = coin(seed, chance)
        known = {"low": least, "high": most} if told else {}
        chooser = selector("racing", space(8, 8, samples=60), budget=500, epsilon=None, seed=seed, **known)
        play(chooser, lambda c, s, score=score: least + (most - least) * (score(c, s) or 0.0), batch=16)
        best = max(chance(candidate) for candidate in product(range(8), range(8)))
        regrets[told].append(best - chance(chooser.recommend().candidate))
    assert sum(regrets[False]) <= sum(regrets[True]) + 0.06


def test_scores_below_the_range_reach_no_target() -> None:
    chooser = selector("racing", space(4, 4, samples=100), budget=400, target=-1.0, epsilon=None)
    play(chooser, lambda c, s: -10.0 + 5 * (coin(1, lambda c: 0.5)(c, s) or 0.0), batch=16)
    assert chooser.why_stopped() == ""
    entry = chooser.recommend()
    assert -10 <= entry.low <= entry.estimate <= entry.high <= 1


@pytest.mark.parametrize("seed", range(3))
def test_results_told_at_once_say_what_results_told_in_rounds_say(seed: int) -> None:
    """The model is fitted sweep by sweep; a bulk of scores must not be left half understood."""
    score = coin(seed, factor_chance(seed, (12, 12)))
    chooser = selector("racing", space(12, 12, samples=200), budget=1200)
    cells = play(chooser, score, batch=32).cells
    again = selector("racing", space(12, 12, samples=200), budget=1200)
    again.record([Result(cell, score(cell.candidate, cell.sample)) for cell in cells])
    there = {entry.candidate: entry.estimate for entry in again.ranking()}
    assert mean(abs(entry.estimate - there[entry.candidate]) for entry in chooser.ranking()) < 0.06


def test_a_level_is_expected_between_the_one_that_it_was_made_from_and_the_average() -> None:
    model = FactorModel((2, 3), 20)
    grid = np.array(all_candidates((2, 3)))
    rows, samples = (part.ravel() for part in np.meshgrid(np.arange(6), np.arange(20)))
    scores = np.array([float(grid[row, 1] == 2) for row in rows])
    for _ in range(5):
        model.fit(grid, rows, samples, scores)
    model.add_level(1)
    model.add_level(1, like=2)
    assert model.factors[1].b[4] == pytest.approx(model.factors[1].b[2] / 2)
    for known in (model, model.anew()):
        grid = np.array(all_candidates((2, 5)))
        asked = np.array([int(np.flatnonzero((grid == cell).all(axis=1))[0]) for cell in all_candidates((2, 3))])
        for _ in range(5):
            known.fit(grid, asked[rows], samples, scores)
        own, average = known.factors[1].b[[2, 3]]
        assert average == pytest.approx(0.0)
        assert known.factors[1].b[4] == pytest.approx(own / 2, rel=0.05)
        assert known.theta[list(map(tuple, grid)).index((0, 4))] > known.theta[list(map(tuple, grid)).index((0, 3))]


def test_a_stop_is_mostly_right() -> None:
    stopped = right = 0
    for seed in range(14):
        rng = random.Random(seed)
        worth = {c: 0.5 + 0.1 * rng.gauss(0, 1) for c in all_candidates((4, 4))}
        score = coin(seed, lambda c, worth=worth: worth[c])
        chooser = selector("racing", space(4, 4, samples=200), budget=3200, epsilon=0.05, seed=seed)
        play(chooser, score, batch=32)
        if chooser.why_stopped():
            means = {c: mean(score(c, s) or 0.0 for s in range(200)) for c in worth}
            stopped += 1
            right += means[chooser.recommend().candidate] >= max(means.values()) - 0.05
    assert stopped >= 7
    assert right >= 0.9 * stopped


def test_a_candidate_seen_on_all_samples_has_its_plain_mean() -> None:
    chooser = selector("racing", space(3, 2, samples=8), budget=60)
    rng = random.Random(2)
    values = [rng.random() for _ in range(8)]
    chooser.record([Result(Cell((1, 1), s), value) for s, value in enumerate(values)])
    play(chooser, coin(2, lambda c: 0.2), batch=5)
    entry = next(r for r in chooser.ranking() if r.candidate == (1, 1))
    assert entry.estimate == entry.mean == entry.low == entry.high == pytest.approx(mean(values))


def test_intervals_hold_most_of_the_truth() -> None:
    """Over all tried candidates of several worlds; 95 % of them if the model were true."""
    inside = total = 0
    for seed in range(4):
        chance = factor_chance(seed, (10, 10))
        chooser = selector("racing", space(10, 10, samples=100), budget=800, seed=seed)
        score = coin(seed, chance)
        play(chooser, score, batch=32)
        for entry in chooser.ranking():
            truth = mean(score(entry.candidate, s) or 0.0 for s in range(100))
            inside += entry.low - 1e-9 <= truth <= entry.high + 1e-9
            total += 1
    assert inside / total > 0.75


def test_a_shared_level_is_less_evidence_than_another_sample() -> None:
    """Two candidates of one level that agree on one sample must not make the level as certain as two samples do."""

    def spread(cells: list[tuple[int, int]]) -> float:
        grid = np.array([[0, 0], [0, 1]])
        model = FactorModel((1, 2), 50)
        log = CellLog()
        for row, sample in cells:
            log.open(row, sample)
            log.fill(row, sample, 1.0)
        model.fit(grid, *log.scored())
        return math.sqrt(model.factors[0].vb[0])

    assert spread([(0, 0), (1, 1)]) < spread([(0, 0), (1, 0)])


def test_a_space_too_large_to_write_down_is_searched_by_its_levels() -> None:
    levels = (12,) * 5
    found, at_random = [], []
    for seed in range(3):
        chance = factor_chance(seed, levels)
        chooser = selector("racing", space(*levels, samples=400), budget=1500, seed=seed)
        play(chooser, coin(seed, chance), batch=32)
        rng = random.Random(seed)
        drawn = sorted(chance(tuple(rng.randrange(12) for _ in levels)) for _ in range(1000))
        found.append(chance(chooser.recommend().candidate))
        at_random.append(drawn[-50])
    assert mean(found) > mean(at_random)


def test_many_candidates_may_join_a_single_factor() -> None:
    """How new candidates come in one by one: the best joins last and is found."""
    chooser = selector("racing", space(1, samples=60), budget=1200)
    score = coin(9, lambda c: 0.2 + 0.6 * c[0] / 20)
    for _ in range(20):
        cells = chooser.ask(20)
        chooser.tell([Result(c, score(c.candidate, c.sample)) for c in cells])
        chooser.add_level(0)
    play(chooser, score, batch=20)
    assert chooser.recommend().candidate[0] >= 17
