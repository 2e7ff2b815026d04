"""The search space of MIPRO: instructions x demonstration sets, and the prompt behind each point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rollouts.dtypes import Program, PromptTemplate
from rollouts.prompt_optimization.demos import DemoSet
from rollouts.prompt_optimization.proposers import Proposal
from rollouts.prompt_optimization.selection import Candidate, Space

INSTRUCTION, DEMOS = 0, 1


class PromptSpace:
    """Two factors over one template. Level 0 of the first is the starting instruction.

    `fits` says whether a prompt is short enough to be tried; the start is always allowed.
    """

    def __init__(
        self,
        start: PromptTemplate,
        instructions: Sequence[Proposal],
        demo_sets: Sequence[DemoSet],
        fits: Callable[[PromptTemplate], bool],
    ) -> None:
        self.start_template = start
        self.instructions = [Proposal(text=start.system, source="start"), *instructions]
        self.demo_sets = list(demo_sets)
        own = next(i for i, entry in enumerate(self.demo_sets) if entry.examples == start.few_shot_examples)
        self.start: Candidate = (0, own)
        self._fits = fits
        self._templates: dict[Candidate, PromptTemplate] = {self.start: start}
        self._feasible: dict[Candidate, bool] = {self.start: True}

    def selection_space(self, samples: int) -> Space:
        """The space as selectors see it."""
        levels = (len(self.instructions), len(self.demo_sets))
        return Space(levels=levels, samples=samples, start=self.start, feasible=self.feasible)

    def template(self, candidate: Candidate) -> PromptTemplate:
        """The prompt of a candidate; the same object every time."""
        if candidate not in self._templates:
            instruction, demos = self.instructions[candidate[INSTRUCTION]], self.demo_sets[candidate[DEMOS]]
            self._templates[candidate] = PromptTemplate(
                system=instruction.text,
                user_template=self.start_template.user_template,
                few_shot_examples=demos.examples,
                generation=1,
                id="c" + "-".join(str(level) for level in candidate),
            )
        return self._templates[candidate]

    def scored(self, candidate: Candidate, score: float) -> PromptTemplate:
        """The prompt with its score on validation."""
        return replace(self.template(candidate), score=score)

    def program(self, candidate: Candidate) -> Program:
        """The candidate as a one-module program."""
        return Program.single(self.template(candidate))

    def feasible(self, candidate: Candidate) -> bool:
        """Whether the prompt is within the limit on its length."""
        if candidate not in self._feasible:
            self._feasible[candidate] = self._fits(self.template(candidate))
        return self._feasible[candidate]

    def describe(self, candidate: Candidate) -> dict[str, Any]:
        """Where the parts of a candidate come from, for events and reports."""
        instruction, demos = self.instructions[candidate[INSTRUCTION]], self.demo_sets[candidate[DEMOS]]
        return {
            "candidate": list(candidate),
            "instruction_source": instruction.source,
            "demo_source": demos.source,
            "demos": len(demos.examples),
        }
