"""The search space of an optimizer with a selector: texts x demonstration sets of every module, and the program
behind each point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from rollouts.dtypes import FewShotExample, Program, PromptTemplate, Sample, TextPart
from rollouts.prompt_optimization.demos import DemoSet, reformatted
from rollouts.prompt_optimization.proposers import Proposal
from rollouts.prompt_optimization.selection import Candidate, Space
from rollouts.prompt_optimization.splits import classes_of
from rollouts.prompt_optimization.types import ScoredProgram

Part = TextPart | Literal["demos"]


@dataclass(slots=True, kw_only=True)
class Factor:
    """One part of one module, and the alternatives for it; level 0 of a text is the start's."""

    module: str
    part: Part
    levels: list[Proposal | DemoSet]


class ProgramSpace:
    """Factors over the modules of `start`.

    `fits` says whether a module's prompt is short enough to be tried, `keeps` whether a program was not found to break
    another constraint since; the start is always allowed.
    """

    def __init__(
        self,
        start: Program,
        factors: Sequence[Factor],
        fits: Callable[[PromptTemplate, str], bool],
        keeps: Callable[[Program], bool] = lambda _: True,
    ) -> None:
        self.start_program, self.factors = start, list(factors)
        self.start: Candidate = tuple(_start_level(start, factor) for factor in factors)
        self._fits, self._keeps = fits, keeps
        self._programs: dict[Candidate, Program] = {self.start: start}
        self._templates: dict[tuple[str, tuple[int, ...]], PromptTemplate] = {}
        self._feasible = {(name, template.digest): True for name, template in start.modules.items()}

    def selection_space(self, samples: Sequence[Sample]) -> Space:
        """The space as selectors see it, over these samples."""
        levels = tuple(len(factor.levels) for factor in self.factors)
        classes = classes_of(samples)
        return Space(levels=levels, samples=len(samples), start=self.start, feasible=self.feasible, classes=classes)

    def texts(self) -> list[int]:
        """The factors whose levels are texts; they come first."""
        return [index for index, factor in enumerate(self.factors) if factor.part != "demos"]

    def text(self, factor: int, level: int) -> str:
        """A level of a factor of texts."""
        entry = self.factors[factor].levels[level]
        return entry.text if isinstance(entry, Proposal) else ""

    def demos(self) -> list[int]:
        """The factors whose levels are demonstration sets."""
        return [index for index, factor in enumerate(self.factors) if factor.part == "demos"]

    def demo_set(self, factor: int, level: int) -> DemoSet | None:
        """A level of a factor of demonstrations."""
        entry = self.factors[factor].levels[level]
        return entry if isinstance(entry, DemoSet) else None

    def add(self, factor: int, level: Proposal | DemoSet) -> None:
        """One more level of a factor."""
        self.factors[factor].levels.append(level)

    def levels(self, part: Part) -> int:
        """How many alternatives there are for such parts, over all modules."""
        return sum(len(factor.levels) for factor in self.factors if factor.part == part)

    def program(self, candidate: Candidate) -> Program:
        """The program of a candidate; the same object every time, as are its templates."""
        if candidate not in self._programs:
            modules = {name: self._template(name, candidate) for name in self.start_program.modules}
            self._programs[candidate] = self.start_program.with_modules(modules)
        return self._programs[candidate]

    def _template(self, module: str, candidate: Candidate) -> PromptTemplate:
        mine = [
            (factor, level) for factor, level in zip(self.factors, candidate, strict=True) if factor.module == module
        ]
        key = (module, tuple(level for _, level in mine))
        if key not in self._templates:
            self._templates[key] = self._made(self.start_program.modules[module], mine, candidate)
        return self._templates[key]

    def _made(self, start: PromptTemplate, mine: Sequence[tuple[Factor, int]], candidate: Candidate) -> PromptTemplate:
        chosen = {factor.part: factor.levels[level] for factor, level in mine}
        changes: dict[str, Any] = {
            part: entry.text
            for part, entry in chosen.items()
            if isinstance(entry, Proposal) and entry.source != "start"
        }
        demos: tuple[FewShotExample, ...] = start.few_shot_examples
        shown = chosen.get("demos")
        if isinstance(shown, DemoSet):
            demos = shown.examples
        if "user_template" in changes:
            demos = reformatted(demos, changes["user_template"])
        if not changes and demos == start.few_shot_examples:
            return start
        return start.replace(**changes, few_shot_examples=demos, generation=1, id=identity(candidate), score=None)

    def feasible(self, candidate: Candidate) -> bool:
        """Whether every module's prompt is within the limit on its length, and nothing else speaks against it."""
        if candidate == self.start:
            return True
        program = self.program(candidate)
        return self._keeps(program) and all(self._fitting(*module) for module in program.modules.items())

    def _fitting(self, module: str, template: PromptTemplate) -> bool:
        key = (module, template.digest)
        if key not in self._feasible:
            self._feasible[key] = self._fits(template, module)
        return self._feasible[key]

    def scored(self, candidate: Candidate, score: float | None, n: int) -> ScoredProgram:
        """The candidate's program with its score on validation."""
        made = candidate != self.start
        return ScoredProgram(
            program=self.program(candidate),
            score=score,
            n=n,
            id=identity(candidate),
            parents=(identity(self.start),) if made else (),
            generation=int(made),
        )

    def describe(self, candidate: Candidate) -> dict[str, Any]:
        """Where the parts of a candidate come from, for events and reports; by module where there are several."""
        out: dict[str, Any] = {"candidate": list(candidate)}
        parts: dict[str, dict[str, Any]] = {name: {} for name in self.start_program.modules}
        for factor, level in zip(self.factors, candidate, strict=True):
            entry = factor.levels[level]
            if isinstance(entry, DemoSet):
                parts[factor.module] |= {"demo_source": entry.source, "demos": len(entry.examples)}
            else:
                name = "instruction_source" if factor.part == "system" else "user_template_source"
                parts[factor.module] |= {name: entry.source}
        return out | (next(iter(parts.values())) if len(parts) == 1 else {"modules": parts})


