"""How a hard number of rollouts is divided before the first one is made. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rollouts.budget import Budget, Spend
from rollouts.prompt_optimization.configs import GEPAConfig, MIPROConfig

_TEST_SHARE = 0.45
_VAL_SHARE = 0.15
_BASELINE_SHARE = 0.05
_LEAST_BASELINE = 16
_KEPT = 0.9
_BOOTSTRAP_SHARE = 0.1
_FINAL_SHARE = 0.45
_LEAST_MINIBATCH = 6
_CLOSER_LOOK = 80
_GEPA_FINAL_SHARE = 0.1
_GEPA_VAL_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Rollouts of each phase; `val` and `test` are how many samples of those splits are used.

    baseline: the start on as many samples of `val`. bootstrap: the start on training samples. search: `trials` x
    `minibatch`, and the leaders at the end (`finals`): a race, and `look` rollouts to see whether the winner keeps the
    constraints. check: start and winner on `test` samples each.

    GEPA's trials are generations of at most `children` candidates, for which `minibatch` rollouts are meant.
    `raced` says that trials are rounds of a race over many candidates.
    """

    val: int
    test: int
    baseline: int
    bootstrap: int
    trials: int
    minibatch: int
    finals: int
    top_k: int
    children: int = 0
    raced: bool = False
    look: int = 0

    @property
    def searched(self) -> int:
        """Rollouts of the search: trials, and the race of the leaders."""
        return self.trials * self.minibatch + self.finals

    @property
    def total(self) -> int:
        """The most rollouts that the plan can take."""
        return self.baseline + self.bootstrap + self.searched + 2 * self.test

    @property
    def of_start(self) -> int:
        """Rollouts of the start; the others may run anything."""
        return self.baseline + self.bootstrap + self.test

    @property
    def unstarted_check(self) -> int:
        """Rollouts of the final check that begin after the search: the winner's, and the second half of the start's."""
        return 2 * self.test - self.test // 2

    @property
    def joining(self) -> int:
        """Trials in which candidates may join; what follows tells them apart."""
        return int(self.trials * (1 - _FINAL_SHARE)) if self.raced else self.trials

    def in_rounds(self, size: int, *, leaders: int = 0, look: int = 0) -> Plan:
        """The plan for a selector that spends a budget by itself: rounds of `size` rollouts instead of trials. Of the
        search `leaders` rollouts are for a race of the leaders afterwards, and `look`."""
        searched = self.searched
        trials = max((searched - leaders - look) // size, min(1, searched // size))
        finals = searched - trials * size if leaders else min(look, searched - trials * size)
        return replace(self, trials=trials, minibatch=size, finals=finals, look=min(look, finals), raced=True)

    def with_look(self) -> Plan:
        """The plan in rounds with a sixth of the search, 80 rollouts at most, for a closer look at the winner."""
        return self.in_rounds(self.minibatch, leaders=self.finals, look=min(_CLOSER_LOOK, self.searched // 6))

    def without_bootstrap(self, unused: int) -> Plan:
        """The plan when `unused` rollouts of bootstrapping are not needed: the end of the search gets them."""
        plan = replace(self, bootstrap=self.bootstrap - unused, finals=self.finals + unused)
        return plan.in_rounds(plan.minibatch, leaders=self.finals - self.look, look=self.look) if plan.raced else plan

    def to_json(self) -> Mapping[str, Any]:
        return {**asdict(self), "total": self.total}


def affordable(budget: Budget, rollout: Spend, proposals: int) -> int | None:
    """The most rollouts that all caps on rollouts, calls, tokens and money pay for; None without such a cap.

    `rollout` is what one usually takes; a proposal is taken to cost two of them. A tenth is kept back, because the next
    call must always fit with its worst case.
    """
    counts = [] if budget.max_rollouts is None else [budget.max_rollouts]
    for cap, usual in _capped(budget, rollout):
        if usual:
            counts.append(max(0, int(cap * _KEPT / usual) - 2 * proposals))
    return min(counts, default=None)


def paid_plan(
    budget: Budget, plan_of: Callable[[int | None], Plan], start: Spend, changed: Spend, proposals: int
) -> Plan:
    """The largest plan that all caps pay for; `plan_of` makes the plan of so many rollouts (None: no cap).

    As in `affordable`, where rollouts of the start take `start` and all others `changed`: with demonstrations a prompt
    may be ten times as long.
    """
    bounds = [affordable(budget, usual, proposals) for usual in (start, changed)]
    if bounds[0] is None or bounds[1] is None:
        return plan_of(None)

    def paid(plan: Plan) -> bool:
        others = plan.total - plan.of_start + 2 * proposals
        return all(
            plan.of_start * one + others * other <= cap * _KEPT for cap, one, other in _capped(budget, start, changed)
        )

    least, most = sorted((bounds[0], bounds[1]))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if paid(plan_of(middle)) else (least, middle - 1)
    return plan_of(least)


def _capped(budget: Budget, *spends: Spend) -> Iterator[tuple[int, ...]]:
    """Each cap on calls, tokens and money, with what `spends` take of it."""
    for name in ("calls", "tokens", "micros"):
        cap = getattr(budget, f"max_{name}")
        if cap is not None:
            yield cap, *(getattr(spend, name) for spend in spends)


def make_plan(config: MIPROConfig, *, train: int, val: int, test: int, rollouts: int | None) -> Plan:
    """A plan for splits of these sizes under a cap of `rollouts` (None: no cap).

    Without a cap everything takes its full size. Under a cap, the final check may take 45 % and bootstrapping 10 %; at
    most 15 % of it are used as validation samples, and the baseline takes 5 %. The race of the finalists takes 45 % of
    the rest and the trials what remains; minibatches shrink before trials are given up.
    """
    val, test, baseline, bootstrap, search = _around(
        config, _VAL_SHARE, train=train, val=val, test=test, rollouts=rollouts
    )
    if search is None:
        trial_cells = min(config.minibatch_size, val)
        full = config.num_trials // config.full_eval_every if config.full_eval_every else 0
        return Plan(
            val=val,
            test=test,
            baseline=baseline,
            bootstrap=bootstrap,
            trials=config.num_trials,
            minibatch=trial_cells,
            finals=(2 * config.top_k + full) * val,
            top_k=config.top_k,
        )
    finals = min(2 * config.top_k * val, int(search * _FINAL_SHARE))
    cells = search - finals
    minibatch = max(1, min(config.minibatch_size, val, max(_LEAST_MINIBATCH, cells // config.num_trials)))
    return Plan(
        val=val,
        test=test,
        baseline=baseline,
        bootstrap=bootstrap,
        trials=min(config.num_trials, cells // minibatch),
        minibatch=minibatch,
        finals=finals,
        top_k=config.top_k,
    )


def make_gepa_plan(config: GEPAConfig, *, train: int, val: int, test: int, rollouts: int | None) -> Plan:
    """A plan for splits of these sizes under a cap of `rollouts` (None: no cap).

    Final check, bootstrapping, validation samples and baseline as in `make_plan`; a tenth of the rest is for the race
    of the leaders. What it pays for is spread over the generations.
    """
    most = max(1, config.population_size - config.elite_size)
    val, test, baseline, bootstrap, search = _around(
        config, _GEPA_VAL_SHARE, train=train, val=val, test=test, rollouts=rollouts
    )
    if search is None:
        children = config.children_per_generation or most
        return Plan(
            val=val,
            test=test,
            baseline=baseline,
            bootstrap=bootstrap,
            trials=config.generations,
            minibatch=children * (config.usual_rollouts + val),
            finals=2 * config.elite_size * val,
            top_k=config.elite_size,
            children=children,
        )
    finals = min(2 * config.elite_size * val, int(search * _GEPA_FINAL_SHARE))
    return Plan(
        val=val,
        test=test,
        baseline=baseline,
        bootstrap=bootstrap,
        trials=config.generations,
        minibatch=(search - finals) // config.generations,
        finals=finals,
        top_k=config.elite_size,
        children=config.children_per_generation or most,
    )


def _around(
    config: MIPROConfig | GEPAConfig, val_share: float, *, train: int, val: int, test: int, rollouts: int | None
) -> tuple[int, int, int, int, int | None]:
    """Validation and test samples, rollouts of baseline and bootstrapping, and what they leave of `rollouts` for the
    search: None without a cap, under which all take their full size."""
    bootstrap = train if config.optimize_demos and config.max_bootstrapped_demos else 0
    if rollouts is None:
        return val, test, val, min(bootstrap, 4 * max(config.max_bootstrapped_demos, 16)), None
    test = min(test, int(rollouts * _TEST_SHARE / 2))
    val = min(val, rollouts, max(2, int(rollouts * val_share)))
    bootstrap = min(bootstrap, int(rollouts * _BOOTSTRAP_SHARE))
    baseline = min(val, max(_LEAST_BASELINE, int(rollouts * _BASELINE_SHARE)))
    return val, test, baseline, bootstrap, max(0, rollouts - 2 * test - baseline - bootstrap)
