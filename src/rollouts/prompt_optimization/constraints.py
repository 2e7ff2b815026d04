"""Does a candidate satisfy what the shipped prompt must satisfy? Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.budget import Constraints
from rollouts.dtypes import Evaluation, Program
from rollouts.errors import ConfigError
from rollouts.evaluation.latency import calls_of, slowest_runs
from rollouts.stats import mean_bound, percentile_bound, samples_for_bound, share_exceeds

_Q = 0.95
ENOUGH_SEEN = 20
"""Rollouts that a winner must have before its plain estimates count."""

Slot = tuple[str, str]
"""A module, and one of its parts: `system`, `user_template` or `demos`, of which their number stands for all."""


def check_modules(constraints: Constraints, program: Program) -> None:
    """Raises ConfigError for limits on a module that the program does not have."""
    known = sorted(program.modules)
    for name in constraints.modules:
        if name not in program.modules:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the program has {', '.join(map(repr, known))}"
            raise ConfigError(f"constraints are given for {name!r}, which is no module of the program; {hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Latencies (seconds, infinite where a call was cut) and costs (dollars) of rollouts, of a program or a module."""

    latencies: Sequence[float] = ()
    costs: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one rollout took: seconds and dollars by module, those of the whole rollout under the empty name.

    A module's seconds are those of its slowest run. A cut rollout took infinitely long, and has no cost that is known.
    """

    latencies: Mapping[str, float]
    costs: Mapping[str, float]

    @classmethod
    def of(cls, evaluation: Evaluation, modules: Collection[str]) -> Sighting | None:
        """None for a rollout that says nothing: it failed for another reason than a latency cap."""
        if is_cut(evaluation):
            module = evaluation.failure.module if evaluation.failure is not None else ""
            return cls(dict.fromkeys(("", module), math.inf), {})
        if evaluation.score is None:
            return None
        costs = {"": evaluation.full_micros / 1e6}
        for call in calls_of(evaluation, modules):
            costs[call.module] = costs.get(call.module, 0.0) + (call.cost_micros + call.saved_micros) / 1e6
        return cls({"": evaluation.latency_s, **slowest_runs(evaluation, modules)}, costs)


def is_cut(evaluation: Evaluation) -> bool:
    """Whether the rollout was cut at a latency cap."""
    return evaluation.failure is not None and evaluation.failure.stage == "latency"


Rule = Callable[[Constraints, Observed], list[str]]
"""Says in words what is wrong with what was observed of a program or a module; nothing for nothing."""


def breaches(limits: Constraints, observed: Observed) -> list[str]:
    """Which limits are broken, with confidence, in words. It may be asked at any time and any number of times: a
    candidate that keeps a limit is ever found to break it with a chance of at most `1 - confidence`."""
    out: list[str] = []
    p95, cut = limits.max_p95_latency_s, limits.max_latency_s
    cap = cut if p95 is None else p95
    if cap is not None:
        n, over = len(observed.latencies), sum(seconds > cap for seconds in observed.latencies)
        if share_exceeds(over, n, 1 - _Q, limits.confidence):
            out.append(f"{over} of {n} rollouts took more than {cap:g} s, too many for a 95th percentile below it")
    most, n = limits.max_cost_per_call_usd, len(observed.costs)
    if most is not None and n > 1:
        found = mean_bound(observed.costs, limits.confidence, look=n)
        if found.low > most:
            out.append(f"${found.estimate:.3g} a rollout (at least ${found.low:.3g}, n = {n}) is above ${most:g}")
    return out


def estimated_breaches(limits: Constraints, observed: Observed) -> list[str]:
    """Which limits are broken by the plain estimates, in words; nothing where nothing was observed."""
    out: list[str] = []
    p95, most = limits.max_p95_latency_s, limits.max_cost_per_call_usd
    if p95 is not None and observed.latencies:
        found = percentile_bound(observed.latencies, _Q, limits.confidence)
        if found.estimate > p95:
            out.append(f"p95 latency {found.estimate:.3g} s (n = {found.n}) is above {p95:g} s")
    if most is not None and observed.costs:
        mean = sum(observed.costs) / len(observed.costs)
        if mean > most:
            out.append(f"${mean:.3g} a rollout (n = {len(observed.costs)}) is above ${most:g}")
    return out


def unproven(limits: Constraints, observed: Observed) -> list[str]:
    """Which limits are not shown to be kept, with confidence, in words. To be asked once, of rollouts that took no part
    in the choice: a candidate that breaks a limit then passes with a chance of at most `1 - confidence`."""
    sure = f"{100 * limits.confidence:g} % confidence"
    p95, most = limits.max_p95_latency_s, limits.max_cost_per_call_usd
    out = breaches(limits, observed) if p95 is None else []
    if p95 is not None:
        found = percentile_bound(observed.latencies, _Q, limits.confidence)
        if not found.high <= p95:
            if found.n < found.needed:
                out.append(
                    f"p95 latency is not shown to be at most {p95:g} s: {found.n} rollouts of the final check, and "
                    f"{sure} takes {found.needed}"
                )
            else:
                high = "without bound, for calls were cut" if math.isinf(found.high) else f"up to {found.high:.3g} s"
                out.append(f"p95 latency {found.estimate:.3g} s may be {high} ({sure}, n = {found.n}), above {p95:g} s")
    if most is not None:
        cost = mean_bound(observed.costs, limits.confidence)
        if not cost.high <= most:
            out.append(f"${cost.estimate:.3g} a rollout may be up to ${cost.high:.3g} ({sure}), above ${most:g}")
    return list(dict.fromkeys(out))


def judged(rule: Rule, constraints: Constraints, sightings: Iterable[Sighting]) -> list[str]:
    """What `rule` says of the whole program, and of each module with limits."""
    seen = list(sightings)
    out: list[str] = []
    for name, limits in {"": constraints, **constraints.modules}.items():
        observed = Observed(
            latencies=[one.latencies[name] for one in seen if name in one.latencies],
            costs=[one.costs[name] for one in seen if name in one.costs],
        )
        out += [f"module {name!r}: {text}" if name else text for text in rule(limits, observed)]
    return out


class Violations:
    """What the rollouts of a run showed about the constraints, by program; fed by hand, each rollout counted once.

    `cut` counts the rollouts of each program that were cut at a latency cap; `infeasible` holds what was found against
    programs that broke a constraint: while the search ran, or at its end. `watching` says whether any constraint asks
    for it.
    """

    def __init__(self, constraints: Constraints) -> None:
        self.constraints = constraints
        every = (constraints, *constraints.modules.values())
        self.watching = any(
            limit is not None
            for limits in every
            for limit in (limits.max_latency_s, limits.max_p95_latency_s, limits.max_cost_per_call_usd)
        )
        self._seen: dict[str, dict[str, Sighting]] = {}
        self._parts: dict[str, dict[Slot, str]] = {}
        self._by_part: dict[tuple[Slot, str], list[Sighting]] = {}
        self._variants: dict[Slot, set[str]] = {}
        self._broken_parts: set[tuple[Slot, str]] = set()
        self.cut: dict[str, int] = {}
        self.infeasible: dict[str, tuple[str, ...]] = {}

    def note(self, program: Program, evaluations: Iterable[Evaluation]) -> tuple[str, ...]:
        """Takes note of rollouts of `program`; returns what they now show against it, where they show it first."""
        if not self.watching:
            return ()
        seen, known = self._seen.setdefault(program.digest, {}), self.count(program)
        for evaluation in evaluations:
            sighting = None if evaluation.key in seen else Sighting.of(evaluation, program.modules)
            if sighting is not None:
                seen[evaluation.key] = sighting
                if is_cut(evaluation):
                    self.cut[program.digest] = self.cut.get(program.digest, 0) + 1
        self._note_parts(program, list(seen.values())[known:])
        if program.digest in self.infeasible:
            return ()
        return self.against(program, judged(breaches, self.constraints, seen.values()))

    def _note_parts(self, program: Program, sightings: Sequence[Sighting]) -> None:
        for slot, text in self._parts_of(program).items():
            self._variants.setdefault(slot, set()).add(text)
            pooled = self._by_part.setdefault((slot, text), [])
            pooled += sightings
            if sightings and judged(breaches, self.constraints, pooled):
                self._broken_parts.add((slot, text))

    def _parts_of(self, program: Program) -> dict[Slot, str]:
        if program.digest not in self._parts:
            parts: dict[Slot, str] = {}
            for name, template in program.modules.items():
                parts[name, "system"] = template.system
                parts[name, "user_template"] = template.user_template
                parts[name, "demos"] = str(len(template.few_shot_examples))
            self._parts[program.digest] = parts
        return self._parts[program.digest]

    def presumed(self, program: Program) -> bool:
        """Whether a program of which little was seen is expected to break a constraint: the programs that share one of
        its parts with it break one, taken together, and this holds for each of its parts that is not common to all."""
        if self.count(program) >= samples_for_bound(_Q, self.constraints.confidence):
            return False
        parts = [part for part in self._parts_of(program).items() if len(self._variants.get(part[0], ())) > 1]
        return bool(parts) and all(part in self._broken_parts for part in parts)

    def count(self, program: Program) -> int:
        """How many rollouts of a program were noted."""
        return len(self._seen.get(program.digest, ()))

    def against(self, program: Program, broken: Sequence[str]) -> tuple[str, ...]:
        """Enters what was found against a program, if anything was."""
        if broken:
            self.infeasible[program.digest] = tuple(broken)
        return tuple(broken)

    def estimated(self, program: Program) -> list[str]:
        """What is wrong by the plain estimates of all that was noted."""
        return judged(estimated_breaches, self.constraints, self._seen.get(program.digest, {}).values())

    def unproven(self, program: Program, evaluations: Iterable[Evaluation]) -> list[str]:
        """What these rollouts do not show to be kept; see the function of that name."""
        if not self.watching:
            return []
        sightings = (Sighting.of(evaluation, program.modules) for evaluation in evaluations)
        return judged(unproven, self.constraints, [one for one in sightings if one is not None])

    def notes(self, start: Program) -> tuple[str, ...]:
        """What a person should know of cut rollouts, a sentence each."""
        total, mine = sum(self.cut.values()), self.cut.get(start.digest, 0)
        if not total:
            return ()
        return (f"{total} rollouts of the search were cut at their latency cap, {mine} of them with your own prompt",)

    def to_json(self) -> dict[str, Any]:
        """Both records as plain JSON, by program digest."""
        return {
            "cut": dict(self.cut),
            "infeasible": {program: list(broken) for program, broken in self.infeasible.items()},
        }
