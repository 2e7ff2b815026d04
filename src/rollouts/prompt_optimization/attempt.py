"""One child is made and compared with its parent: rewrite, minibatch, gate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rollouts.dtypes import Evaluation, Program, Sample, TextPart
from rollouts.evaluation.summary import is_missing
from rollouts.prompt_optimization.configs import GEPAConfig
from rollouts.prompt_optimization.objectives import objectives
from rollouts.prompt_optimization.offspring import Child, Kind, Outcome, Paid, weakest_module, with_text
from rollouts.prompt_optimization.pool import Pool
from rollouts.prompt_optimization.reflection import Reflection, Reflector, Rejected, records_of
from rollouts.prompt_optimization.selection.gate import Gate
from rollouts.prompt_optimization.splits import Splits
from rollouts.prompt_optimization.study import Study, cells_of
from rollouts.prompt_optimization.traces import traces_of

_CHEAPER = 0.95
_TOLERANCE = 0.03
_TOO_LITTLE = "its share of the budget does not pay for a comparison"
_NO_BUDGET = "the budget or the run ended before its rollouts"


@dataclass(slots=True, kw_only=True)
class Setting:
    """What all children of a run share. It changes between generations only, so that children may be tried in any
    order: `rejected` rewrites by module and text, `paid` rollouts, what the gates have learnt, and the pool."""

    study: Study
    pool: Pool
    reflector: Reflector
    data: Splits
    config: GEPAConfig
    gates: Mapping[Kind, Gate]
    rejected: dict[tuple[str, TextPart], list[Rejected]] = field(default_factory=dict)
    paid: set[Paid] = field(default_factory=set)


async def attempt(setting: Setting, child: Child) -> Outcome:
    """Makes the child and compares it with its parent; spends no more than its allowance."""
    return await _Attempt(setting, child).run()


class _Attempt:
    def __init__(self, setting: Setting, child: Child) -> None:
        self.setting, self.study, self.config, self.child = setting, setting.study, setting.config, child
        self.outcome = Outcome(child=child, program=child.program)

    async def run(self) -> Outcome:
        child, outcome = self.child, self.outcome
        program = child.program
        if child.targets and (program is None or self._fits(program)):
            program = await self._rewrite()
        if program is None:
            return outcome
        outcome.program = program
        if not self._fits(program):
            outcome.reason = "its prompt is longer than the constraint allows"
        elif child.kind != "mutation" or await self._better_on_minibatch(program):
            await self._through_gate(program)
        return outcome

    def _fits(self, program: Program) -> bool:
        return all(self.study.fits(template, name) for name, template in program.modules.items())

    async def _rewrite(self) -> Program | None:
        """The parent (or the merged child) with its texts rewritten from what happens on a minibatch."""
        child, outcome, setting = self.child, self.outcome, self.setting
        program = child.program or child.parent.program
        runs = await self._something_to_mend(program)
        told = [(sample, evaluation, traces_of(program, sample, evaluation)) for sample, evaluation in runs]
        ran = program
        for target in child.targets if runs else ():
            template = program.modules[target.module]
            others = {name: other.system for name, other in ran.modules.items() if name != target.module}
            reflection = Reflection(
                context=replace(target.context, template=template, others=others),
                records=records_of(template, target.module, told),
                rejected=tuple(setting.rejected.get((target.module, target.part), ())),
                check=target.guard,
                number=child.number,
            )
            rewrite = await setting.reflector.reflect(reflection)
            outcome.remark = rewrite.remark
            if rewrite.text is None:
                outcome.reason, outcome.refused = rewrite.reason, rewrite.refused
                return None
            program = with_text(program, target.module, target.part, rewrite.text)
        if runs and setting.pool.known(program):
            outcome.reason = "the same program was tried before"
            return None
        return program if runs else None

    async def _something_to_mend(self, program: Program) -> list[tuple[Sample, Evaluation]]:
        """The rollouts of the first minibatch on which not everything is perfect; empty when all are."""
        child, outcome, train = self.child, self.outcome, self.setting.data.train
        outcome.reason = "nothing went wrong on the samples that it was shown"
        for batch in child.minibatches:
            samples = [train[i] for i in batch]
            if not self._affords((program, samples)):
                outcome.reason = "its share of the budget ended before anything went wrong"
                break
            evaluations = await self._evaluate(program, samples)
            outcome.shown = _scored(batch, evaluations)
            if child.program is None:
                outcome.theirs.train |= outcome.shown
                outcome.weakest = weakest_module(evaluations) or outcome.weakest
            runs = [(sample, e) for sample, e in zip(samples, evaluations, strict=True) if not is_missing(e)]
            if not runs:
                outcome.reason = _NO_BUDGET
                break
            if any(e.value is None or e.value < self.config.perfect_score for _, e in runs):
                outcome.reason = ""
                return runs
        return []

    async def _better_on_minibatch(self, program: Program) -> bool:
        """Whether the child scores more than its parent on the samples that its rewrite was made from."""
        outcome, before = self.outcome, self.outcome.shown
        if not before:
            return True  # all of the parent's rollouts failed: there is nothing to compare with
        samples = [self.setting.data.train[i] for i in before]
        if not self._affords((program, samples)):
            outcome.reason = _TOO_LITTLE
            return False
        evaluations = await self._evaluate(program, samples)
        if self._breaks(program, evaluations):
            return False
        outcome.mine.train = after = _scored(list(before), evaluations)
        if not after:
            outcome.reason = why_unscored(evaluations)
            return False
        old, new = outcome.minibatch = sum(before[i] for i in after), sum(after.values())
        if new <= old:
            outcome.reason = f"no better on the {len(after)} samples it was made from ({new:g} against {old:g})"
        return new > old

    async def _through_gate(self, program: Program) -> None:
        """Compares child and parent on validation samples, in growing blocks, until the gate decides."""
        child, outcome, val = self.child, self.outcome, self.setting.data.val
        gate, order = self.setting.gates[child.kind], child.order
        place = 0
        while True:
            differences = self._differences(order[:place])
            margin = _TOLERANCE if self._is_cheaper(program) else 0.0
            verdict = outcome.verdict = gate.judge(differences, left=len(order) - place, margin=margin)
            if verdict.decision != "more":
                break
            block = order[place : place + gate.block(place)]
            missing = [i for i in block if i not in child.parent.scores]
            parent = child.parent.program
            if self.study.stopping or not self._affords(
                (program, [val[i] for i in block]), (parent, [val[i] for i in missing])
            ):
                better: Literal["accept", "reject"] = "accept" if differences and verdict.gap > 0 else "reject"
                outcome.verdict = verdict = replace(verdict, decision=better)
                break
            mine, theirs = await asyncio.gather(
                self._evaluate(program, [val[i] for i in block]), self._evaluate(parent, [val[i] for i in missing])
            )
            outcome.measured += mine
            outcome.mine.val |= _scored(block, mine)
            outcome.theirs.val |= _scored(missing, theirs)
            place += len(block)
            if self._breaks(program, mine):
                outcome.verdict = replace(verdict, decision="reject")
                return
        if verdict.decision == "reject":
            outcome.reason = self._why_rejected(len(differences), place)

    def _breaks(self, program: Program, evaluations: Sequence[Evaluation]) -> bool:
        """Whether the child is now known to break a constraint."""
        violations = self.study.violations
        violations.note(program, evaluations)
        broken = violations.infeasible.get(program.digest, ())
        if broken:
            self.outcome.reason = "; ".join(broken)
        return bool(broken)

    def _why_rejected(self, compared: int, place: int) -> str:
        if compared and self.outcome.verdict is not None:
            return f"a gap of {self.outcome.verdict.gap:+.3f} expected after {compared} validation samples"
        if not place:
            return _NO_BUDGET if self.study.stopping else _TOO_LITTLE
        if self.outcome.mine.val:
            return "the parent has no score on the samples that the child was compared on"
        return why_unscored(self.outcome.measured)

    def _differences(self, samples: Sequence[int]) -> list[float]:
        """Child minus parent on the samples where both have a score."""
        mine, new, known = self.outcome.mine.val, self.outcome.theirs.val, self.child.parent.scores
        before = {i: new[i] if i in new else known[i] for i in samples if i in new or i in known}
        return [mine[i] - before[i] for i in samples if i in before and i in mine]

    def _is_cheaper(self, program: Program) -> bool:
        """Whether the child is better by 5 % or more in an objective other than the score."""
        if len(self.config.objective) < 2:
            return False
        known = self.child.parent.objectives
        mine = objectives(self.study, program, self.outcome.measured, self.config.objective)
        return any(value < _CHEAPER * known[name] for name, value in mine.items() if name in known)

    async def _evaluate(self, program: Program, samples: Sequence[Sample]) -> list[Evaluation]:
        evaluations = await self.study.evaluate(cells_of(program, samples), phase="search")
        outcome, paid = self.outcome, self.setting.paid
        for sample, evaluation in zip(samples, evaluations, strict=True):
            pair = (program.digest, sample.digest)
            if evaluation.value is None:
                outcome.unscored += 1
            elif pair not in paid:
                outcome.paid.add(pair)
        return evaluations

    def _affords(self, *wanted: tuple[Program, Sequence[Sample]]) -> bool:
        pairs = [(program.digest, sample.digest) for program, samples in wanted for sample in samples]
        new = [pair for pair in pairs if pair not in self.setting.paid and pair not in self.outcome.paid]
        return self.outcome.spent + len(new) <= self.child.allowance


def _scored(samples: Sequence[int], evaluations: Sequence[Evaluation]) -> dict[int, float]:
    return {i: e.value for i, e in zip(samples, evaluations, strict=True) if e.value is not None}


def why_unscored(evaluations: Sequence[Evaluation]) -> str:
    """Why none of these rollouts has a score."""
    failures = [e.failure for e in evaluations if e.failure is not None]
    ran = [failure for failure in failures if failure.stage != "budget"]
    return f"no rollout has a score: {ran[0].kind}: {ran[0].message}" if ran else _NO_BUDGET
