"""The hidden law of `SimulatedLLM`: what in a prompt makes the right answer likelier, and by how much."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from statistics import NormalDist

_FORMAT = re.compile(
    r"\b(only|exactly|just|nothing but|nothing else|one of)\b.{0,40}\b(label|category|class|option|intent|answer|word)"
    r"|\b(label|category|class|answer|intent)\b.{0,20}\b(only|and nothing else)\b",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class Example:
    """A sample as the simulated model knows it: `ease` is its own logit, shared by all prompts."""

    label: str | None
    words: frozenset[str]
    ease: float


@dataclass(frozen=True, kw_only=True)
class SimulatedTask:
    """A classification task with its answers, and the law of accuracy; weights are in logits.

    The chance of the right label is the logistic function of: `base`; `labels_named` times the share of labels that
    the system text names; the weights of the hidden `phrases` found in it (without regard to case); minus
    `verbosity` for every 100 words above 150; `demos`, reached in full at two right demonstrations per label and by
    half at about 0.4; `balance` times that share and the evenness of their labels; minus `wrong_demos` times the
    share of wrong ones; `nearness` times the word overlap with the nearest demonstration, against it when that one
    has another label; and the sample's own ease, a normal number of standard deviation `spread`.
    With the chance `chatty` (halved by each demonstration, 0 when the system text asks for the label alone) the
    answer is a sentence around the label.

    `answers` maps the text of every sample to its label: a user message is understood when it holds one of them.
    `phrase_rate` is the chance of each helpful phrase to be in a proposed instruction.
    """

    labels: tuple[str, ...]
    answers: Mapping[str, str]
    base: float = -1.5
    labels_named: float = 1.2
    phrases: Mapping[str, float] = field(
        default_factory=lambda: {
            "think about what the person wants to happen next": 0.8,
            "the first sentence is often misleading": 0.5,
            "compare the closest labels before you decide": 0.4,
        }
    )
    phrase_rate: float = 0.25
    verbosity: float = 0.3
    demos: float = 1.2
    balance: float = 0.6
    wrong_demos: float = 2.5
    nearness: float = 1.5
    spread: float = 1.0
    chatty: float = 0.4

    def instruction_logit(self, system: str) -> float:
        """What the system text is worth."""
        text = system.lower()
        named = sum(label.lower() in text for label in self.labels) / max(1, len(self.labels))
        helpful = sum(weight for phrase, weight in self.phrases.items() if phrase.lower() in text)
        words = len(text.split())
        return self.base + self.labels_named * named + helpful - self.verbosity * max(0, words - 150) / 100

    def demos_logit(self, demos: Sequence[tuple[str, str]]) -> float:
        """What demonstrations (user text, assistant text) are worth for any sample."""
        if not demos:
            return 0.0
        truths = [self.find(asked).label or said for asked, said in demos]
        right = Counter(truth for truth, (_, said) in zip(truths, demos, strict=True) if truth == said)
        count = right.total()
        full = math.log1p(10.0)
        amount = min(1.0, math.log1p(5.0 * count / max(1, len(self.labels))) / full)
        kinds = min(count, len(self.labels))
        shares = [number / count for number in right.values()]
        evenness = -sum(share * math.log(share) for share in shares) / math.log(kinds) if kinds > 1 else 0.0
        wrong = 1.0 - count / len(demos)
        return self.demos * amount + self.balance * evenness * amount - self.wrong_demos * wrong

    def nearness_logit(self, demos: Sequence[tuple[frozenset[str], str]], example: Example) -> float:
        """What the demonstration (words, assistant text) nearest to `example` is worth for it."""
        best, nearest, words = 0.0, "", example.words
        for other, said in demos:
            common = len(words & other)
            if common:
                overlap = common / (len(words) + len(other) - common)
                if overlap > best:
                    best, nearest = overlap, said
        return self.nearness * best * (1.0 if nearest == example.label else -0.5)

    def chatty_chance(self, system: str, demos: int) -> float:
        """The chance that the right label comes inside a sentence."""
        return 0.0 if _FORMAT.search(system) else float(self.chatty * 0.5**demos)

    def find(self, content: str) -> Example:
        """The sample that a user message is about."""
        cache: dict[str, Example] = self.__dict__.setdefault("_found", {})
        example = cache.get(content)
        if example is None:
            text = self._text(content)
            ease = NormalDist(0.0, self.spread).inv_cdf(_unit(text)) if self.spread else 0.0
            words = frozenset(_WORD.findall(text.lower()))
            example = cache[content] = Example(self.answers.get(text), words, ease)
        return example

    def _text(self, content: str) -> str:
        """The longest sample text inside `content`, or `content` itself."""
        if content in self.answers:
            return content
        for line in reversed(content.splitlines()):
            for part in (line.strip(), line.partition(":")[2].strip()):
                if part in self.answers:
                    return part
        inside = [text for text in self.answers if text in content]
        return max(inside, key=len, default=content)


def _unit(text: str) -> float:
    raw = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(raw, "big") + 0.5) / 2**64
