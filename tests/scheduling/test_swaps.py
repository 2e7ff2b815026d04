"""Controlled swaps: pairs, decisions, and what is left of old evidence."""

from __future__ import annotations

from random import Random

import pytest

from rollouts.prompt_optimization.scheduling import Allocation, Outcome, Share, Swaps, Trial
from rollouts.prompt_optimization.scheduling.gains import Gains, chance, expected_gain
from rollouts.prompt_optimization.scheduling.swaps import still_true


def plan(module: str, trials: int, samples: int = 8, work: str = "new") -> Allocation:
    return Allocation(shares=(Share(module=module, work=work, trials=trials, samples=samples),))  # type: ignore[arg-type]


def swaps_of(count: int = 4, samples: int = 40) -> Swaps:
    swaps = Swaps(["a", "b"], samples, seed=3)
    for name in swaps.names:
        for _ in range(count):
            swaps.add(name)
    return swaps


def play(swaps: Swaps, trials: list[Trial], scores: dict[int, float], missing: bool = False) -> None:
    """`scores` by candidate of the swapped module; the incumbent has 0.5."""
    swapped = {trial.program: scores[trial.candidate] for trial in trials}
    for program, sample in swaps.cells(trials):
        swaps.record(program, sample, Outcome(score=swapped.get(program, 0.5), missing=missing))


def test_every_trial_has_its_part_of_every_class() -> None:
    classes = [0] * 30 + [1] * 10
    swaps = Swaps(["a"], 40, classes=classes, seed=3)
    swaps.add("a")
    for turn in range(5):
        (trial,) = swaps.trials(plan("a", 1, work="new" if turn == 0 else "old"))
        assert sum(classes[sample] for sample in trial.samples) == 2, "a quarter of eight"
        play(swaps, [trial], {1: 0.5})


def test_a_swap_changes_one_module_and_compares_on_the_same_samples() -> None:
    swaps = swaps_of()
    trials = swaps.trials(plan("b", 3))
    assert [trial.program for trial in trials] == [(0, 1), (0, 2), (0, 3)]
    assert {trial.incumbent for trial in trials} == {(0, 0)}
    assert len({trial.samples for trial in trials}) == 1, "all of a round share the incumbent's scores"
    assert len(swaps.cells(trials)) == 4 * 8
    play(swaps, trials, {1: 0.0, 2: 0.5, 3: 1.0})
    assert [result.mean for result in swaps.results(trials)] == [-0.5, 0.0, 0.5]


def test_rounds_use_different_samples_and_no_pair_is_asked_for_twice() -> None:
    swaps, seen = swaps_of(), []
    for _ in range(3):
        trials = swaps.trials(plan("a", 1, work="new"))
        play(swaps, trials, {1: 0.6, 2: 0.6, 3: 0.6})
        swaps.results(trials)
        seen.append(trials[0].samples)
    assert len({sample for samples in seen for sample in samples}) == 24
    again = swaps.trials(plan("a", 3, work="more"))
    for trial in again:
        first = seen[trial.candidate - 1]
        assert not set(first) & set(trial.samples)


def test_a_better_candidate_is_taken_and_a_worse_one_ruled_out() -> None:
    swaps = swaps_of()
    for work in ("new", "more", "more"):
        trials = swaps.trials(plan("a", 4, work=work))
        play(swaps, trials, {1: 0.0, 2: 0.5, 3: 1.0, 4: 0.4})
        swaps.results(trials)
        if adopted := swaps.adopt():
            assert [(found.module, found.candidate) for found in adopted] == [("a", 3)]
            break
    assert swaps.incumbent == (3, 0)
    assert 1 not in swaps.undecided("a")


def test_failed_rollouts_are_no_scores_and_missing_ones_wait() -> None:
    swaps = swaps_of()
    trials = swaps.trials(plan("a", 2))
    for program, sample in swaps.cells(trials):
        failed = program == trials[0].program
        swaps.record(program, sample, Outcome(score=None if failed else 0.5, missing=program == trials[1].program))
    results = swaps.results(trials)
    assert [(result.candidate, result.differences, result.failed) for result in results] == [(1, (), 8)]
    assert swaps.untried("a")[0] == 2, "it was not tried after all"
    assert swaps.adopt() == []


