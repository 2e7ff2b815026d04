"""The operations of evolution on single templates, for use without a study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rollouts.datasets import DatasetSummary, describe
from rollouts.dtypes import Endpoint, PromptTemplate, Sample
from rollouts.errors import TemplateError
from rollouts.evaluation import Task
from rollouts.prompt_optimization.merge import merge_templates
from rollouts.prompt_optimization.opening import running
from rollouts.prompt_optimization.proposers import InstructionGuard, ProposalContext
from rollouts.prompt_optimization.reflection import LLMReflector, Reflection
from rollouts.prompt_optimization.study import StudyOptions


def select_elites(population: Sequence[PromptTemplate], n: int) -> list[PromptTemplate]:
    """The `n` templates with the highest scores, best first; ties and unscored ones (last) in their order."""

    def worth(template: PromptTemplate) -> float:
        score = template.score
        return -math.inf if score is None or math.isnan(score) else score

    return sorted(population, key=worth, reverse=True)[: max(0, n)]


def crossover_templates(parent_a: PromptTemplate, parent_b: PromptTemplate, generation: int) -> PromptTemplate:
    """Both parents in one: the lines of the instructions of both, `parent_a`'s first; demonstrations of `parent_a`, or
    of `parent_b` where it has none; the user template of `parent_a`."""
    nothing = parent_a.replace(system="", few_shot_examples=())
    merged = merge_templates(nothing, parent_a, parent_b.replace(user_template=parent_a.user_template))
    return merged.replace(generation=generation)


async def mutate_template(
    template: PromptTemplate, endpoint: Endpoint, generation: int, *, options: StudyOptions | None = None
) -> PromptTemplate:
    """`template` with an instruction rewritten by the model at `endpoint`, which sees the prompt alone.

    Raises TemplateError when its answer, asked for twice, breaks the prompt (a lost placeholder, say), what
    `open_study` raises, and the errors that every other call would meet too (`errors.FATAL`).
    """
    opts = replace(options or StudyOptions(), method="mutate")
    task = Task(endpoint=endpoint, score_fn=lambda trajectory, sample: 0.0, metric_id="none")
    async with running(task, [endpoint], opts) as study:
        guard = InstructionGuard(template, count_tokens=study.count_tokens)
        context = ProposalContext(template=template, summary=_unknown(), examples=(), check=guard)
        reflection = Reflection(context=context, records=(), rejected=(), check=guard, number=generation)
        rewrite = await LLMReflector(study.generate, endpoint).reflect(reflection)
    if rewrite.text is None:
        raise TemplateError(f"no mutation: {rewrite.reason}")
    return template.replace(system=rewrite.text, score=None, generation=generation)


def _unknown() -> DatasetSummary:
    return describe([Sample(inputs={})])
