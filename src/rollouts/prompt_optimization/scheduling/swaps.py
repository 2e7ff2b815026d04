"""Controlled swaps: candidates of every module against the program's incumbents, on the same samples. Pure.

Candidates are numbers: 0 is the start's own version of a module, the others count up. A program is one number per
module. This is what all schedulers have in common: a plan's trials become (program, sample) cells here, and what comes
back decides which candidates are taken, go on, or are ruled out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rollouts.budget import Spend
from rollouts.prompt_optimization.scheduling.base import Allocation, ModuleState, Share, TrialResult
from rollouts.prompt_optimization.scheduling.gains import Gains, chance, expected_gain
from rollouts.prompt_optimization.scheduling.shown import Shown
from rollouts.prompt_optimization.scheduling.trials import Adopted, Numbers, Outcome, Trial
from rollouts.prompt_optimization.selection.classes import Classes

ACCEPT, REJECT = 0.9, 0.1
_LOOK = 8


@dataclass(slots=True)
class _Module:
    name: str
    gains: Gains
    incumbent: int = 0
    count: int = 0
    untried: list[int] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)


class Swaps:
    """The candidates of the modules `names` on `samples` samples.

    `tie_break` is what a module's own score counts for beside the program's in comparisons of its candidates: enough to
    tell apart candidates that the program's score does not, as when a later module spoils everything. Trials take
    samples in the `order`, so the start's first scores are best of the first samples in it; every beginning of it has
    its part of each of the samples' `classes`, where they are given. Of those on which the incumbents did not run the
    module they take none: a swap makes no difference there, which counts as a result.
    """

    def __init__(
        self,
        names: Sequence[str],
        samples: int,
        *,
        classes: Sequence[int] = (),
        seed: int = 0,
        tie_break: float = 0.25,
    ) -> None:
        self.names, self.samples = tuple(names), samples
        self._modules = {name: _Module(name, Gains(samples)) for name in names}
        shuffled = random.Random(f"swaps-{seed}").sample(range(samples), samples)
        self.order: Sequence[int] = Classes(classes, samples).in_turn(shuffled)
        self._cells: dict[Numbers, dict[int, Outcome]] = {}
        self._shown = Shown(names)
        self._asked: dict[tuple[str, int], set[int]] = {}
        self._round = 0
        self._tie_break = tie_break

    # ── candidates ──

    def add(self, module: str) -> int:
        """One more candidate of a module; returns its number."""
        entry = self._modules[module]
        entry.count += 1
        entry.untried.append(entry.count)
        return entry.count

    def drop(self, module: str, candidate: int) -> None:
        """Takes a candidate out that cannot be run."""
        entry = self._modules[module]
        entry.untried = [number for number in entry.untried if number != candidate]

    def bar(self, module: str, candidate: int) -> None:
        """Takes a tried candidate out for good: it breaks a constraint."""
        entry = self._modules[module]
        if candidate != entry.incumbent:
            entry.tried = [number for number in entry.tried if number != candidate]

    @property
    def incumbent(self) -> Numbers:
        """The program of all incumbents."""
        return tuple(self._modules[name].incumbent for name in self.names)

    def untried(self, module: str) -> list[int]:
        """Candidates that wait for a first trial, in the order in which they were added."""
        return list(self._modules[module].untried)

    def undecided(self, module: str) -> list[int]:
        """Tried candidates that may be better than the incumbent and have samples left, the most telling first."""
        entry = self._modules[module]
        if not entry.tried:
            return []
        posterior = entry.gains.posterior()
        gaps, rivalries = posterior.gaps(entry.incumbent), posterior.rivalries(entry.incumbent)
        worth = {}
        for number in entry.tried:
            if number == entry.incumbent or not self._left(module, number):
                continue
            known = number if number in gaps else None
            if chance(gaps[known]) >= REJECT:
                worth[number] = expected_gain(rivalries[known], posterior.noise, _LOOK)
        return sorted(worth, key=lambda number: (-worth[number], number))

    def _left(self, module: str, candidate: int) -> int:
        """Samples on which the candidate may make a difference and was not tried."""
        return self.samples - len(self._shown.idle(module) | self._asked.get((module, candidate), set()))

    def state(self, module: str, *, unmade: int = 0, affordable: int | None = None) -> ModuleState:
        """The module as schedulers see it; `unmade` candidates can still be made."""
        entry = self._modules[module]
        return ModuleState(
            name=module,
            untried=len(entry.untried) + unmade if self._left(module, 0) else 0,
            undecided=len(self.undecided(module)),
            affordable=affordable,
            incumbent=entry.incumbent,
            ceiling=self._ceiling(module),
        )

    def _ceiling(self, module: str) -> float | None:
        lacking = self._shown.lacking(module)
        return None if lacking is None else (1 + self._tie_break) * lacking

    # ── trials ──

    def trials(self, plan: Allocation) -> list[Trial]:
        """The plan's trials, in the order of the modules."""
        shares = sorted(plan.shares, key=lambda share: self.names.index(share.module))
        self._round += 1
        return [trial for share in shares for trial in self._of_share(share)]

    def _of_share(self, share: Share) -> Iterable[Trial]:
        entry = self._modules[share.module]
        if share.work == "new":
            chosen = entry.untried[: share.trials]
            entry.untried = entry.untried[share.trials :]
            entry.tried += chosen
        else:
            chosen = self.undecided(share.module)[: share.trials]
        for number in chosen:
            samples, idle = self._next_samples(share.module, number, share.samples)
            if samples:
                self._asked.setdefault((share.module, number), set()).update(samples, idle)
                yield Trial(
                    module=share.module,
                    candidate=number,
                    program=self.swapped(share.module, number),
                    incumbent=self.incumbent,
                    samples=samples,
                    idle=idle,
                )

    def swapped(self, module: str, candidate: int) -> Numbers:
        """The incumbents' program with one module's candidate exchanged."""
        place = self.names.index(module)
        now = self.incumbent
        return (*now[:place], candidate, *now[place + 1 :])

    def _next_samples(self, module: str, candidate: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Samples it has not seen: those to run, and those passed over because the module does not run there. All
        trials of a round begin at the same place, so that they share the incumbent's scores, and every round at another
        one, so that no few samples decide everything."""
        asked = self._asked.get((module, candidate), set())
        start = (self._round - 1) * count % max(1, self.samples)
        resting = self._shown.idle(module)
        chosen: list[int] = []
        idle: list[int] = []
        for sample in (*self.order[start:], *self.order[:start]):
            if len(chosen) == count:
                break
            if sample not in asked:
                (idle if sample in resting else chosen).append(sample)
        return tuple(chosen), tuple(idle)

    def cells(self, trials: Sequence[Trial]) -> list[tuple[Numbers, int]]:
        """What has to be run for these trials and is not known, those of one program side by side."""
        wanted: dict[Numbers, dict[int, None]] = {}
        for trial in trials:
            for program in (trial.incumbent, trial.program):
                known = self._cells.get(program, {})
                for sample in trial.samples:
                    if sample not in known:
                        wanted.setdefault(program, {})[sample] = None
        return [(program, sample) for program, samples in wanted.items() for sample in samples]

    def record(self, program: Numbers, sample: int, outcome: Outcome) -> None:
        """What became of a cell; a missing one may be asked for again."""
        if not outcome.missing:
            self._cells.setdefault(program, {})[sample] = outcome
            if program == self.incumbent:
                self._shown.note(sample, outcome)

    def results(
        self, trials: Sequence[Trial], spend: Callable[[Trial], Spend] = lambda trial: Spend()
    ) -> list[TrialResult]:
        """The results of recorded trials, which are also learnt from. A trial without any result is left out, and its
        candidate waits again."""
        out = []
        for trial in trials:
            result = self._result(trial, spend(trial))
            if result is None:
                self._forget(trial)
                continue
            out.append(result)
            self._modules[trial.module].gains.learn(result.candidate, result.against, result.differences)
        return out

    def _result(self, trial: Trial, spend: Spend) -> TrialResult | None:
        mine, theirs = self._cells.get(trial.program, {}), self._cells.get(trial.incumbent, {})
        seen = [sample for sample in trial.samples if sample in mine and sample in theirs]
        if not seen:
            return None
        differences = tuple(
            self._difference(trial.module, mine[s], theirs[s])
            for s in seen
            if mine[s].score is not None and theirs[s].score is not None
        )
        failed = len(seen) - len(differences)
        if differences:
            differences += (0.0,) * len(trial.idle)
        place = self.names.index(trial.module)
        return TrialResult(
            module=trial.module,
            candidate=trial.candidate,
            against=trial.incumbent[place],
            differences=differences,
            failed=failed,
            spend=spend,
        )

    def _difference(self, module: str, mine: Outcome, theirs: Outcome) -> float:
        gap = (mine.score or 0.0) - (theirs.score or 0.0)
        if module in mine.own and module in theirs.own:
            own = mine.own[module] - theirs.own[module]
            gap += self._tie_break * own
        return gap

    def _forget(self, trial: Trial) -> None:
        entry = self._modules[trial.module]
        asked = self._asked[trial.module, trial.candidate]
        asked.difference_update(trial.samples, trial.idle)
        if not asked:
            entry.tried.remove(trial.candidate)
            entry.untried.insert(0, trial.candidate)

    # ── decisions ──

    def adopt(self) -> list[Adopted]:
        """Takes, for every module, the candidate most certain to beat the incumbent, when it is certain enough or has
        nothing left to show. What was learnt in the old program counts for less where its score has changed."""
        before = self.mean(self.incumbent)
        out = []
        for name in self.names:
            found = self._winner(name)
            if found is not None:
                out.append(found)
        tried = {found.module: self._cells.get(self.swapped(found.module, found.candidate), {}) for found in out}
        for found in out:
            self._modules[found.module].incumbent = found.candidate
        self._shown.renew(tried)
        for sample, outcome in self._cells.get(self.incumbent, {}).items():
            self._shown.note(sample, outcome)
        gained = {found.module: max(0.0, found.gain) for found in out}
        for name, entry in self._modules.items():
            others = sum(gain for module, gain in gained.items() if module != name)
            if others and before is not None:
                entry.gains.discount(still_true(before, others))
        return out

    def _winner(self, name: str) -> Adopted | None:
        entry = self._modules[name]
        if not entry.tried:
            return None
        posterior = entry.gains.posterior()
        best: Adopted | None = None
        for number in entry.tried:
            if number == entry.incumbent or number not in posterior.place:
                continue
            gap = posterior.gap(number, entry.incumbent)
            sure = chance(gap)
            enough = sure > ACCEPT or (not self._left(name, number) and sure > 0.5)
            if enough and (best is None or gap[0] > best.gain):
                best = Adopted(module=name, candidate=number, gain=gap[0], chance=sure)
        return best

    def mean(self, program: Numbers) -> float | None:
        """The mean of a program's scores so far; None without any."""
        scores = self.scores(program)
        return sum(scores.values()) / len(scores) if scores else None

    def scores(self, program: Numbers) -> dict[int, float]:
        """A program's scores by sample."""
        cells = self._cells.get(program, {})
        return {sample: cell.score for sample, cell in sorted(cells.items()) if cell.score is not None}

    def programs(self) -> list[Numbers]:
        """All programs with a score, in the order in which they were first run."""
        return [program for program in self._cells if self.scores(program)]

    def compared(self, module: str, candidate: int) -> int:
        """Samples on which a candidate was tried."""
        return len(self._asked.get((module, candidate), ()))

    def own_scores(self, module: str) -> list[float]:
        """The module's own scores, by sample the last one under incumbents, with its own version of now."""
        return self._shown.own(module)

    def gains(self, module: str) -> Gains:
        """What was learnt of a module's candidates."""
        return self._modules[module].gains

    def leaders(self, count: int) -> list[Numbers]:
        """Programs for the last race, the most promising first: all likely gains together, the incumbents, then the
        incumbents with one likely gain each."""
        likely: list[tuple[float, str, int]] = []
        best: dict[str, tuple[float, int]] = {}
        for name in self.names:
            entry = self._modules[name]
            posterior = entry.gains.posterior()
            for number in entry.tried:
                gain, _ = posterior.gap(number, entry.incumbent)
                if number != entry.incumbent and number in posterior.place and gain > 0:
                    likely.append((gain, name, number))
                    best[name] = max(best.get(name, (0.0, 0)), (gain, number))
        together = tuple(best[name][1] if name in best else self._modules[name].incumbent for name in self.names)
        singles = [self.swapped(name, number) for _, name, number in sorted(likely, reverse=True)]
        return list(dict.fromkeys([together, self.incumbent, *singles]))[:count]


def still_true(score: float, gain: float) -> float:
    """What an old trial counts for after the program's score rose from `score` by `gain`: effects scale with it."""
    after = score + gain
    return 1.0 if after <= 0 or gain <= 0 else max(0.0, min(1.0, (score / after) ** 2))