def test_all_zero_scores_take_nothing() -> None:
    swaps = swaps_of()
    for work in ("new", "more", "more", "more"):
        trials = swaps.trials(plan("a", 4, work=work))
        for program, sample in swaps.cells(trials):
            swaps.record(program, sample, Outcome(score=0.0))
        swaps.results(trials)
        assert swaps.adopt() == []


def test_own_scores_break_ties() -> None:
    swaps = swaps_of()
    for work in ("new", "more"):
        trials = swaps.trials(plan("a", 2, samples=16, work=work))
        for program, sample in swaps.cells(trials):
            swaps.record(program, sample, Outcome(score=0.0, own={"a": float(program == (2, 0))}))
        swaps.results(trials)
        if adopted := swaps.adopt():
            break
    assert [found.candidate for found in adopted] == [2]


@pytest.mark.parametrize(
    ("score", "gain", "left"), [(0.5, 0.0, 1.0), (0.5, 0.5, 0.25), (0.0, 0.3, 0.0), (0.4, -1, 1.0)]
)
def test_old_trials_count_for_less_when_the_program_has_changed(score: float, gain: float, left: float) -> None:
    assert still_true(score, gain) == pytest.approx(left)


def test_what_was_learnt_of_others_is_discounted_after_a_gain() -> None:
    swaps = swaps_of(samples=400)
    trials = swaps.trials(plan("b", 2))
    play(swaps, trials, {1: 0.0, 2: 0.5})
    swaps.results(trials)
    before = swaps.gains("b").posterior().gap(1, 0)
    trials = swaps.trials(plan("a", 1, samples=80))
    play(swaps, trials, {1: 1.0})
    swaps.results(trials)
    assert swaps.adopt()
    after = swaps.gains("b").posterior().gap(1, 0)
    assert after[1] > before[1]
    assert abs(after[0]) < abs(before[0])


def test_leaders_are_the_likely_gains_together_then_the_incumbents() -> None:
    swaps = swaps_of()
    for name in ("a", "b"):
        trials = swaps.trials(plan(name, 2))
        play(swaps, trials, {1: 0.8, 2: 0.1})
        swaps.results(trials)
    assert swaps.leaders(2) == [(1, 1), (0, 0)]
    assert set(swaps.leaders(4)[2:]) == {(1, 0), (0, 1)}


# ── modules that do not run on every sample ──


def routed(expert: int = 5, samples: int = 40) -> Swaps:
    """`a` runs everywhere, `b` on every `expert`-th sample; the start was run on all of them."""
    swaps = swaps_of(samples=samples)
    for sample in range(samples):
        swaps.record((0, 0), sample, outcome_of(sample, expert))
    return swaps


def outcome_of(sample: int, expert: int, own: float = 0.0) -> Outcome:
    runs = sample % expert == 0
    return Outcome(
        score=0.5, own={"a": 1.0, "b": own} if runs else {"a": 1.0}, ran=frozenset("ab") if runs else frozenset("a")
    )


@pytest.mark.parametrize("work", ["new", "more"])
def test_a_routed_modules_trials_are_on_its_own_samples(work: str) -> None:
    swaps = routed()
    if work == "more":
        for trial in swaps.trials(plan("b", 2, samples=3)):
            swaps.record(trial.program, trial.samples[0], Outcome(score=0.5))
            swaps.results([trial])
    trials = swaps.trials(plan("b", 2, samples=3, work=work))
    assert len(trials) == 2
    for trial in trials:
        assert len(trial.samples) == 3
        assert all(sample % 5 == 0 for sample in trial.samples)
        assert all(sample % 5 for sample in trial.idle)
    (everywhere,) = swaps.trials(plan("a", 1))
    assert everywhere.idle == ()


