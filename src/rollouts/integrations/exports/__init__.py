"""Prompts in the forms of other tools: each, read and filled in as its tool does it, is the messages that were scored.

What a form cannot carry is refused with the reason; nothing is left out in silence.
"""

from rollouts.integrations.exports.registry import FORMATS, export_prompt, known_format

__all__ = ["FORMATS", "export_prompt", "known_format"]
