"""The state of `dspy.Predict`.

DSPy writes its own messages around instructions, fields and demonstrations; only an adapter that sends the user
template as it stands (docs/exporting.md has one) gives the messages that were scored.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import FewShotExample, PromptTemplate, pieces, placeholders, unescaped
from rollouts.errors import ConfigError
from rollouts.integrations.exports.layout import check_names, to_text, variables

ANSWER = "answer"


def dspy(modules: Mapping[str, PromptTemplate]) -> str:
    """For `dspy.Predict("name, ... -> answer")`, the names as in the user template; of several modules, for a
    `dspy.Module` with a predictor of each module's name. `metadata.user_templates` has the user templates.

    Raises ConfigError for what a state cannot hold: placeholders or indentation in the instruction, demonstrations with
    tool calls, and those that do not follow the user template.
    """
    states = {name: _state(template) for name, template in modules.items()}
    metadata = {
        "dependency_versions": {},
        "user_templates": {name: template.user_template for name, template in modules.items()},
    }
    (first, *rest) = states.values()
    return to_text({**(states if rest else first), "metadata": metadata})


def _state(template: PromptTemplate) -> dict[str, Any]:
    names = variables(template)
    if placeholders(template.system):
        raise ConfigError("a DSPy instruction has no placeholders; move them to the user template")
    if inspect.cleandoc(template.system) != template.system:
        raise ConfigError(
            "DSPy takes blank lines, tabs and common indentation off an instruction; take them off the system text "
            "and score it again, or export another format"
        )
    check_names(template, (ANSWER,), "a DSPy signature with the output field 'answer'")
    demos = [_demo(template.user_template, demo, n) for n, demo in enumerate(template.few_shot_examples, start=1)]
    return {
        "traces": [],
        "train": [],
        "demos": demos,
        "signature": {
            "instructions": unescaped(template.system),
            "fields": [_field(name) for name in (*names, ANSWER)],
        },
        "lm": None,
    }


def _field(name: str) -> dict[str, str]:
    return {"prefix": f"{name.replace('_', ' ').title()}:", "description": "${" + name + "}"}


def _demo(user_template: str, demo: FewShotExample, number: int) -> dict[str, str]:
    if demo.messages:
        raise ConfigError(f"demonstration {number} calls tools, which a DSPy state cannot hold; export another format")
    found = _pattern(user_template).fullmatch(demo.input)
    if found is None:
        raise ConfigError(
            f"demonstration {number} does not follow the user template, and a DSPy state holds fields only; export "
            "another format"
        )
    return {**found.groupdict(), ANSWER: demo.output}


def _pattern(user_template: str) -> re.Pattern[str]:
    """What the user template makes of any values: every way to read them back gives the same message."""
    out, seen = "", set()
    for plain, name in pieces(user_template):
        out += re.escape(plain)
        if name is not None:
            out += f"(?P={name})" if name in seen else f"(?P<{name}>.*?)"
            seen.add(name)
    return re.compile(out, re.DOTALL)