def test_samples_without_the_module_count_as_no_difference_and_cost_nothing() -> None:
    swaps = routed()
    (trial,) = swaps.trials(plan("b", 1, samples=8))
    assert len(trial.samples) == 8
    assert swaps.cells([trial]) == [(trial.program, sample) for sample in trial.samples]
    for sample in trial.samples:
        swaps.record(trial.program, sample, Outcome(score=1.0))
    (result,) = swaps.results([trial])
    assert result.mean == pytest.approx(0.5 * 8 / (8 + len(trial.idle))), "the effect on the program's mean"
    assert swaps.state("b").undecided == 0, "it has nothing left to show"


def test_a_module_that_runs_nowhere_takes_no_trials_until_it_does() -> None:
    swaps = routed(expert=1000, samples=40)
    swaps.record((0, 0), 0, outcome_of(1, 1000))
    assert swaps.state("b").most == 0
    assert swaps.state("a").most == 4
    swaps.record((0, 0), 7, outcome_of(0, 1000))
    assert swaps.state("b").most == 4


def test_the_ceiling_is_what_a_module_lacks_where_it_runs() -> None:
    swaps = routed(samples=400)
    router, expert = swaps.state("a").ceiling, swaps.state("b").ceiling
    assert router is not None
    assert expert is not None
    assert router < 0.01
    assert expert == pytest.approx(1.25 * 0.2, rel=0.02)
    assert Swaps(["a"], 10).state("a").ceiling is None


def test_a_new_version_is_judged_by_its_own_scores_and_the_others_keep_theirs() -> None:
    swaps = routed(samples=200)
    trials = swaps.trials(plan("b", 1, samples=30))
    for sample in trials[0].samples:
        swaps.record(trials[0].program, sample, Outcome(score=1.0, own={"a": 1.0, "b": 1.0}, ran=frozenset("ab")))
    swaps.results(trials)
    assert [found.candidate for found in swaps.adopt()] == [1]
    assert swaps.own_scores("b") == [1.0] * 30
    assert swaps.own_scores("a") == [1.0] * 200
    assert swaps.state("b").ceiling < 0.02  # type: ignore[operator]


# ── the model of gains ──


def test_the_posterior_finds_effects_through_changing_incumbents() -> None:
    rng, gains = Random(0), Gains(10_000)
    effects = {0: 0.0, 1: 0.1, 2: -0.2, 3: 0.2, 4: 0.05}
    for candidate, against in ((1, 0), (2, 0), (3, 1), (4, 1), (4, 3)):
        gap = effects[candidate] - effects[against]
        gains.learn(candidate, against, [rng.gauss(gap, 0.3) for _ in range(400)])
    posterior = gains.posterior()
    for candidate, effect in effects.items():
        mean, sd = posterior.gap(candidate, 0) if candidate else (0.0, 1.0)
        assert abs(mean - effect) < 4 * sd
    assert chance(posterior.gap(3, 1)) > 0.95


def test_more_trials_narrow_and_nothing_learnt_is_the_prior() -> None:
    gains = Gains(1000)
    gains.learn(1, 0, [0.0, 1.0] * 4)
    few = gains.posterior().gap(1, 0)
    gains.learn(1, 0, [0.0, 1.0] * 40)
    many = gains.posterior().gap(1, 0)
    assert few[1] > 2 * many[1]
    assert Gains(1000).posterior().gap(1, 0) == Gains(1000).posterior().gap(None, 0)
    assert gains.posterior().gap(7, 0) == gains.posterior().gap(None, 0)


def test_a_trials_worth_falls_with_what_is_known_and_what_is_hopeless() -> None:
    assert expected_gain((0.0, 0.1), 0.2, 16) > expected_gain((-0.2, 0.1), 0.2, 16) > 0
    assert expected_gain((0.0, 0.1), 0.2, 16) > expected_gain((0.0, 0.02), 0.2, 16)
    assert expected_gain((0.0, 0.1), 0.2, 64) > expected_gain((0.0, 0.1), 0.2, 16)
