"""Prompt templates and programs: the things being optimized."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol
from uuid import uuid4

from rollouts.dtypes.digests import digest, digest_of
from rollouts.dtypes.messages import Message
from rollouts.dtypes.scoring import Sample, Trajectory
from rollouts.errors import TemplateError

SCHEMA_VERSION = 1
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class FewShotExample:
    """A single demonstration: the formatted user message and the assistant's expected answer.

    `messages`, when given, is the whole exchange after the user message (tool calls, tool results, the answer); it
    is sent instead of `output`.
    """

    input: str
    output: str
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class PromptTemplate:
    """Immutable prompt: instructions, how a sample becomes the user message, and optional demonstrations.

    Placeholders are `{name}` or `{{name}}`, in `system` and in `user_template`; any other brace is plain text.
    `score`, `generation` and `id` are set during optimization and are no part of the content.
    """

    system: str
    user_template: str
    few_shot_examples: tuple[FewShotExample, ...] = ()
    score: float | None = None
    generation: int = 0
    id: str = field(default_factory=lambda: uuid4().hex[:8])

    @property
    def digest(self) -> str:
        """Content key: the same texts have the same key, whatever their id or score."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            demos = [[d.input, d.output, [m.to_json() for m in d.messages]] for d in self.few_shot_examples]
            cached = digest_of([self.system, self.user_template, demos])
            self.__dict__["_digest"] = cached
        return str(cached)

    @property
    def placeholders(self) -> frozenset[str]:
        """Names used in `system` and `user_template`."""
        return placeholders(self.system) | placeholders(self.user_template)

    def replace(self, **changes: Any) -> PromptTemplate:
        """A copy with some fields changed and a fresh id."""
        return replace(self, **{"id": uuid4().hex[:8], **changes})

    def to_json(self) -> dict[str, Any]:
        """JSON with a schema version; `from_json` reads it back."""
        demos = []
        for demo in self.few_shot_examples:
            entry: dict[str, Any] = {"input": demo.input, "output": demo.output}
            if demo.messages:
                entry["messages"] = [message.to_json() for message in demo.messages]
            demos.append(entry)
        return {
            "schema_version": SCHEMA_VERSION,
            "system": self.system,
            "user_template": self.user_template,
            "few_shot_examples": demos,
            "score": self.score,
            "generation": self.generation,
            "id": self.id,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> PromptTemplate:
        """The inverse of `to_json`; raises TemplateError on an unknown schema version."""
        fields = json.loads(data) if isinstance(data, str) else dict(data)
        version = fields.pop("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise TemplateError(f"prompt template has schema version {version}, this version reads {SCHEMA_VERSION}")
        demos = tuple(
            FewShotExample(d["input"], d["output"], tuple(Message.from_json(m) for m in d.get("messages", ())))
            for d in fields.pop("few_shot_examples", ())
        )
        return cls(few_shot_examples=demos, **fields)


@lru_cache(maxsize=4096)
def placeholders(text: str) -> frozenset[str]:
    """The placeholder names in `text`."""
    return frozenset(a or b for a, b in _PLACEHOLDER.findall(text))


def fill(text: str, values: Mapping[str, Any]) -> str:
    """`text` with its placeholders replaced; raises TemplateError that names what is missing.

    Values are inserted as they are: braces inside a value are never read as placeholders.
    """
    if "{" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if name not in values:
            known = ", ".join(sorted(values)) or "none"
            raise TemplateError(f"the template uses {{{name}}}, but the sample has no such input (it has: {known})")
        return str(values[name])

    return _PLACEHOLDER.sub(value, text)


@lru_cache(maxsize=1024)
def _demo_messages(examples: tuple[FewShotExample, ...]) -> tuple[Message, ...]:
    out: list[Message] = []
    for demo in examples:
        out.append(Message("user", demo.input))
        out.extend(demo.messages or (Message("assistant", demo.output),))
    return tuple(out)


def render(template: PromptTemplate, values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Template and inputs -> messages: system, demonstrations, then the user message.

    What all samples share comes first, so that a provider's prefix cache is of use. An empty `system` is left out.
    """
    system = fill(template.system, values)
    head = (Message("system", system),) if system else ()
    user = Message("user", fill(template.user_template, values))
    return (*head, *_demo_messages(template.few_shot_examples), user)


class Agent(Protocol):
    """One module of a running program: fills its template with `values`, calls its model, returns what happened."""

    async def __call__(self, values: Mapping[str, Any]) -> Trajectory: ...


RunFn = Callable[[Sample, Mapping[str, Agent]], Awaitable[Trajectory | str]]


async def run_single(sample: Sample, agents: Mapping[str, Agent]) -> Trajectory:
    """The run function of a one-module program."""
    (agent,) = agents.values()
    return await agent(sample.inputs)


@dataclass(frozen=True, kw_only=True)
class Program:
    """Named modules and the async function that runs them on a sample.

    `run(sample, agents)` awaits `agents["name"](values)` as often as it likes and returns the answer: a `Trajectory`,
    or the text of the final answer. `version` is part of the key: change it when the code of `run` changes.
    """

    modules: Mapping[str, PromptTemplate]
    run: RunFn = run_single
    version: str = ""

    @classmethod
    def single(cls, template: PromptTemplate) -> Program:
        """A template alone, as a program with the one module `main`."""
        return cls(modules={"main": template})

    @property
    def digest(self) -> str:
        """Content key over all modules, the run function's name and `version`."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            run = f"{self.run.__module__}.{getattr(self.run, '__qualname__', type(self.run).__qualname__)}"
            modules = [part for name in sorted(self.modules) for part in (name, self.modules[name].digest)]
            cached = digest(run, self.version, *modules)
            self.__dict__["_digest"] = cached
        return str(cached)

    @property
    def template(self) -> PromptTemplate:
        """The template of a one-module program; raises TemplateError when there are several."""
        if len(self.modules) != 1:
            raise TemplateError(f"the program has {len(self.modules)} modules; name the one you mean")
        return next(iter(self.modules.values()))

    def with_modules(self, modules: Mapping[str, PromptTemplate]) -> Program:
        """A copy with some modules' templates exchanged."""
        unknown = sorted(set(modules) - set(self.modules))
        if unknown:
            raise TemplateError(f"unknown modules {unknown}; the program has {sorted(self.modules)}")
        return replace(self, modules={**self.modules, **modules})


def check_placeholders(template: PromptTemplate, columns: Sequence[str]) -> None:
    """Raises TemplateError when the template names an input that the data does not have."""
    missing = sorted(template.placeholders - set(columns))
    if missing:
        names = ", ".join("{" + name + "}" for name in missing)
        raise TemplateError(
            f"the template uses {names}, which no input column provides "
            f"(inputs: {', '.join(sorted(columns)) or 'none'});"
            " rename the placeholder or map a column to it"
        )