def identity(candidate: Candidate) -> str:
    """The candidate's name within its run."""
    return "c" + "-".join(str(level) for level in candidate)


def _start_level(start: Program, factor: Factor) -> int:
    if factor.part != "demos":
        return 0
    own = start.modules[factor.module].few_shot_examples
    return next(i for i, entry in enumerate(factor.levels) if isinstance(entry, DemoSet) and entry.examples == own)


class ListedSpace:
    """Candidates that were made one by one, as a space of one factor. The first is the start."""

    def __init__(self, entries: Sequence[ScoredProgram]) -> None:
        self._entries = list(entries)
        self.start: Candidate = (0,)

    def selection_space(self, samples: Sequence[Sample]) -> Space:
        """The space as selectors see it, over these samples."""
        levels = (len(self._entries),)
        return Space(levels=levels, samples=len(samples), start=self.start, classes=classes_of(samples))

    def program(self, candidate: Candidate) -> Program:
        """The program of a candidate."""
        return self._entries[candidate[0]].program

    def scored(self, candidate: Candidate, score: float | None, n: int) -> ScoredProgram:
        """The candidate with its score on validation."""
        return replace(self._entries[candidate[0]], score=score, n=n)

    def describe(self, candidate: Candidate) -> dict[str, Any]:
        """Name and origin of a candidate, for events and reports."""
        entry = self._entries[candidate[0]]
        return {"candidate": list(candidate), "id": entry.id, "parents": list(entry.parents)}


class Programs(Protocol):
    """What the final race needs to know about candidates."""

    @property
    def start(self) -> Candidate: ...
    def program(self, candidate: Candidate) -> Program: ...
    def scored(self, candidate: Candidate, score: float | None, n: int) -> ScoredProgram: ...
    def describe(self, candidate: Candidate) -> dict[str, Any]: ...
