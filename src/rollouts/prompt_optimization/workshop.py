"""Makes candidates of single modules for controlled swaps: texts by proposers and by reflection, and demonstration
sets. Each changes one part of the module's incumbent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rollouts.dtypes import Program, PromptTemplate, Sample
from rollouts.evaluation.summary import is_missing
from rollouts.prompt_optimization.demos import DemoSet, reformatted
from rollouts.prompt_optimization.proposers import Proposal, Proposer, Tried
from rollouts.prompt_optimization.reflection import Reflection, Reflector, Rejected, records_of
from rollouts.prompt_optimization.scheduling.swaps import Swaps
from rollouts.prompt_optimization.scheduling.trials import Numbers
from rollouts.prompt_optimization.study import Study, cells_of
from rollouts.prompt_optimization.targets import Target
from rollouts.prompt_optimization.traces import traces_of

SHOWN = 4
"""Rollouts that a reflection reads."""
_FIRST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers:
    """Where new texts come from: proposers, which see what was tried and its scores, and a reflector, which sees runs
    that went wrong; None leaves it out."""

    proposers: Sequence[Proposer]
    reflector: Reflector | None = None


class WorkshopSettings(Protocol):
    """How many texts may be made, and from what; see `RMIPROConfig`."""

    @property
    def num_candidates(self) -> int: ...
    @property
    def perfect_score(self) -> float: ...


@dataclass(slots=True, kw_only=True)
class _Candidate:
    """A change of one part, and the template that it made of the incumbent when it was first tried."""

    change: Proposal | DemoSet | None
    target: Target | None = None
    template: PromptTemplate | None = None
    tried: bool = False

    @property
    def source(self) -> str:
        return "start" if self.change is None else self.change.source


class Workshop:
    """The candidates behind the numbers of `swaps`. Every text of the program may be rewritten up to
    `settings.num_candidates` times."""

    def __init__(
        self,
        study: Study,
        start: Program,
        targets: Sequence[Target],
        writers: Writers,
        swaps: Swaps,
        settings: WorkshopSettings,
    ) -> None:
        self._study, self._start, self._writers, self._swaps = study, start, writers, swaps
        self._perfect = settings.perfect_score
        self._targets = {name: [t for t in targets if t.module == name] for name in start.modules}
        self._left = {(t.module, t.part): settings.num_candidates for t in targets}
        self._calls = dict.fromkeys(start.modules, 0)
        self._barren = dict.fromkeys(start.modules, 0)
        self._entries = {
            name: [_Candidate(change=None, template=template, tried=True)] for name, template in start.modules.items()
        }
        self._digests = {name: {template.digest} for name, template in start.modules.items()}
        self._programs: dict[Numbers, Program] = {}
        self.reflected = 0

    # ── making ──

    async def open(self, demo_sets: Mapping[str, Sequence[DemoSet]]) -> None:
        """The first candidates: a few texts of every module, and all demonstration sets, in turns."""
        texts = {name: await self._first_texts(name) for name in self._start.modules}
        for name, sets in demo_sets.items():
            waiting: list[tuple[Proposal | DemoSet, Target | None]] = []
            others: list[tuple[Proposal | DemoSet, Target | None]] = [(entry, None) for entry in sets]
            for pair in texts[name]:
                waiting += [pair, *others[:1]]
                others = others[1:]
            for change, target in waiting + others:
                self._add(name, change, target)

    async def _first_texts(self, name: str) -> list[tuple[Proposal | DemoSet, Target | None]]:
        out: list[tuple[Proposal | DemoSet, Target | None]] = []
        for target in self._targets[name]:
            count = min(_FIRST, self._left[name, target.part])
            self._left[name, target.part] -= count
            out += [(text, target) for text in await target.propose(self._writers.proposers, count)]
        return out

    def _add(self, name: str, change: Proposal | DemoSet, target: Target | None) -> None:
        self._entries[name].append(_Candidate(change=change, target=target))
        self._swaps.add(name)

    def unmade(self, name: str) -> int:
        """Texts of a module that may still be written; none when the last attempts gave nothing."""
        if self._barren[name] > 2 * len(self._targets[name]):
            return 0
        return sum(count for (module, _), count in self._left.items() if module == name)

    async def prepare(self, name: str, count: int, train: Sequence[Sample]) -> None:
        """Sees to it that, if possible, `count` untried candidates of a module can be run: drops those that cannot, and
        writes new texts."""
        while True:
            usable = sum(self._usable(name, number) for number in self._swaps.untried(name))
            if usable >= count or not self.unmade(name):
                return
            await self._write(name, count - usable, train)

    def _usable(self, name: str, number: int) -> bool:
        """Makes the candidate's template from the incumbent; False, and it is dropped, when it is nothing new or too
        long."""
        entry = self._entries[name][number]
        base = self._entries[name][self._now(name)].template or self._start.modules[name]
        entry.template = _changed(base, entry)
        if entry.template.digest in self._digests[name] or not self._study.fits(entry.template, name):
            self._swaps.drop(name, number)
            return False
        return True

    def _now(self, name: str) -> int:
        return self._swaps.incumbent[self._swaps.names.index(name)]

    async def _write(self, name: str, count: int, train: Sequence[Sample]) -> None:
        """New texts for one of the module's parts, by proposers and by reflection in turn."""
        targets = [target for target in self._targets[name] if self._left[name, target.part]]
        turn = self._calls[name]
        self._calls[name] += 1
        target = targets[turn % len(targets)]
        count = min(count, self._left[name, target.part])
        self._left[name, target.part] -= count
        texts: list[Proposal] = []
        if self._writers.reflector is not None and turn // len(targets) % 2 == 0:
            texts = await self._reflect(self._writers.reflector, target, count, train)
        if not texts:
            texts = await target.propose(
                self._writers.proposers, count, tried=self._tried(target), number=self._calls[name]
            )
        self._barren[name] = 0 if texts else self._barren[name] + 1
        for text in texts:
            self._add(name, text, target)

    async def _reflect(
        self, reflector: Reflector, target: Target, count: int, train: Sequence[Sample]
    ) -> list[Proposal]:
        """Rewrites of the incumbent's text, each made from other training rows on which something went wrong."""
        program, name = self.program(self._swaps.incumbent), target.module
        out = []
        for step in range(count):
            number = self._calls[name] * 100 + step
            rows = [train[(number * SHOWN + i) % len(train)] for i in range(min(SHOWN, len(train)))]
            evaluations = await self._study.evaluate(cells_of(program, rows), phase="search")
            self.reflected += len(rows)
            pairs = [(row, e) for row, e in zip(rows, evaluations, strict=True) if not is_missing(e)]
            if not any(e.value is None or e.value < self._perfect for _, e in pairs):
                continue
            template = program.modules[name]
            told = [(row, e, traces_of(program, row, e)) for row, e in pairs]
            others = {other: t.system for other, t in program.modules.items() if other != name}
            rewrite = await reflector.reflect(
                Reflection(
                    context=replace(target.context, template=template, others=others),
                    records=records_of(template, name, told),
                    rejected=self._rejected(target),
                    check=target.guard,
                    number=number * len(self._start.modules) + list(self._start.modules).index(name),
                )
            )
            if rewrite.text is not None:
                target.guard.remember(rewrite.text)
                out.append(Proposal(text=rewrite.text, source="reflection"))
        return out

    def _compared(self, target: Target) -> list[tuple[str, float, int]]:
        """Texts of the target that were tried: expected gain over the incumbent, and which number they have."""
        posterior = self._swaps.gains(target.module).posterior()
        now = self._now(target.module)
        return [
            (entry.change.text, posterior.gap(number, now)[0], number)
            for number, entry in enumerate(self._entries[target.module])
            if isinstance(entry.change, Proposal) and entry.target is target and number in posterior.place
        ]

    def _tried(self, target: Target) -> list[Tried]:
        score = self._swaps.mean(self._swaps.incumbent) or 0.0
        found = [
            Tried(text=text, score=score + gain, n=self._swaps.compared(target.module, number))
            for text, gain, number in self._compared(target)
        ]
        return sorted(found, key=lambda entry: -entry.score)

    def _rejected(self, target: Target) -> list[Rejected]:
        return [
            Rejected(text=text, reason=f"{gain:+.2f} expected against the text now")
            for text, gain, _ in self._compared(target)
            if gain < 0
        ]

    # ── programs ──

    def take(self, name: str, number: int) -> None:
        """The candidate is tried now: its template stays as it is from here on."""
        entry = self._entries[name][number]
        if entry.template is not None:
            entry.tried = True
            self._digests[name].add(entry.template.digest)

    def program(self, numbers: Numbers) -> Program:
        """The program of these candidates; the same object every time."""
        if numbers not in self._programs:
            changed = {}
            for name, number in zip(self._swaps.names, numbers, strict=True):
                template = self._entries[name][number].template
                if number and template is not None:
                    changed[name] = template
            self._programs[numbers] = self._start.with_modules(changed) if changed else self._start
        return self._programs[numbers]

    def describe(self, name: str, number: int) -> dict[str, Any]:
        """Where a candidate comes from, for events."""
        entry = self._entries[name][number]
        part = "demos" if entry.target is None else entry.target.part
        return {"module": name, "candidate": number, "part": part, "source": entry.source}


def _changed(base: PromptTemplate, entry: _Candidate) -> PromptTemplate:
    """The incumbent's template with the candidate's change."""
    if isinstance(entry.change, DemoSet):
        return base.replace(few_shot_examples=reformatted(entry.change.examples, base.user_template), score=None)
    if entry.change is None or entry.target is None:
        return base
    changes: dict[str, Any] = {entry.target.part: entry.change.text}
    if entry.target.part == "user_template":
        changes["few_shot_examples"] = reformatted(base.few_shot_examples, entry.change.text)
    return base.replace(**changes, generation=1, score=None)
