"""Trials go where they are expected to improve the whole program most, per unit of the scarcest resource.

A trial's value is the knowledge gradient of its comparison (see `gains`): what the choice between candidate and
incumbent gains on average by what the samples will show, at the number of samples that pays best. It falls by itself
as a module's incumbent gets better than what candidates usually are, as its candidates turn out alike, and as a
comparison is decided. The spread of candidates is learnt for each module and shrunk towards that of all, so without
evidence of a bottleneck all modules are worth about the same and are served alike; each always keeps a small share.
Where the metric scores modules, what a module lacks bounds what its candidates can be worth (`ModuleState.ceiling`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rollouts.budget import Spend
from rollouts.prompt_optimization.scheduling.base import Allocation, ModuleState, Share, State, TrialResult, Work
from rollouts.prompt_optimization.scheduling.gains import RATIO, Gains, chance, expected_gain
from rollouts.prompt_optimization.scheduling.swaps import REJECT, still_true

_KEPT = 0.2
_DECAY = 0.98
_LOOKS = (1, 2, 4, 8)
_POOLED = 20.0
_PRIOR_SAMPLES = 8.0
_LEAST_COST = 0.02


class Adaptive:
    """Learns every module's gains and costs from the results. `samples` is how many samples there are."""

    def __init__(self, names: Sequence[str], *, samples: int, seed: int = 0) -> None:
        self._samples = samples
        self._gains = {name: Gains(samples) for name in names}
        self._incumbents = dict.fromkeys(names, 0)
        self._given = dict.fromkeys(names, 0)
        self._spent = {name: Spend() for name in names}
        self._compared = dict.fromkeys(names, 0)
        self._score = 0.0

    def allocate(self, state: State) -> Allocation:
        self._follow(state)
        for module in state.modules:
            if module.ceiling is not None:
                self._gains[module.name].expect(module.ceiling)
        self._share_ratios()
        resource = state.scarcest
        cost = {module.name: self._cost(module.name, resource) for module in state.modules}
        options = {module.name: self._options(module, state.samples, cost[module.name]) for module in state.modules}
        counts = self._deal(state, options)
        shares = tuple(
            Share(module=module.name, work=work, trials=counts[module.name, work], samples=state.samples)
            for module in state.modules
            for work in _WORKS
            if counts[module.name, work]
        )
        for share in shares:
            self._given[share.module] += share.trials
        values = {name: max(map(max, filter(None, found.values())), default=0.0) for name, found in options.items()}
        return Allocation(shares=shares, values=values, reason=_reason(values, resource))

    def update(self, results: Sequence[TrialResult]) -> None:
        for result in results:
            name = result.module
            self._gains[name].learn(result.candidate, result.against, result.differences)
            self._spent[name] = self._spent[name] + result.spend
            self._compared[name] += len(result.differences) + result.failed

    def _follow(self, state: State) -> None:
        """Takes note of new incumbents: what was learnt of the other modules counts for less."""
        gained = {}
        for module in state.modules:
            before = self._incumbents[module.name]
            if module.incumbent != before:
                gained[module.name] = max(0.0, self._gains[module.name].posterior().gap(module.incumbent, before)[0])
                self._incumbents[module.name] = module.incumbent
        for name, gains in self._gains.items():
            others = sum(gain for module, gain in gained.items() if module != name)
            if others:
                gains.discount(still_true(self._score, others))
        self._score = state.score

    def _share_ratios(self) -> None:
        """Draws what modules are expected to be like towards what was seen in all of them."""
        weight, total = _POOLED, _POOLED * math.log(RATIO)
        for gains in self._gains.values():
            tried, posterior = gains.tried, gains.posterior()
            weight += tried
            total += tried * math.log(posterior.spread / posterior.moved)
        for gains in self._gains.values():
            gains.ratio = math.exp(total / weight)

    def _cost(self, name: str, resource: str) -> float:
        """What a compared sample of a module takes, relative to the mean of all modules; drawn towards it."""
        amounts = {n: float(getattr(spend, resource)) for n, spend in self._spent.items()}
        compared = sum(self._compared.values())
        usual = sum(amounts.values()) / compared if compared else 0.0
        if not usual:
            return 1.0
        own = (amounts[name] + usual * _PRIOR_SAMPLES) / (self._compared[name] + _PRIOR_SAMPLES)
        return max(_LEAST_COST, own / usual)

    def _options(self, module: ModuleState, samples: int, cost: float) -> dict[Work, list[float]]:
        """Values of the trials it can take, by work, the best first."""
        posterior = self._gains[module.name].posterior()

        gaps, rivalries = posterior.gaps(module.incumbent), posterior.rivalries(module.incumbent)
        looks = [min(self._samples, samples * look) for look in _LOOKS]

        def value(number: int | None) -> float:
            return max(expected_gain(rivalries[number], posterior.noise, k) / k for k in looks) / cost

        fresh = value(None) if module.untried else 0.0
        open_ones = [n for n in posterior.place if n != module.incumbent and chance(gaps[n]) >= REJECT]
        more = sorted(map(value, open_ones), reverse=True)[: module.undecided]
        more += [0.0] * (module.undecided - len(more))
        return {"new": [fresh * _DECAY**n for n in range(module.untried)], "more": more}

    def _deal(self, state: State, options: dict[str, dict[Work, list[float]]]) -> dict[tuple[str, Work], int]:
        """The trial with the highest value goes first; modules that are short of their kept share go before."""
        counts: dict[tuple[str, Work], int] = {(m.name, work): 0 for m in state.modules for work in _WORKS}
        kept = _KEPT / max(1, len(state.modules))
        for _ in range(state.trials):
            given = {m.name: sum(counts[m.name, work] for work in _WORKS) for m in state.modules}
            takers = [module for module in state.modules if given[module.name] < module.most]
            if not takers:
                break
            total = sum(self._given.values()) + sum(given.values())
            short = [m for m in takers if self._given[m.name] + given[m.name] < kept * total]
            best: tuple[float, str, Work] | None = None
            for module in short or takers:
                for work in _WORKS:
                    left = options[module.name][work][counts[module.name, work] :]
                    if left and (best is None or left[0] > best[0]):
                        best = (left[0], module.name, work)
            if best is None:
                break
            counts[best[1], best[2]] += 1
        return counts


_WORKS: tuple[Work, ...] = ("new", "more")
_UNITS = {"micros": "money", "tokens": "tokens", "calls": "calls", "seconds": "time", "rollouts": "rollouts"}


def _reason(values: dict[str, float], resource: str) -> str:
    """The division in words."""
    order = sorted(values, key=lambda name: -values[name])
    if not order or not values[order[0]]:
        return "no trial is expected to gain anything"
    first, rest = order[0], order[1:]
    said = f"a trial of {first!r} is worth most per unit of {_UNITS[resource]}"
    if rest and values[rest[0]] > 0:
        times = f"{values[first] / values[rest[0]]:.1f}"
        said += f", {'about' if times == '1.0' else f'{times} times'} as much as one of {rest[0]!r}"
    return said
