"""The gate: few samples for clear cases, priors from experience, any scale."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.prompt_optimization.selection.gate import Gate, GateVerdict

DIFFERENCES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), max_size=60)


def run(gate: Gate, differences: list[float], *, learn: bool = True) -> tuple[GateVerdict, int]:
    """The verdict on a child with these differences, and how many of them it took."""
    place = 0
    while True:
        verdict = gate.judge(differences[:place], left=len(differences) - place)
        if verdict.decision != "more":
            if learn:
                gate.learn(verdict)
            return verdict, place
        place += gate.block(place)


@pytest.mark.parametrize("scale", [100.0, 0.01])
def test_the_unit_of_the_scores_decides_nothing(scale: float) -> None:
    """Also where the start's scores did not tell how wide they spread."""
    rng = random.Random(0)
    known, unknown = Gate(100, scale=scale), Gate(100)
    verdict = unknown.judge([0.0] * 8, left=92)
    assert verdict.decision == known.judge([0.0] * 8, left=92).decision, "all the same tells no range"
    for _ in range(20):
        differences = [scale * rng.choice((-1, 0, 0, 1, 1)) for _ in range(rng.choice((8, 12, 18)))]
        verdicts = [gate.judge(differences, left=100 - len(differences)) for gate in (known, unknown)]
        assert verdicts[0] == verdicts[1]
        known.learn(verdicts[0])
        unknown.learn(verdicts[1])


def test_a_clear_loser_is_rejected_after_one_block_and_a_clear_winner_accepted() -> None:
    loser, compared = run(Gate(200), [-1.0] * 200)
    assert (loser.decision, compared) == ("reject", 8)
    winner, compared = run(Gate(200), [1.0] * 200)
    assert (winner.decision, compared) == ("accept", 8)
    assert winner.gap > 0 > loser.gap


def test_nothing_is_decided_without_a_sample() -> None:
    gate = Gate(50)
    for _ in range(50):
        gate.learn(GateVerdict(decision="accept", chance=1.0, gap=0.5, sd=0.01))
    assert gate.judge([], left=50).decision == "more"
    assert gate.judge([], left=0).decision == "reject"


@pytest.mark.parametrize(
    ("differences", "decision"), [([1.0], "accept"), ([0.0], "reject"), ([-1.0, 1.0, 1.0], "accept")]
)
def test_when_all_samples_are_seen_the_mean_decides(differences: list[float], decision: str) -> None:
    assert Gate(len(differences)).judge(differences, left=0).decision == decision


def test_a_margin_lets_a_slightly_worse_child_pass() -> None:
    differences = [0.0] * 50
    assert Gate(50).judge(differences, left=0).decision == "reject"
    assert Gate(50).judge(differences, left=0, margin=0.03).decision == "accept"


def test_it_learns_from_children_what_to_expect() -> None:
    good, bad = Gate(100), Gate(100)
    for _ in range(10):
        run(good, [1.0, 0.0] * 50)
        run(bad, [-1.0, 0.0] * 50)
    assert good.prior[0] > 0 > bad.prior[0]
    assert good.judge([0.0] * 8, left=92).chance > bad.judge([0.0] * 8, left=92).chance


def test_a_child_that_answers_like_its_parent_gets_no_whole_pass() -> None:
    verdict, compared = run(Gate(200), [0.0] * 200)
    assert verdict.decision == "reject"
    assert 8 < compared < 60


def test_losers_cost_little_on_average() -> None:
    rng, gate = random.Random(0), Gate(200)
    taken = [run(gate, [rng.choice([-1.0, -1.0, 0.0, 0.0, 0.0, 1.0]) for _ in range(200)])[1] for _ in range(100)]
    assert sum(taken) / len(taken) < 40


@given(DIFFERENCES, st.sampled_from([0.01, 10.0, 100.0]), st.integers(0, 40))
def test_the_scale_changes_nothing(differences: list[float], scale: float, left: int) -> None:
    plain = Gate(100, scale=1.0).judge(differences, left=left)
    scaled = Gate(100, scale=scale).judge([scale * d for d in differences], left=left)
    assert scaled.decision == plain.decision
    assert scaled.chance == pytest.approx(plain.chance, abs=1e-6)
    assert scaled.gap == pytest.approx(scale * plain.gap, abs=1e-6 * scale)


@given(DIFFERENCES, st.integers(0, 40))
def test_the_verdict_is_a_probability_and_better_data_never_hurt(differences: list[float], left: int) -> None:
    gate = Gate(100, scale=1.0)
    verdict = gate.judge(differences, left=left)
    assert 0 <= verdict.chance <= 1
    assert verdict.sd > 0
    assert left or verdict.decision != "more"
    if differences:
        better = gate.judge([d + 1 for d in differences], left=left)
        assert better.chance >= verdict.chance


@given(st.integers(1, 300))
def test_blocks_grow_and_end_at_the_last_sample(samples: int) -> None:
    gate, place, blocks = Gate(samples), 0, []
    while place < samples:
        blocks.append(gate.block(place))
        place += blocks[-1]
    assert place == samples
    assert all(a <= b for a, b in itertools.pairwise(blocks[:-1]))
