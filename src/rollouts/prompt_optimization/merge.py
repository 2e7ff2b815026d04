"""Two prompts with a common ancestor into one. Pure.

System-aware merge (Agrawal et al., arXiv 2507.19457, appendix F) carried down to the lines of a text: what only one
side changed is taken from that side; where both did, the changes of both are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.dtypes import Program, PromptTemplate, placeholders


def merge_texts(base: str, first: str, second: str) -> str:
    """`first` with the lines that `second` has added to `base`, without those that it has taken out."""
    if first in (base, second):
        return second
    if second == base:
        return first
    old, theirs = base.splitlines(), second.splitlines()
    removed = set(old) - set(theirs)
    out = [line for line in first.splitlines() if line not in removed]
    known = {line for line in (*old, *out) if line.strip()}
    place = 0
    for line in theirs:
        if line in out:
            place = out.index(line) + 1
        elif line not in known and line.strip():
            out.insert(place, line)
            place += 1
    return "\n".join(out)


def merge_templates(base: PromptTemplate, first: PromptTemplate, second: PromptTemplate) -> PromptTemplate:
    """Every part by itself; where both sides changed the demonstrations, `first`'s are kept.

    A text whose placeholders a merge would change is taken from `first`.
    """
    demos = second.few_shot_examples if first.few_shot_examples == base.few_shot_examples else first.few_shot_examples
    return first.replace(
        system=_guarded(base.system, first.system, second.system),
        user_template=_guarded(base.user_template, first.user_template, second.user_template),
        few_shot_examples=demos,
        score=None,
    )


def _guarded(base: str, first: str, second: str) -> str:
    merged = merge_texts(base, first, second)
    return merged if placeholders(merged) == placeholders(first) else first


def merge_programs(base: Program, first: Program, second: Program) -> Program:
    """Module by module; `first` is the better one."""
    modules: Mapping[str, PromptTemplate] = {
        name: merge_templates(base.modules[name], template, second.modules[name])
        for name, template in first.modules.items()
    }
    return first.with_modules(modules)
