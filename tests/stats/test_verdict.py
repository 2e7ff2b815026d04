"""The verdict: how often it errs, how often it finds a real gain, extremes, and what it says."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from rollouts.errors import ConfigError
from rollouts.stats import Verdict, verdict


def judge(before: object, after: object, **settings: object) -> Verdict:
    """Verdict on two lists of scores of the same samples."""
    named = [{f"s{i}": float(score) for i, score in enumerate(scores)} for scores in (before, after)]  # type: ignore[call-overload]
    return verdict(*named, **settings)  # type: ignore[arg-type]


def ship_share(rng: np.random.Generator, runs: int, n: int, cells: list[float]) -> float:
    """How often a 0/1 comparison ships; `cells` are the chances of (win, loss, both right, both wrong)."""
    shipped = 0
    for _ in range(runs):
        cell = rng.choice(4, n, p=cells)
        before, after = (cell == 1) | (cell == 2), (cell == 0) | (cell == 2)
        shipped += judge(before, after).decision == "ship"
    return shipped / runs


@pytest.mark.parametrize("n", [20, 60, 150, 300])
@pytest.mark.parametrize("unequal", [0.04, 0.3])
def test_an_equal_prompt_ships_in_at_most_3_percent(n: int, unequal: float) -> None:
    rng = np.random.default_rng(n)
    rest = 1 - unequal
    assert ship_share(rng, 2000, n, [unequal / 2, unequal / 2, 0.6 * rest, 0.4 * rest]) <= 0.03


@pytest.mark.parametrize(
    "n",
    [
        20,
        pytest.param(60, marks=pytest.mark.slow),
        pytest.param(150, marks=pytest.mark.slow),
        pytest.param(300, marks=pytest.mark.slow),
    ],
)
def test_an_equal_prompt_with_graded_scores_ships_in_at_most_3_percent(n: int) -> None:
    rng = np.random.default_rng(1000 + n)
    shipped = 0
    for _ in range(2000):
        hard = rng.random(n)
        before, after = (np.clip(hard + rng.normal(0, 0.15, n) * (rng.random(n) < 0.5), 0, 1) for _ in range(2))
        shipped += judge(before, after).decision == "ship"
    assert shipped / 2000 <= 0.03


def of_counts(n: int, wins: int, losses: int) -> Verdict:
    return judge([0] * wins + [1] * (n - wins), [1] * wins + [0] * losses + [1] * (n - wins - losses))


@pytest.mark.parametrize("n", [6, 8, 16, 30])
def test_how_often_an_equal_prompt_ships_exactly(n: int) -> None:
    """Summed over all counts: at most 2.5 % where half of the samples agree, never more than 4 %."""
    given_unequal = np.zeros(n + 1)
    for unequal in range(n + 1):
        for wins in range(unequal // 2, unequal + 1):
            if of_counts(n, wins, unequal - wins).decision == "ship":
                given_unequal[unequal] += binom.pmf(wins, unequal, 0.5)
    for share in np.linspace(0.01, 1, 100):
        rate = float(np.sum(binom.pmf(np.arange(n + 1), n, share) * given_unequal))
        assert rate <= (0.025 if share <= 0.5 else 0.04)


@pytest.mark.parametrize(("val", "test"), [(35, 100), (100, 500)])
def test_the_best_of_50_equal_candidates_ships_in_less_than_5_percent(val: int, test: int) -> None:
    rng = np.random.default_rng(val)
    shipped, curse = 0, []
    for _ in range(2000):
        wins = rng.binomial(val, 0.6, 50)
        curse.append(wins.max() / val - 0.6)
        # The winner is one of them on samples that took no part in the choice: rows of all degrees of difficulty.
        level = rng.beta(1.5, 1, test)
        shipped += judge(rng.random(test) < level, rng.random(test) < level).decision == "ship"
    assert np.mean(curse) > 0.05
    assert shipped / 2000 < 0.03


def test_judged_on_the_rows_of_the_choice_the_best_of_50_ships_too_often() -> None:
    rng = np.random.default_rng(1)
    shipped = 0
    for _ in range(200):
        level = rng.beta(1.5, 1, 100)
        scores = rng.random((51, 100)) < level
        best = 1 + scores[1:].sum(axis=1).argmax()
        shipped += judge(scores[0], scores[best]).decision == "ship"
    assert shipped / 200 > 0.2


def test_five_points_at_500_samples_of_which_85_percent_agree_are_found() -> None:
    """Exactly, over the counts of wins and losses that hold nearly all of the probability."""
    found = 0.0
    for unequal in range(44, 108):
        for wins in range(unequal // 2, unequal + 1):
            chance = binom.pmf(unequal, 500, 0.15) * binom.pmf(wins, unequal, 2 / 3)
            if chance > 2e-5 and of_counts(500, wins, unequal - wins).decision == "ship":
                found += chance
    assert found >= 0.82


def test_ten_points_at_300_samples_are_found() -> None:
    assert ship_share(np.random.default_rng(0), 500, 300, [0.2, 0.1, 0.5, 0.2]) >= 0.8


def test_graded_gain_is_found() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        before = rng.beta(2, 2, 300)
        found += judge(before, np.clip(before + rng.normal(0.1, 0.4, 300), 0, 1)).decision == "ship"
    assert found >= 80


def test_a_worse_prompt_is_kept_away() -> None:
    found = judge([1] * 90 + [0] * 10, [1] * 60 + [0] * 40)
    assert found.decision == "keep"
    assert "the start is better" in found.reason
    assert found.difference.mean == pytest.approx(-0.3)


@pytest.mark.parametrize("level", [0, 1])
def test_all_alike_at_the_ends(level: int) -> None:
    found = judge([level] * 40, [level] * 40)
    assert (found.decision, found.p_value, found.n) == ("keep", 1.0, 40)
    assert "all 40 samples scored alike" in found.reason
    assert found.difference.low < 0 < found.difference.high


def test_few_alike_samples_stay_undecided() -> None:
    found = judge([1, 0] * 5, [1, 0] * 5)
    assert found.decision == "undecided"
    assert found.more_samples


def test_from_nothing_to_everything_ships() -> None:
    assert judge([0] * 12, [1] * 12).decision == "ship"
    assert judge([0] * 6, [1] * 6).decision == "ship"


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_few_samples(n: int) -> None:
    found = judge([0] * n, [1] * n)
    assert (found.decision, found.more_samples) == ("undecided", 6 - n)
    assert "fewer than 6" in found.reason


def test_stricter_confidence_needs_more_samples() -> None:
    assert judge([0] * 7, [1] * 7, confidence=0.99).decision == "undecided"
    assert judge([0] * 12, [1] * 12, confidence=0.99).decision == "ship"


def test_the_start_itself_is_kept_whatever_the_noise() -> None:
    found = judge([0] * 30, [1] * 30, same=True)
    assert found.decision == "keep"
    assert "nothing better" in found.reason


def test_a_small_gain_does_not_pass_a_wished_effect() -> None:
    before, after = [1] * 500 + [0] * 500, [1] * 540 + [0] * 460
    assert judge(before, after).decision == "ship"
    assert judge(before, after, min_effect=0.1).decision == "keep"
    assert judge(before, after, min_effect=0.04).decision == "undecided"


@pytest.mark.parametrize(
    ("right", "settings", "says"),
    [
        (540, {"min_effect": 0.1}, "the gain, if there is one, is too small to ship, 0.1 at most"),
        (505, {"min_effect": 0.1}, "the gain, if there is one, is too small to ship, 0.1 at most"),
        (500, {}, "the start is as good"),
        (460, {}, "the start is better"),
    ],
)
def test_a_start_that_is_kept_is_called_what_it_is(right: int, settings: dict[str, float], says: str) -> None:
    """As good where the interval holds 0 and no gain above the margin, better where it lies below 0."""
    noise = [1, 0] * 10 + [0, 1] * 10 if 500 < right < 540 else []
    before, after = [1] * 500 + [0] * 500 + noise, [1] * right + [0] * (1000 - right) + noise[::-1]
    found = judge(before, after, **settings)
    assert found.decision == "keep"
    assert found.reason.startswith(f"{says}")
    assert (found.difference.low <= 0 and found.difference.high <= 0.02) == ("as good" in says or "is better" in says)


def test_the_margin_says_what_is_not_worth_having() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(400)
    noise = rng.normal(0, 0.02, 400)
    after = before + noise - noise.mean() + 0.0005
    assert judge(before, after).decision == "keep"
    assert judge(before, after, margin=0.001).decision == "undecided"


def test_undecided_says_how_many_more() -> None:
    found = judge([1] * 30 + [0] * 30, [1] * 27 + [0] * 3 + [1] * 7 + [0] * 23)
    assert found.decision == "undecided"
    assert found.more_samples is not None
    assert 50 < found.more_samples < 1000
    assert f"about {found.more_samples} more samples" in found.reason


def test_the_promised_samples_settle_it_when_the_difference_stays() -> None:
    before, after = [1] * 3 + [0] * 7 + [1] * 50, [0] * 3 + [1] * 7 + [1] * 50
    found = judge(before, after)
    assert found.more_samples is not None
    times = 1 + math.ceil(found.more_samples / len(before))
    assert judge(before * times, after * times).decision == "ship"


def test_too_close_for_any_sensible_number() -> None:
    rng = np.random.default_rng(0)
    moved = rng.permutation([1] * 100 + [-1] * 100)
    before, after = (moved < 0), (moved > 0)
    found = judge(before, after, margin=0.0)
    assert (found.decision, found.more_samples) == ("undecided", None)
    assert "too close" in found.reason


def test_only_samples_scored_for_both_count() -> None:
    before = {f"s{i}": 0.0 for i in range(20)}
    after = {f"s{i}": 1.0 for i in range(5, 22)}
    found = verdict(before, after)
    assert (found.n, found.baseline.n, found.best.mean) == (15, 15, 1.0)
    assert "7 scores without a counterpart" in found.reason


@pytest.mark.parametrize(
    ("start_right", "lost", "decision"),
    [(40, 0, "ship"), (40, 2, "ship"), (40, 25, "undecided"), (50, 40, "keep")],
)
def test_a_winner_does_not_ship_by_failing_where_answers_are_hard(start_right: int, lost: int, decision: str) -> None:
    """It is right wherever it has an answer; on `lost` rows that the start got right it has none."""
    before = {f"s{i}": float(i < start_right) for i in range(70)}
    after = {f"s{i}": 1.0 for i in range(lost, 70)}
    found = verdict(before, after, failed=[f"s{i}" for i in range(lost)])
    assert (found.decision, found.failed, found.n) == (decision, lost, 70 - lost), found.reason
    assert verdict(before, after).decision == "ship", "what an outage left out is left out"
    assert ("failed on" in found.reason) == (lost > 0)
    assert Verdict.from_json(found.to_json()) == found
    same = verdict(before, before, failed=[f"s{i}" for i in range(lost)], same=True)
    assert (same.decision, same.failed) == ("keep", 0)


@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1, None])), max_size=40))
def test_a_failure_is_never_better_than_the_lowest_score(pairs: list[tuple[float, float | None]]) -> None:
    before = {f"s{i}": one for i, (one, _) in enumerate(pairs)}
    after = {f"s{i}": other for i, (_, other) in enumerate(pairs) if other is not None}
    failed = before.keys() - after.keys()
    if verdict(before, after, failed=failed).decision == "ship":
        assert verdict(before, {**after, **dict.fromkeys(failed, 0.0)}).decision == "ship"


@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1])), max_size=60))
def test_shipping_never_contradicts_interval_or_test(pairs: list[tuple[float, float]]) -> None:
    found = judge([a for a, _ in pairs], [b for _, b in pairs])
    if found.decision == "ship":
        assert found.difference.low > 0
        assert found.p_value < 0.05
        assert found.best.mean > found.baseline.mean
    if found.difference.high < 0 and found.n >= 6:
        assert found.decision == "keep"
    json.dumps(found.to_json(), allow_nan=False)


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_the_order_of_samples_does_not_matter(rows: dict[str, tuple[float, float]]) -> None:
    def over(names: list[str]) -> Verdict:
        return verdict({name: rows[name][0] for name in names}, {name: rows[name][1] for name in names})

    assert repr(over(list(rows))) == repr(over(list(rows)[::-1]))


@pytest.mark.parametrize(
    "settings", [{"confidence": 95}, {"min_effect": -0.1}, {"margin": -1}, {"min_effect": math.nan}]
)
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        judge([0, 1], [1, 1], **settings)


def test_scores_must_be_finite() -> None:
    with pytest.raises(ConfigError, match="finite"):
        judge([0.0, math.nan], [1.0, 1.0])


def test_importing_the_package_leaves_statistics_out() -> None:
    code = (
        "import sys, rollouts, rollouts.dtypes, rollouts.budget; print('scipy' in sys.modules, 'numpy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
