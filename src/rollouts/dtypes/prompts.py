"""Prompt templates and programs: the things being optimized."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Protocol
from uuid import uuid4

from rollouts.dtypes.digests import digest, digest_of
from rollouts.dtypes.messages import Message, exchange_problem
from rollouts.dtypes.saved import SCHEMA_VERSION, opened
from rollouts.dtypes.scoring import Call, Sample, Trace, Trajectory
from rollouts.dtypes.values import value_text
from rollouts.errors import ConfigError, TemplateError

TextPart = Literal["system", "user_template"]
"""A text of a template that may be rewritten."""
TEXT_PARTS: tuple[TextPart, ...] = ("system", "user_template")
_PLACEHOLDER = re.compile(r"(?<!\\)(\\*)(\{\{\s*([A-Za-z_]\w*)\s*\}\}|\{([A-Za-z_]\w*)\})")


@dataclass(frozen=True, slots=True)
class FewShotExample:
    """A single demonstration: the formatted user message and the assistant's expected answer.

    `messages`, when given, is the whole exchange after the user message (tool calls, tool results, the answer); it
    is sent instead of `output`. TemplateError when it is no exchange that a provider takes (see `exchange_problem`)
    says what to change. `values` is what the user message was filled with, where that is known; it is no part
    of the content.
    """

    input: str
    output: str
    messages: tuple[Message, ...] = ()
    values: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if problem := exchange_problem(self.messages):
            raise TemplateError(f"the demonstration for {self.input[:60]!r} cannot be sent: {problem}")

    def to_json(self) -> dict[str, Any]:
        """The fields that are set. Values other than texts, numbers and truth values are written as a model is shown
        them."""
        out: dict[str, Any] = {"input": self.input, "output": self.output}
        if self.messages:
            out["messages"] = [message.to_json() for message in self.messages]
        if self.values is not None:
            out["values"] = {name: _plain(value) for name, value in self.values.items()}
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FewShotExample:
        """The inverse of `to_json`."""
        messages = tuple(Message.from_json(message) for message in data.get("messages", ()))
        return cls(data["input"], data["output"], messages, data.get("values"))


def _plain(value: Any) -> Any:
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite and isinstance(value, str | int | float | None) else value_text(value)


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
        return {
            "schema_version": SCHEMA_VERSION,
            "system": self.system,
            "user_template": self.user_template,
            "few_shot_examples": [demo.to_json() for demo in self.few_shot_examples],
            "score": self.score,
            "generation": self.generation,
            "id": self.id,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> PromptTemplate:
        """The inverse of `to_json`; raises ConfigError on a newer schema version and on what is no template."""
        fields = opened(data, "prompt template", required=("system", "user_template"))
        try:
            demos = tuple(FewShotExample.from_json(demo) for demo in fields.pop("few_shot_examples", ()))
            return cls(few_shot_examples=demos, **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"the prompt template has a key that is wrong or missing: {error}") from None


@lru_cache(maxsize=4096)
def placeholders(text: str) -> frozenset[str]:
    """The placeholder names in `text`."""
    return frozenset(name for _, name in pieces(text) if name is not None)


def placeholder_name(text: str) -> str:
    """`text` as a name that a placeholder can have, which begins with a letter from a to z or `_`: `2nd col` is
    `_2nd_col`."""
    name = re.sub(r"\W", "_", text)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


@lru_cache(maxsize=4096)
def pieces(text: str) -> tuple[tuple[str, str | None], ...]:
    """`text` cut at its placeholders: (plain text, name of the placeholder after it), None after the last piece.

    A backslash before a placeholder makes it plain text, without the backslash; two are one backslash before one.
    """
    out: list[tuple[str, str | None]] = []
    plain, start = "", 0
    for match in _PLACEHOLDER.finditer(text):
        slashes, literal, doubled, single = match.groups()
        plain += text[start : match.start()] + slashes[: len(slashes) // 2]
        start = match.end()
        if len(slashes) % 2:
            plain += literal
        else:
            out.append((plain, doubled or single))
            plain = ""
    return (*out, (plain + text[start:], None))


def unescaped(text: str) -> str:
    """`text` as it reads, placeholders as they stand: without the backslashes that only say what is none."""
    return _PLACEHOLDER.sub(lambda match: match[1][: len(match[1]) // 2] + match[2], text)


def fill(text: str, values: Mapping[str, Any]) -> str:
    """`text` with its placeholders replaced; raises TemplateError that names what is missing.

    Values are inserted as `value_text` writes them: braces inside a value are never read as placeholders.
    """
    if "{" not in text:
        return text
    out: list[str] = []
    for plain, name in pieces(text):
        out.append(plain)
        if name is not None:
            if name not in values:
                known = ", ".join(sorted(values)) or "none"
                raise TemplateError(f"the template uses {{{name}}}, but the sample has no such input (it has: {known})")
            out.append(value_text(values[name]))
    return "".join(out)


@lru_cache(maxsize=1024)
def _system_messages(text: str) -> tuple[Message, ...]:
    return (Message("system", text),) if text else ()


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
    head = _system_messages(fill(template.system, values))
    user = Message("user", fill(template.user_template, values))
    return (*head, *_demo_messages(template.few_shot_examples), user)


class Agent(Protocol):
    """One module of a running program: fills its template with `values`, calls its model, returns what happened."""

    async def __call__(self, values: Mapping[str, Any]) -> Trajectory: ...


@dataclass(frozen=True, kw_only=True)
class Agents(Mapping[str, Agent]):
    """The modules of a running program, by name, and the rollout that they run in.

    `program` is the one that runs. `phase` says what the rollout is for, as in `Request.phase`; `repeat` tells apart
    wished repetitions. A run function that lets another process call the models says so by `note` for every call and
    `trace` for every run of a module: they become the rollout's own, also when it fails later.
    """

    modules: Mapping[str, Agent]
    program: Program
    phase: str = "task"
    repeat: int = 0
    note: Callable[[Call], None]
    trace: Callable[[Trace], None]

    def __getitem__(self, name: str) -> Agent:
        return self.modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)


RunFn = Callable[[Sample, Agents], Awaitable[Trajectory | str]]


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
    def placeholders(self) -> frozenset[str]:
        """Names that the modules' templates use."""
        return frozenset[str]().union(*(template.placeholders for template in self.modules.values()))

    @property
    def digest(self) -> str:
        """Content key over all modules, the run function's name and `version`."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            modules = [part for name in sorted(self.modules) for part in (name, self.modules[name].digest)]
            cached = digest(_name_of(self.run), self.version, *modules)
            self.__dict__["_digest"] = cached
        return str(cached)

    @property
    def template(self) -> PromptTemplate:
        """The template of a one-module program; raises TemplateError when there are several."""
        if len(self.modules) != 1:
            raise TemplateError(f"the program has {len(self.modules)} modules; name the one you mean")
        return next(iter(self.modules.values()))

    def filled_by(self, sample: Sample) -> bool:
        """Whether this is one template that the sample's inputs fill: then the sample with its answer is a
        demonstration. Otherwise values come from elsewhere, and only runs tell them."""
        return len(self.modules) == 1 and self.placeholders <= sample.inputs.keys()

    def to_json(self) -> dict[str, Any]:
        """JSON with a schema version: the modules, and the run function by its name only."""
        return {
            "schema_version": SCHEMA_VERSION,
            "modules": {name: template.to_json() for name, template in self.modules.items()},
            "run": _name_of(self.run),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str, run: RunFn | None = None) -> Program:
        """The inverse of `to_json`, with the function `run`: a name in the data is never imported.

        Without `run` only one-module programs of `run_single` are read. Raises ConfigError on a newer schema version,
        on what is no program, and when `run` is needed.
        """
        fields = opened(data, "program", required=("modules",))
        named = fields.get("run", _name_of(run_single))
        if run is None and named != _name_of(run_single):
            raise ConfigError(f"the program runs by the function {named}: pass that function as run=")
        if not isinstance(fields["modules"], Mapping):
            raise ConfigError("the program's modules are no JSON object of templates")
        modules = {name: PromptTemplate.from_json(template) for name, template in fields["modules"].items()}
        return cls(modules=modules, run=run or run_single, version=fields.get("version", ""))

    def with_modules(self, modules: Mapping[str, PromptTemplate]) -> Program:
        """A copy with some modules' templates exchanged."""
        unknown = sorted(set(modules) - set(self.modules))
        if unknown:
            raise TemplateError(f"unknown modules {unknown}; the program has {sorted(self.modules)}")
        return replace(self, modules={**self.modules, **modules})


def _name_of(run: RunFn) -> str:
    return f"{run.__module__}.{getattr(run, '__qualname__', type(run).__qualname__)}"


def as_program(start: PromptTemplate | Program) -> Program:
    """A template alone as a one-module program; a program as it is."""
    return start if isinstance(start, Program) else Program.single(start)


def check_placeholders(template: PromptTemplate, columns: Sequence[str]) -> None:
    """Raises TemplateError when the template names an input that the data does not have."""
    missing = sorted(template.placeholders - set(columns))
    if missing:
        names = ", ".join("{" + name + "}" for name in missing)
        raise TemplateError(
            f"the template uses {names}, which no input column provides "
            f"(inputs: {', '.join(sorted(columns)) or 'none'});"
            " rename the placeholder, map a column to it, or write \\{...} (in TOML, between single quotes) if it is"
            " meant as it stands"
        )
