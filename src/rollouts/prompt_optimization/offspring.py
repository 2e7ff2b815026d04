"""A child of an evolutionary search: what was planned of it, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rollouts.dtypes import Evaluation, Program, PromptTemplate, TextPart
from rollouts.prompt_optimization.demos import reformatted
from rollouts.prompt_optimization.pool import Member
from rollouts.prompt_optimization.selection.gate import GateVerdict
from rollouts.prompt_optimization.targets import Target

Kind = Literal["mutation", "merge", "rule", "demos"]
KINDS: tuple[Kind, ...] = ("mutation", "merge", "rule", "demos")
Paid = tuple[str, str]
"""Digests of program and sample of a rollout that has a score already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A candidate to be made. `program` is set where it takes no call to make it; `targets` are the texts to rewrite.

    `minibatches` are training samples (indices) to reflect on, the later ones for the case that nothing goes wrong on
    the earlier. `order` holds the validation samples in the order of comparison. `allowance` is the most rollouts that
    it may take.
    """

    number: int
    kind: Kind
    parents: tuple[Member, ...]
    targets: tuple[Target, ...] = ()
    program: Program | None = None
    minibatches: tuple[tuple[int, ...], ...] = ()
    order: tuple[int, ...] = ()
    allowance: int

    @property
    def parent(self) -> Member:
        """The one that it is compared with: the better of two."""
        return self.parents[0]


@dataclass(slots=True)
class Scores:
    """Scores by sample index, of training and of validation samples."""

    train: dict[int, float] = field(default_factory=dict)
    val: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a child. `mine` are its scores, `theirs` new ones of its parent.

    `shown` are the scores of the program that was rewritten, on the samples that the rewrite was made from; `minibatch`
    are the sums of parent and child on them. `reason` says why there is no child or why it was rejected, `refused` is a
    text that broke a rule, `remark` what is odd about one that did not. `paid` are the rollouts with a score that had
    none before the generation, `unscored` counts those that got none.
    """

    child: Child
    program: Program | None = None
    reason: str = ""
    refused: str = ""
    remark: str = ""
    verdict: GateVerdict | None = None
    mine: Scores = field(default_factory=Scores)
    theirs: Scores = field(default_factory=Scores)
    shown: dict[int, float] = field(default_factory=dict)
    minibatch: tuple[float, float] | None = None
    weakest: str = ""
    measured: list[Evaluation] = field(default_factory=list)
    paid: set[Paid] = field(default_factory=set)
    unscored: int = 0

    @property
    def ran(self) -> bool:
        """Whether the child has a score."""
        return bool(self.mine.train or self.mine.val)

    @property
    def spent(self) -> int:
        """Rollouts that were new to the child."""
        return len(self.paid) + self.unscored

    @property
    def accepted(self) -> bool:
        """Whether the child is good enough for the pool."""
        return self.program is not None and self.verdict is not None and self.verdict.decision == "accept"

    def text(self, target: Target) -> str:
        """What was made of a text: the child's, or the one that was refused."""
        if self.program is None:
            return self.refused
        return text_of(self.program.modules[target.module], target.part)


def text_of(template: PromptTemplate, part: TextPart) -> str:
    """One text of a template."""
    return template.system if part == "system" else template.user_template


def with_text(program: Program, module: str, part: TextPart, text: str) -> Program:
    """`program` with one text exchanged; demonstrations follow the user template they stand with."""
    template = program.modules[module]
    if part == "system":
        changed = template.replace(system=text, score=None)
    else:
        demos = reformatted(template.few_shot_examples, text)
        changed = template.replace(user_template=text, few_shot_examples=demos, score=None)
    return program.with_modules({module: changed})


def weakest_module(evaluations: Iterable[Evaluation]) -> str:
    """The module with the lowest mean of its own scores; empty where the metric scores none."""
    totals: dict[str, list[float]] = {}
    for evaluation in evaluations:
        modules: Mapping[str, float] = evaluation.score.modules if evaluation.score is not None else {}
        for name, score in modules.items():
            totals.setdefault(name, []).append(score)
    return min(sorted(totals), key=lambda name: sum(totals[name]) / len(totals[name]), default="")
