"""What a rewritten instruction must keep. Checked before any money is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rollouts.dtypes import PromptTemplate, TextPart, placeholders
from rollouts.prompt_optimization.proposers.copies import Copies, squeeze

_REPEATED = 3


class InstructionGuard:
    """Says why a rewritten `part` of `template` is refused, or None.

    Placeholders are a contract: exactly those that the part has now. Frozen spans that it holds stay word for word.
    Longer than `max_tokens` is refused, and so is a text that copies out of training rows what `template` does not have
    (see `Copies`), one seen before (case and spaces aside), or one that repeats itself or holds the tags of a proposal.
    """

    def __init__(
        self,
        template: PromptTemplate,
        *,
        part: TextPart = "system",
        frozen_spans: Sequence[str] = (),
        max_tokens: int = 600,
        count_tokens: Callable[[str], int],
        copies: Copies | None = None,
    ) -> None:
        text = template.system if part == "system" else template.user_template
        self._placeholders = placeholders(text)
        self._frozen = tuple(span for span in frozen_spans if span in text)
        self._max_tokens, self._count = max_tokens, count_tokens
        self._copies, self._known = copies, squeeze(f"{template.system}\n{template.user_template}")
        self._seen: set[str] = {squeeze(text)}

    def __call__(self, text: str) -> str | None:
        if not text.strip():
            return "it is empty"
        found = placeholders(text)
        if lost := sorted(self._placeholders - found):
            return f"it lost the placeholder {{{lost[0]}}}"
        if added := sorted(found - self._placeholders):
            return f"it added the placeholder {{{added[0]}}}, which nothing fills"
        for span in self._frozen:
            if span not in text:
                return f"it changed a frozen part; keep this word for word: {span!r}"
        tokens = self._count(text)
        if tokens > self._max_tokens:
            return f"it has {tokens} tokens, more than the limit of {self._max_tokens}"
        return self._form(text)

    def _form(self, text: str) -> str | None:
        if "<instruction" in text.lower():
            return "it holds the tags of the proposal's own format"
        lines = Counter(line.strip() for line in text.splitlines() if line.strip())
        if max(lines.values()) >= _REPEATED:
            return "it repeats itself"
        squeezed = squeeze(text)
        if self._copies is not None and self._copies.copied(squeezed, self._known):
            return "it copies a training example word for word"
        if squeezed in self._seen:
            return "it is the same as an earlier instruction"
        return None

    def remember(self, text: str) -> None:
        """Later proposals may not repeat this one."""
        self._seen.add(squeeze(text))
