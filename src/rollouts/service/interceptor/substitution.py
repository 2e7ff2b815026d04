"""A candidate's prompt in the place of the one that an app renders by itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rollouts.dtypes import Program, PromptTemplate, fill, render
from rollouts.dtypes.prompts import pieces
from rollouts.errors import TemplateError
from rollouts.llm.openai_wire import message_json
from rollouts.llm.tool_messages import sendable
from rollouts.service.interceptor.matching import read_back

JSON = dict[str, Any]
Outcome = Literal["substituted", "present", "unmatched"]
_SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of a list of messages.

    `substituted`: they held the app's own prompt, and `messages` holds the candidate's. `present`: they held the
    candidate's already. `unmatched`: they held neither, or could not be told apart (see `Substitution`). The last two
    leave the messages as they came. `module` and `values` tell whose prompt it was and what it was filled with; `steps`
    are the messages after the prompt.
    """

    messages: Sequence[JSON]
    outcome: Outcome
    module: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[JSON] = ()


class Substitution:
    """Puts the modules of `program` in the place of those of `baseline`.

    A prompt is a system message (one of the leading system or developer messages; none where the template's system is
    empty), all demonstrations of the template as messages, and the user message. It matches to the letter but for its
    placeholders; the values of these go into the candidate's texts. A message whose text is exchanged keeps its other
    fields and parts, and every message outside of the prompt stays as it is. Messages that fit several prompts count as
    the one with the most words of its own, and as the candidate's before the app's.

    `apply(apply(messages).messages)` changes nothing more. For that, messages whose values look so much like the app's
    prompt that the result would be taken for it again are left as they came.

    Raises TemplateError for a candidate whose placeholders the app's prompt does not show. `provider` names whose rules
    the ids of tool calls in demonstrations keep.
    """

    def __init__(self, baseline: Program, program: Program, *, provider: str = "openai") -> None:
        forms: list[tuple[_Layout, _Layout | None]] = []
        for module, template in program.modules.items():
            own = baseline.modules.get(module)
            if own is None:
                raise TemplateError(f"the app's own prompt of module {module!r} is not known: put it into the baseline")
            if missing := template.placeholders - own.placeholders:
                names = ", ".join("{" + name + "}" for name in sorted(missing))
                raise TemplateError(f"the candidate of module {module!r} uses {names}, which the app's prompt lacks")
            candidate = _Layout(module, template, provider)
            forms += [(candidate, None), (_Layout(module, own), candidate)]
        self._forms = sorted(forms, key=lambda form: (-form[0].words, form[1] is not None))

    def apply(self, messages: Sequence[JSON]) -> Applied:
        """`messages` with the candidate's prompt. What is given is not changed."""
        found, candidate = self._read(messages)
        if found is None:
            return Applied(messages=messages, outcome="unmatched")
        outcome: Outcome = "present"
        steps = messages[found.user + 1 :]
        if candidate is not None:
            changed = candidate.put(messages, found)
            again, next_candidate = self._read(changed)
            settled = again is not None and next_candidate is None
            messages, outcome = (changed, "substituted") if settled else (messages, "unmatched")
        return Applied(messages=messages, outcome=outcome, module=found.module, values=found.values, steps=steps)

    def _read(self, messages: Sequence[JSON]) -> tuple[_Found | None, _Layout | None]:
        """What stands in `messages`, and the candidate's layout if that is not it."""
        for layout, candidate in self._forms:
            found = layout.read(messages)
            if found is not None:
                return found, candidate
        return None, None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A prompt in a list of messages: the places of its system message (if it has one), of the first message after
    all leading system messages, and of its user message."""

    module: str
    values: Mapping[str, str]
    system: int | None
    head: int
    user: int


class _Layout:
    """One template as the messages that carry it, with tool calls as `provider` takes them, or as they are.

    `words` counts the characters that do not come from values.
    """

    def __init__(self, module: str, template: PromptTemplate, provider: str | None = None) -> None:
        self._module, self._template = module, template
        demos = render(PromptTemplate("", "", template.few_shot_examples), {})[:-1]
        self._demos = [message_json(message) for message in (sendable(demos, provider) if provider else demos)]
        texts = (template.system, template.user_template)
        self.words = sum(len(words) for text in texts for words, _ in pieces(text)) + len(str(self._demos))

    def read(self, messages: Sequence[JSON]) -> _Found | None:
        """Where the prompt stands in `messages`; None when it does not."""
        head = next((i for i, message in enumerate(messages) if message.get("role") not in _SYSTEM), len(messages))
        user = head + len(self._demos)
        if user >= len(messages) or messages[user].get("role") != "user" or messages[head:user] != self._demos:
            return None
        system, values = self._read_system(messages[:head])
        if self._template.system and system is None:
            return None
        said = text_of(messages[user])
        read = None if said is None else read_back(self._template.user_template, said, values)
        if read is None:
            return None
        return _Found(module=self._module, values=read, system=system, head=head, user=user)

    def put(self, messages: Sequence[JSON], found: _Found) -> list[JSON]:
        """`messages` with this prompt where another was found."""
        template, values = self._template, found.values
        head = list(messages[: found.head])
        system = fill(template.system, values)
        if found.system is None:
            head += [{"role": "system", "content": system}] if template.system else []
        elif template.system:
            head[found.system] = _with_text(head[found.system], system)
        else:
            del head[found.system]
        user = _with_text(messages[found.user], fill(template.user_template, values))
        return [*head, *self._demos, user, *messages[found.user + 1 :]]

    def _read_system(self, head: Sequence[JSON]) -> tuple[int | None, dict[str, str]]:
        if self._template.system:
            for place, message in enumerate(head):
                text = text_of(message)
                values = None if text is None else read_back(self._template.system, text, {})
                if values is not None:
                    return place, values
        return None, {}


def text_of(message: JSON) -> str | None:
    """The text of a message: its content, or its only text part; None when there is none or are several."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    texts = [content[place].get("text") for place in _text_parts(content)]
    return texts[0] if len(texts) == 1 and isinstance(texts[0], str) else None


def _with_text(message: JSON, text: str) -> JSON:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": text}
    parts = list(content)
    (place,) = _text_parts(content)
    parts[place] = {**parts[place], "text": text}
    return {**message, "content": parts}


def _text_parts(content: Any) -> list[int]:
    parts = content if isinstance(content, list) else []
    return [i for i, part in enumerate(parts) if isinstance(part, dict) and part.get("type") == "text"]
