"""Which module holds the program back, on worlds where that is known."""

from __future__ import annotations

from random import Random

import pytest

from rollouts.budget import Spend
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.scheduling import Allocation, Share, TrialResult
from rollouts.prompt_optimization.scheduling.credit import (
    allocation_event,
    bottleneck_table,
    head_room_by_module,
    stretches,
)
from rollouts.prompt_optimization.scheduling.gains import Gains


def learnt(effects: list[float], samples: int, rng: Random) -> Gains:
    gains = Gains(10_000)
    for candidate, effect in enumerate(effects, start=1):
        differences = [
            1.0 if rng.random() < 0.15 + effect else (-1.0 if rng.random() < 0.15 else 0.0) for _ in range(samples)
        ]
        gains.learn(candidate, 0, differences)
    return gains


def test_by_the_metrics_own_scores() -> None:
    own = {"router": [1.0] * 27 + [0.0] * 3, "writer": [1.0] * 12 + [0.0] * 18, "judge": [1.0] * 30}
    rooms = head_room_by_module(own, {name: Gains(30) for name in own})
    assert [room.module for room in rooms] == ["writer", "router", "judge"]
    assert [room.room for room in rooms] == pytest.approx([0.6, 0.1, 0.0])
    assert all(room.source == "scores" and room.low <= room.room <= room.high for room in rooms)
    assert rooms[-1].high > 0, "30 right answers do not prove that nothing is lost"


def test_by_swaps_where_any_module_has_no_scores() -> None:
    rng = Random(1)
    gains = {"weak": learnt([0.3, 0.1, 0.0], 80, rng), "good": learnt([0.0, -0.1, 0.0], 80, rng), "new": Gains(10)}
    rooms = head_room_by_module({"weak": [0.0], "good": []}, gains)
    assert {room.source for room in rooms} == {"swaps"}
    assert rooms[0].module == "weak"
    assert {room.module: room.n for room in rooms}["new"] == 0
    assert {room.module: (room.low, room.high) for room in rooms}["new"] == (0.0, 1.0)


def test_intervals_hold_the_best_gain() -> None:
    """Worlds with a known best effect among the candidates tried: the 95 % interval holds it nearly always."""
    held = 0
    for seed in range(60):
        rng = Random(seed)
        effects = [rng.gauss(0.0, 0.1) for _ in range(6)]
        gains = Gains(10_000)
        for candidate, effect in enumerate(effects, start=1):
            gains.learn(candidate, 0, [rng.gauss(effect, 0.4) for _ in range(40)])
        (room,) = head_room_by_module({}, {"m": gains})
        held += room.low - 1e-9 <= max(0.0, *effects) <= room.high + 1e-9
    assert held >= 52


def test_it_repeats_and_checks_its_confidence() -> None:
    gains = {"m": learnt([0.1, 0.2], 20, Random(0))}
    assert head_room_by_module({}, gains) == head_room_by_module({}, gains)
    with pytest.raises(ConfigError, match="confidence"):
        head_room_by_module({"m": [1.0]}, gains, confidence=1.5)


def test_events_become_the_table() -> None:
    gains = {"a": learnt([0.3], 60, Random(0)), "b": learnt([0.0], 60, Random(1))}
    rooms = head_room_by_module({}, gains)
    first = Allocation(
        shares=(
            Share(module="a", work="new", trials=3, samples=8),
            Share(module="a", work="more", trials=2, samples=8),
            Share(module="b", work="new", trials=1, samples=8),
        ),
        values={"a": 0.02, "b": 0.01},
        reason="because",
    )
    second = Allocation(shares=(Share(module="b", work="new", trials=2, samples=8),))
    results = [
        TrialResult(module="a", candidate=n, against=0, differences=(1.0,), spend=Spend(calls=n, micros=10))
        for n in (1, 2)
    ]
    events = [
        allocation_event(1, first, results, scarcest="tokens", rooms=rooms, gained={"a": 0.25}),
        allocation_event(2, second, (), scarcest="tokens", rooms=rooms, gained={}),
    ]
    a, b = bottleneck_table(events)
    assert (a.module, a.trials, a.share, a.gained, a.adopted, a.value) == ("a", 5, 5 / 8, 0.25, 1, None)
    assert (b.module, b.trials, b.share, b.gained, b.adopted) == ("b", 3, 3 / 8, 0, 0)
    assert events[0]["modules"]["a"]["value"] == 0.02
    assert (a.spend, b.spend) == (Spend(calls=3, micros=20), Spend())
    assert bottleneck_table([]) == []


def test_rounds_that_are_alike_are_told_as_one() -> None:
    def event(number: int, a: int, b: int) -> dict[str, object]:
        modules = {"a": {"new": a, "more": 0}, "b": {"new": 0, "more": b}}
        return {"round": number, "reason": f"because {number}", "modules": modules}

    told = stretches([event(1, 3, 1), event(2, 2, 0), event(3, 1, 4), event(4, 5, 0)])
    assert [(s.first, s.last, s.module, dict(s.trials), s.reason) for s in told] == [
        (1, 2, "a", {"a": 5, "b": 1}, "because 1"),
        (3, 3, "b", {"a": 1, "b": 4}, "because 3"),
        (4, 4, "a", {"a": 5, "b": 0}, "because 4"),
    ]
    assert stretches([]) == []
