"""The texts of a program that an optimizer may rewrite: what proposals for them see, and what they must satisfy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rollouts.agents import tools_of
from rollouts.datasets import describe
from rollouts.dtypes import FewShotExample, Program, PromptTemplate, Sample, TextPart, Tool, named_text, value_text
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.demos import example_of, with_one_answer
from rollouts.prompt_optimization.proposers import (
    Copies,
    InstructionGuard,
    Proposal,
    ProposalContext,
    Proposer,
    Tried,
    propose,
)
from rollouts.prompt_optimization.study import Study

_SHOWN = 5


class TextSettings(Protocol):
    """The settings of an optimizer that concern texts; see `MIPROConfig`."""

    @property
    def optimize(self) -> tuple[TextPart, ...]: ...
    @property
    def frozen_spans(self) -> tuple[str, ...]: ...
    @property
    def max_instruction_tokens(self) -> int: ...
    @property
    def description(self) -> str: ...


@dataclass(slots=True, kw_only=True)
class Target:
    """One text of one module."""

    module: str
    part: TextPart
    guard: InstructionGuard
    context: ProposalContext

    async def propose(
        self, proposers: Sequence[Proposer], count: int, *, tried: Sequence[Tried] = (), number: int = 0
    ) -> list[Proposal]:
        """Up to `count` different texts; `number` counts the rounds of proposals from 0."""
        return await propose(proposers, replace(self.context, tried=tried, round=number), count, self.guard)


async def targets_of(study: Study, start: Program, train: Sequence[Sample], settings: TextSettings) -> list[Target]:
    """The texts that `settings.optimize` names, module by module. Proposals are only ever shown training rows,
    and the tools that there are for the first of them.

    Raises ConfigError for a frozen span that none of them holds.
    """
    copies = Copies([[value_text(value) for value in sample.inputs.values()] for sample in train])
    task = study.evaluator.task
    train = with_one_answer(train, task.score_fn)
    tools = await tools_of(task.environment_factory, train[0].inputs, task.limits) if train else ()
    targets = [
        _target(study, start, name, part, train, copies, tools, settings)
        for name in start.modules
        for part in settings.optimize
    ]
    texts = [target.context.text for target in targets]
    for span in settings.frozen_spans:
        if targets and not any(span in text for text in texts):
            raise ConfigError(f"the frozen text {span!r} is not in the prompt; copy it exactly, or take it out")
    return targets


def _target(
    study: Study,
    start: Program,
    module: str,
    part: TextPart,
    train: Sequence[Sample],
    copies: Copies,
    tools: Sequence[Tool],
    settings: TextSettings,
) -> Target:
    template = start.modules[module]
    alone = all(map(start.filled_by, train))
    guard = InstructionGuard(
        template,
        part=part,
        frozen_spans=settings.frozen_spans,
        max_tokens=settings.max_instruction_tokens,
        count_tokens=study.count_tokens,
        copies=copies,
    )
    labelled = [sample for sample in train if sample.ground_truth is not None]
    context = ProposalContext(
        template=template,
        summary=describe(train),
        examples=[_example(template if alone else None, sample) for sample in labelled[:_SHOWN]],
        check=guard,
        description=settings.description,
        frozen_spans=settings.frozen_spans,
        max_tokens=settings.max_instruction_tokens,
        part=part,
        module=module,
        others={name: other.system for name, other in start.modules.items() if name != module},
        tools=tools,
    )
    return Target(module=module, part=part, guard=guard, context=context)


def _example(template: PromptTemplate | None, sample: Sample) -> FewShotExample:
    """A demonstration; for a program of several modules, whose templates are filled inside, the row's values."""
    if template is not None:
        return example_of(template, sample)
    return FewShotExample(named_text(sample.inputs), value_text(sample.ground_truth))
