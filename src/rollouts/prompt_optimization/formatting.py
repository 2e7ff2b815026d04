"""Template and sample -> messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Message, PromptTemplate, Sample, render


def format_prompt(template: PromptTemplate, sample: Mapping[str, Any] | Sample) -> list[Message]:
    """The messages to send: system, demonstrations as user/assistant pairs, then the sample's user message.

    Raises TemplateError when the sample lacks a placeholder's value.
    """
    values = sample.inputs if isinstance(sample, Sample) else sample
    return list(render(template, values))
