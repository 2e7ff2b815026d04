"""Which module holds the program back: by its own scores where the metric gives them, else by controlled swaps. Pure.

Everything here is made of plain numbers, so that a stored run's events can be turned into the same tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rollouts.budget import Spend
from rollouts.prompt_optimization.scheduling.base import Allocation, TrialResult
from rollouts.prompt_optimization.scheduling.gains import Gains
from rollouts.stats import mean_interval

Source = Literal["scores", "swaps"]
_DRAWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A module's head-room with an interval, in the unit of the scores, from `n` numbers.

    By `scores` it is what the module's own score lacks to 1. By `swaps` it is how much better the program would be
    with the best candidate of the module tried so far than with its start, the rest held: what the module turned out to
    be good for. Values of the two kinds are not compared with each other.
    """

    module: str
    source: Source
    room: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def head_room_by_module(
    own: Mapping[str, Sequence[float]], gains: Mapping[str, Gains], *, confidence: float = 0.95, seed: int = 0
) -> list[Room]:
    """Every module of `gains`, the one with the most head-room first.

    `own` are the modules' own scores under the incumbents, `gains` what their swaps showed. Own scores are used when
    every module has some, for only then are the modules compared by one measure. Raises ConfigError for a confidence
    outside (0, 1) or scores that are not finite.
    """
    scored = bool(gains) and all(own.get(name) for name in gains)
    rooms = [
        _by_scores(name, own[name], confidence) if scored else _by_swaps(name, gains[name], confidence, seed)
        for name in gains
    ]
    return sorted(rooms, key=lambda room: -room.room)


def _by_scores(name: str, scores: Sequence[float], confidence: float) -> Room:
    found = mean_interval(scores, confidence)
    return Room(module=name, source="scores", room=1 - found.mean, low=1 - found.high, high=1 - found.low, n=found.n)


def _by_swaps(name: str, gains: Gains, confidence: float, seed: int) -> Room:
    """The posterior of the best effect, by draws from the candidates' joint posterior; the start's is 0."""
    posterior = gains.posterior()
    tried = len(posterior.place)
    if not tried:
        return Room(module=name, source="swaps", room=0.0, low=0.0, high=1.0, n=0)
    rng = np.random.default_rng(seed)
    draws = rng.multivariate_normal(posterior.mean[:-1], posterior.cov[:-1, :-1], size=_DRAWS, method="eigh")
    best = np.maximum(0.0, draws.max(axis=1))
    low, high = np.quantile(best, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Room(module=name, source="swaps", room=float(best.mean()), low=float(low), high=float(high), n=tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleReport:
    """One line of the table of a run: head-room, trials, their share and what they took, gains taken, last value of a
    trial."""

    module: str
    room: float
    low: float
    high: float
    source: str
    trials: int
    share: float
    spend: Spend
    gained: float
    adopted: int
    value: float | None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def allocation_event(
    number: int,
    plan: Allocation,
    results: Sequence[TrialResult],
    *,
    scarcest: str,
    rooms: Sequence[Room],
    gained: Mapping[str, float],
) -> dict[str, Any]:
    """A round as an event: what each module got and why. `gained` are the gains of the candidates taken after it."""
    spend = {room.module: Spend() for room in rooms}
    for result in results:
        spend[result.module] = spend[result.module] + result.spend
    return {
        "round": number,
        "scarcest": scarcest,
        "reason": plan.reason,
        "modules": {
            room.module: {
                "new": sum(s.trials for s in plan.shares if s.module == room.module and s.work == "new"),
                "more": sum(s.trials for s in plan.shares if s.module == room.module and s.work == "more"),
                "value": plan.values.get(room.module),
                "spend": spend[room.module].to_json(),
                "gained": gained.get(room.module),
                "room": room.room,
                "low": room.low,
                "high": room.high,
                "source": room.source,
            }
            for room in rooms
        },
    }


def bottleneck_table(events: Iterable[Mapping[str, Any]]) -> list[ModuleReport]:
    """A run's `allocation` events as one line per module, the one with the most head-room at the end first."""
    rounds = [event["modules"] for event in events]
    last: dict[str, Mapping[str, Any]] = {name: data for modules in rounds for name, data in modules.items()}
    total = sum(data["new"] + data["more"] for modules in rounds for data in modules.values())
    out = []
    for name, data in last.items():
        mine = [modules[name] for modules in rounds if name in modules]
        trials = sum(entry["new"] + entry["more"] for entry in mine)
        taken = [entry["gained"] for entry in mine if entry["gained"] is not None]
        out.append(
            ModuleReport(
                module=name,
                room=data["room"],
                low=data["low"],
                high=data["high"],
                source=data["source"],
                trials=trials,
                share=trials / total if total else 0.0,
                spend=sum((Spend.from_json(entry["spend"]) for entry in mine), Spend()),
                gained=sum(taken),
                adopted=len(taken),
                value=data["value"],
            )
        )
    return sorted(out, key=lambda line: -line.room)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Rounds `first` to `last`, in which the same module got the most trials; `reason` is the scheduler's in the first
    of them, `trials` what each module got."""

    first: int
    last: int
    module: str
    trials: Mapping[str, int]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def stretches(events: Iterable[Mapping[str, Any]]) -> list[Stretch]:
    """A run's `allocation` events in short: where the trials went and why, one entry for rounds that are alike."""
    out: list[Stretch] = []
    for event in events:
        given = {name: data["new"] + data["more"] for name, data in event["modules"].items()}
        most = max(given, key=lambda name: given[name])
        if out and out[-1].module == most:
            before = out.pop()
            given = {name: count + before.trials.get(name, 0) for name, count in given.items()}
            first, reason = before.first, before.reason
        else:
            first, reason = event["round"], event["reason"]
        out.append(Stretch(first=first, last=event["round"], module=most, trials=given, reason=reason))
    return out
