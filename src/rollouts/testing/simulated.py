"""A model whose accuracy depends on its prompt by a law that is known to the test and hidden from the optimizer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from random import Random

from rollouts.budget import Spend
from rollouts.dtypes import Choices, JsonSchema, Message, Price, Request, Response
from rollouts.errors import CallTimeout
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.pricing import FREE
from rollouts.llm.tokens import PER_MESSAGE, PER_REQUEST, estimate
from rollouts.testing.billing import billed, prompt_tokens, worst_spend
from rollouts.testing.latency import LatencyLaw
from rollouts.testing.task import Example, SimulatedTask

_KEPT_PREFIXES = 4096


class SimulatedLLM:
    """A `Provider` that solves `task` as well as the prompt deserves; see `SimulatedTask` for the law.

    What it answers is a function of `seed` and the content of the request alone: not of the order of arrival, of the
    process or of its hash seed. At temperature 0 it is not a function of `repeat` either. Requests of the phase
    `propose` get instructions (a plain text, or JSON that fits a simple schema), of which some hold helpful phrases.
    `latency` is a law of `rollouts.testing.latency`, drawn from the same content and waited on `clock`, up to
    `Request.max_latency_s`, at which the call is cut.
    """

    def __init__(
        self,
        task: SimulatedTask,
        *,
        seed: int = 0,
        price: Price = FREE,
        latency: LatencyLaw | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.task = task
        self._seed, self._price = str(seed), price
        self._latency, self._clock = latency, clock or SystemClock()
        self._prefixes: dict[tuple[int, ...], _Prefix] = {}
        self.calls = 0

    async def complete(self, request: Request) -> Response:
        """An answer to the last message."""
        self.calls += 1
        prefix = self._prefix(request)
        draw = self._draw(request, prefix)
        if request.phase.startswith("propose"):
            text = _proposal(self.task, request, draw)
        else:
            text = self._answer(request, prefix, draw)
        latency = 0.0
        if self._latency is not None:
            latency = self._latency(draw.latency)
            cap = request.max_latency_s
            await self._clock.sleep(latency if cap is None else min(latency, cap))
            if cap is not None and latency > cap:
                raise CallTimeout(f"no answer in {cap:g} s")
        prompt = prefix.tokens + prompt_tokens(request.messages[-1:])
        return billed(text, prompt, request, self._price, latency)

    async def close(self) -> None:
        """Nothing to free."""

    def worst_case(self, request: Request) -> Spend:
        """See `Provider.worst_case`."""
        last = len(request.messages[-1].content.encode("utf-8", "surrogatepass")) + PER_MESSAGE
        return worst_spend(self._prefix(request).size + last, request, self._price)

    def count_tokens(self, text: str) -> int:
        """About 4 bytes a token."""
        return estimate(text)

    def chance(self, request: Request) -> float:
        """The probability that the answer is exactly right, over seeds: what an optimizer tries to raise."""
        prefix, example = self._prefix(request), self.task.find(request.messages[-1].content)
        right = 1.0 / (1.0 + math.exp(-self._logit(prefix, example)))
        return right * (1.0 - (0.0 if isinstance(request.response_format, Choices) else prefix.chatty))

    def _logit(self, prefix: _Prefix, example: Example) -> float:
        return prefix.logit + example.ease + self.task.nearness_logit(prefix.demos, example)

    def _answer(self, request: Request, prefix: _Prefix, draw: _Draw) -> str:
        task, example = self.task, self.task.find(request.messages[-1].content)
        label = example.label
        noise = math.log(draw.right / (1.0 - draw.right)) if 0.0 < draw.right < 1.0 else math.inf
        if label is None or noise > self._logit(prefix, example):
            others = [other for other in task.labels if other != label]
            label = others[int(draw.which * len(others))] if others else "unknown"
        if isinstance(request.response_format, Choices):
            options = request.response_format.options
            return label if label in options else options[int(draw.which * len(options))]
        return f"I would say that this is {label}." if draw.chatty < prefix.chatty else label

    def _prefix(self, request: Request) -> _Prefix:
        # Messages of a prompt are shared objects: their identities are a key that is cheaper than their texts. The
        # prefix keeps them alive, so an identity is never used again.
        messages = request.messages[:-1]
        key = tuple(map(id, messages))
        prefix = self._prefixes.get(key)
        if prefix is None:
            if len(self._prefixes) >= _KEPT_PREFIXES:
                self._prefixes.clear()
            prefix = self._prefixes[key] = _read(self.task, messages)
        return prefix

    def _draw(self, request: Request, prefix: _Prefix) -> _Draw:
        repeat = request.repeat if request.endpoint.sampling.temperature > 0 else 0
        last = request.messages[-1].content
        text = "\x1f".join((self._seed, request.endpoint.digest, str(repeat), prefix.digest, last))
        raw = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        units = [int.from_bytes(raw[at : at + 4], "big") / 2**32 for at in (0, 4, 8, 12)]
        return _Draw(right=units[0], which=units[1], chatty=units[2], latency=units[3])


@dataclass(slots=True)
class _Draw:
    """Independent uniform numbers in [0, 1)."""

    right: float
    which: float
    chatty: float
    latency: float


@dataclass(slots=True)
class _Prefix:
    """What all samples of one prompt share."""

    messages: tuple[Message, ...]
    digest: str
    logit: float
    chatty: float
    demos: tuple[tuple[frozenset[str], str], ...]
    tokens: int
    size: int


def _read(task: SimulatedTask, messages: tuple[Message, ...]) -> _Prefix:
    system = "\n".join(message.content for message in messages if message.role == "system")
    pairs = pairwise(messages)
    demos = [(ask.content, say.content.strip()) for ask, say in pairs if (ask.role, say.role) == ("user", "assistant")]
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages).encode("utf-8", "surrogatepass")
    return _Prefix(
        messages=messages,
        digest=blake2b(text, digest_size=16).hexdigest(),
        logit=task.instruction_logit(system) + task.demos_logit(demos),
        chatty=task.chatty_chance(system, len(demos)),
        demos=tuple((task.find(asked).words, said) for asked, said in demos),
        tokens=prompt_tokens(messages),
        size=PER_REQUEST + len(text) + PER_MESSAGE * len(messages),
    )


_OPENINGS = (
    "Classify the text.",
    "You are an expert annotator. Decide which category the message belongs to.",
    "Read the input carefully and determine its class.",
    "Your task is to label the user's message.",
)
_FILLERS = (
    "Be concise.",
    "Accuracy is very important.",
    "Do not make assumptions.",
    "Work step by step.",
    "Consider the tone of the message.",
)


def _proposal(task: SimulatedTask, request: Request, draw: _Draw) -> str:
    rng = Random(f"{draw.right} {draw.which}")
    if isinstance(request.response_format, JsonSchema):
        return json.dumps(_fit(dict(request.response_format.schema), task, rng))
    return _instruction(task, rng)


def _instruction(task: SimulatedTask, rng: Random) -> str:
    parts = [rng.choice(_OPENINGS)]
    if rng.random() < 0.4:
        parts.append(f"The categories are: {', '.join(task.labels)}.")
    parts.extend(phrase for phrase in task.phrases if rng.random() < task.phrase_rate)
    parts.extend(rng.sample(_FILLERS, rng.randrange(3)))
    if rng.random() < 0.4:
        parts.append("Answer with the label only.")
    return " ".join(part if part.endswith(".") else part[0].upper() + part[1:] + "." for part in parts)


def _fit(schema: dict[str, object], task: SimulatedTask, rng: Random) -> object:
    """A value of a schema made of objects, arrays, strings and numbers, with instructions for strings."""
    match schema:
        case {"type": "object", "properties": dict(properties)}:
            return {name: _fit(inner, task, rng) for name, inner in properties.items()}
        case {"type": "array", "items": dict(items)}:
            return [_fit(items, task, rng) for _ in range(int(str(schema.get("minItems", 3))))]
        case {"type": "integer" | "number"}:
            return rng.randrange(10)
        case {"type": "boolean"}:
            return rng.random() < 0.5
    return _instruction(task, rng)
