"""One generation of an evolutionary search: which children to make, and what is learnt from each.

What is decided (kinds, parents, samples) is decided before the generation's first call, from a seed and what was told
before; children then run side by side and are told in the order in which they were planned. So a run takes the same
decisions whatever the order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from rollouts.dtypes import Evaluation, Program, PromptTemplate
from rollouts.prompt_optimization.attempt import Setting, attempt
from rollouts.prompt_optimization.configs import GEPAConfig
from rollouts.prompt_optimization.demos import DemoSet, reformatted
from rollouts.prompt_optimization.merge import merge_programs
from rollouts.prompt_optimization.objectives import objectives
from rollouts.prompt_optimization.offspring import KINDS, Child, Kind, Outcome, text_of, with_text
from rollouts.prompt_optimization.pool import Member, Pool
from rollouts.prompt_optimization.reflection import Reflector, Rejected
from rollouts.prompt_optimization.selection.gate import Gate
from rollouts.prompt_optimization.splits import Splits
from rollouts.prompt_optimization.study import Study, cells_of
from rollouts.prompt_optimization.targets import Target

_MINIBATCHES = 3
_DEMOS_SHARE = 1 / 3


class Evolution:
    """Plans children, tries them, and keeps what was learnt. `baseline` are the start's rollouts on `data.val`.

    `left` is how many rollouts it may still take; set it before the first generation.
    """

    def __init__(
        self,
        study: Study,
        start: Program,
        baseline: Sequence[Evaluation],
        targets: Sequence[Target],
        reflector: Reflector,
        data: Splits,
        config: GEPAConfig,
    ) -> None:
        self.config, self.data, self.targets = config, data, list(targets)
        scores = {i: e.value for i, e in enumerate(baseline) if e.value is not None}
        self.pool = Pool(start, scores, samples=len(data.val), size=config.population_size, elite=config.elite_size)
        self.pool.start.objectives = objectives(study, start, baseline, config.objective)
        scale = width(scores.values())
        self.setting = Setting(
            study=study,
            pool=self.pool,
            reflector=reflector,
            data=data,
            config=config,
            gates={kind: Gate(len(data.val), scale=scale) for kind in KINDS},
            paid={(start.digest, data.val[i].digest) for i in scores},
        )
        self._rng = Random(f"rollouts-gepa-{config.seed}")
        self._demo_sets: list[tuple[str, DemoSet]] = []
        self._waiting: list[tuple[Kind, Program]] = []
        self.left = 0
        self._made = self._spent = self._turn = 0

    def seed(
        self,
        programs: Iterable[Program],
        demo_sets: Mapping[str, Sequence[DemoSet]],
        known: Iterable[Evaluation],
    ) -> None:
        """Candidates to try first, demonstration sets (by module) that children may be given, and rollouts of the start
        on training samples that were made for other reasons. Where there are demonstrations, the very first child is
        the start with some: a start that is never right without them gives reflection nothing to go by."""
        start, place = self.pool.start, {sample.id: i for i, sample in enumerate(self.data.train)}
        for evaluation in known:
            if evaluation.value is not None:
                row = place[evaluation.sample_id]
                start.train[row] = evaluation.value
                self.setting.paid.add((start.program.digest, self.data.train[row].digest))
        self._demo_sets = [(name, entry) for name in sorted(demo_sets) for entry in demo_sets[name]]
        shown = {name: entry for name, entry in reversed(self._demo_sets) if entry.examples}
        first: list[tuple[Kind, Program]] = [("demos", _with_demos(start.program, shown))]
        first += [("rule", program) for program in programs]
        self._waiting += [(kind, program) for kind, program in first if not self.pool.known(program)]

    def plan(self, generations: int, *, most: int) -> list[Child]:
        """The next generation: as many children, up to `most`, as let the rollouts last for `generations`, and 1 at
        least."""
        usual = (self._spent + 2 * self.config.usual_rollouts) / (self._made + 2)
        count = max(1, min(most, math.ceil(self.left / usual / generations)))
        return [self._child(self.left // count) for _ in range(count)]

    async def attempt(self, child: Child) -> Outcome:
        """Makes the child and compares it with its parent."""
        return await attempt(self.setting, child)

    def _child(self, allowance: int) -> Child:
        self._made += 1
        config, rng = self.config, self._rng
        if self._waiting:
            kind, program = self._waiting.pop(0)
            return self._ready(kind, (self.pool.start,), program, allowance)
        if rng.random() < config.crossover_rate and (pair := self._merged()):
            parents, merged = pair
            child = self._ready("merge", parents, merged, allowance)
            return self._to_rewrite(child) if self.targets and rng.random() < config.mutation_rate else child
        parent = self.pool.parent(rng, config.selection)
        if self._demo_sets and (not self.targets or rng.random() < _DEMOS_SHARE):
            other = self._with_other_demos(parent)
            if other is not None:
                return self._ready("demos", (parent,), other, allowance)
        return self._to_rewrite(self._planned("mutation", (parent,), allowance))

    def _planned(self, kind: Kind, parents: tuple[Member, ...], allowance: int) -> Child:
        return Child(number=self._made, kind=kind, parents=parents, order=self._order(parents[0]), allowance=allowance)

    def _order(self, parent: Member) -> tuple[int, ...]:
        """All validation samples in the order of comparison: those that the parent has a score on cost half."""
        known = parent.scores
        return (*sorted(known), *(i for i in range(len(self.data.val)) if i not in known))

    def _ready(self, kind: Kind, parents: tuple[Member, ...], program: Program, allowance: int) -> Child:
        self.pool.remember(program)
        return replace(self._planned(kind, parents, allowance), program=program)

    def _to_rewrite(self, child: Child) -> Child:
        return replace(child, targets=self._chosen(child.parent), minibatches=self._minibatches(child.parent))

    def _merged(self) -> tuple[tuple[Member, ...], Program] | None:
        """Two parents (the better first) and the program that has the changes of both; None when there is none new."""
        mates = self.pool.mates(self._rng)
        if mates is None:
            return None
        ancestor, better, worse = mates
        merged = merge_programs(ancestor.program, better.program, worse.program)
        for target in self.targets:
            text = text_of(merged.modules[target.module], target.part)
            sources = [text_of(mate.program.modules[target.module], target.part) for mate in (better, worse)]
            if text not in sources and target.guard(text) is not None:
                text = sources[0]  # a merge may outgrow the limit or tear a frozen text
            merged = with_text(merged, target.module, target.part, text)
        return None if self.pool.known(merged) else ((better, worse), merged)

    def _chosen(self, parent: Member) -> tuple[Target, ...]:
        """The texts to rewrite: in turn, all, or those of the module that scores worst."""
        if self.config.component == "all":
            return tuple(self.targets)
        mine = [target for target in self.targets if target.module == parent.weakest]
        choice = mine if self.config.component == "credit" and mine else self.targets
        self._turn += 1
        return (choice[(self._turn - 1) % len(choice)],) if choice else ()

    def _minibatches(self, parent: Member) -> tuple[tuple[int, ...], ...]:
        """Samples on which the parent is known to fail, and ones it was never run on, before those it got right."""
        right = [i for i, score in parent.train.items() if score >= self.config.perfect_score]
        rest = sorted(set(range(len(self.data.train))).difference(right))
        size = min(self.config.minibatch_size, len(self.data.train))
        most = _MINIBATCHES * size
        order = self._rng.sample(rest, min(most, len(rest)))
        order += self._rng.sample(right, min(most - len(order), len(right)))
        return tuple(tuple(order[i * size : (i + 1) * size]) for i in range(_MINIBATCHES) if order[i * size :])

    def _with_other_demos(self, parent: Member) -> Program | None:
        """The parent with a demonstration set that it was not tried with, in one of its modules."""
        for name, entry in self._rng.sample(self._demo_sets, len(self._demo_sets)):
            program = _with_demos(parent.program, {name: entry})
            if not self.pool.known(program):
                return program
        return None

    def settle(self, outcome: Outcome, generation: int) -> tuple[Member | None, int]:
        """Takes note of an outcome; returns the new member when the child was accepted, and how many rollouts it took
        that no other had paid for. Call it in the order of planning."""
        child, parent, setting = outcome.child, outcome.child.parent, self.setting
        fresh = len(outcome.paid - setting.paid) + outcome.unscored
        setting.paid |= outcome.paid
        self._spent += fresh
        self.left -= fresh
        self.pool.record(parent, outcome.theirs.val)
        parent.train.update(outcome.theirs.train)
        parent.weakest = outcome.weakest or parent.weakest
        if outcome.program is not None and child.targets and self.pool.known(outcome.program):
            outcome.reason, outcome.verdict = "another child of this generation is the same", None
            return None, fresh
        if outcome.verdict is not None:
            setting.gates[child.kind].learn(outcome.verdict)
        member = self._joined(outcome, generation) if outcome.accepted else None
        if member is None:
            self._note_rejected(outcome)
        return member, fresh

    async def reached(self, score: float | None) -> bool:
        """Whether the incumbent has this mean score on all validation samples; it is run on what it lacks of them when
        it may have."""
        incumbent, study = self.pool.incumbent, self.setting.study
        if score is None or max(incumbent.estimate, incumbent.mean or 0.0) < score:
            return False
        missing = [i for i in range(len(self.data.val)) if i not in incumbent.scores]
        if len(missing) > self.left:
            return False
        samples = [self.data.val[i] for i in missing]
        evaluations = await study.evaluate(cells_of(incumbent.program, samples), phase="search")
        self.left -= len(missing)
        scores = {i: e.value for i, e in zip(missing, evaluations, strict=True) if e.value is not None}
        self.pool.record(incumbent, scores)
        self.setting.paid.update((incumbent.program.digest, self.data.val[i].digest) for i in scores)
        return incumbent.mean is not None and incumbent.mean >= score

    def _joined(self, outcome: Outcome, generation: int) -> Member | None:
        program, verdict = outcome.program, outcome.verdict
        if program is None or verdict is None:
            return None
        member = self.pool.add(
            program,
            outcome.mine.val,
            parents=tuple(entry.number for entry in outcome.child.parents),
            estimate=outcome.child.parent.estimate + verdict.gap,
            generation=generation,
        )
        member.train = dict(outcome.mine.train)
        member.objectives = objectives(self.setting.study, program, outcome.measured, self.config.objective)
        return member

    def _note_rejected(self, outcome: Outcome) -> None:
        if outcome.program is not None:
            self.pool.remember(outcome.program)
        for target in outcome.child.targets:
            if text := outcome.text(target):
                notes = self.setting.rejected.setdefault((target.module, target.part), [])
                notes.append(Rejected(text=text, reason=outcome.reason))


def width(scores: Iterable[float]) -> float:
    """The width of the range of scores."""
    known = list(scores)
    return max(known, default=0.0) - min(known, default=0.0)


def _with_demos(program: Program, sets: Mapping[str, DemoSet]) -> Program:
    """The program with other demonstrations in some modules; they follow the user template they stand with."""
    return program.with_modules({name: _shows(program.modules[name], entry) for name, entry in sets.items()})


def _shows(template: PromptTemplate, entry: DemoSet) -> PromptTemplate:
    return template.replace(few_shot_examples=reformatted(entry.examples, template.user_template), score=None)
