"""A task with hidden rules, and a reflector that finds them with some luck.

Every example belongs to a topic, which its text names. A prompt that states the rule of a topic raises the chance on
its examples; junk in a prompt lowers the chance on all. Whether a prompt is right on an example is a fixed outcome, as
with a model at temperature 0: an ease that is the example's own, and noise that belongs to the pair. What a prompt is
truly worth is computed from the law, on examples that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from random import Random

import numpy as np
import numpy.typing as npt

SEED_TEXT = "Answer the question."
_UNSEEN = 2000


@dataclass(frozen=True, kw_only=True)
class Law:
    """Weights are on the scale of an example's ease, which is normal with the deviation `spread`; `noise` is the scale
    of the logistic noise that belongs to prompt and example. `shares` are the topics' shares of the examples, `gains`
    what their rules are worth; a line of junk takes `harm` off every example.

    The reflector deals with `focus` topics of the failing examples at a time and finds the rule of each with the chance
    `insight`. It adds junk with the chance `junk`, and loses a line with the chance `loss`.
    """

    shares: tuple[float, ...]
    gains: tuple[float, ...]
    base: float = -0.8
    spread: float = 2.0
    noise: float = 0.5
    focus: int = 1
    insight: float = 0.5
    junk: float = 0.3
    loss: float = 0.2
    harm: float = 0.3


def _even(topics: int, gain: float, **settings: float) -> Law:
    return Law(shares=(1 / topics,) * topics, gains=(gain,) * topics, **settings)


LAWS = {
    "rules": _even(10, 3.0),
    "several at once": _even(10, 3.0, focus=8, insight=0.4),
    "mostly useless": _even(10, 3.0, insight=0.12, junk=0.6, loss=0.3),
    "sparse": Law(shares=(*(0.05,) * 8, 0.6), gains=(*(4.0,) * 8, 0.0), base=0.0),
    "small steps": _even(30, 3.0, loss=0.1),
}


class World:
    """One draw of examples and noise."""

    def __init__(self, law: Law, seed: int, *, train: int = 100, val: int = 100) -> None:
        self.law, self.seed = law, seed
        rng = np.random.default_rng(seed)
        count = train + val + _UNSEEN
        self.topics = rng.choice(len(law.shares), size=count, p=law.shares)
        self.ease = rng.normal(0.0, law.spread, size=count)
        self.train, self.val = range(train), range(train, train + val)
        self.unseen = np.arange(train + val, count)

    def question(self, example: int) -> str:
        """The text of an example."""
        return f"Question {example} about topic {self.topics[example]}"

    def right(self, text: str, example: int) -> bool:
        """Whether a prompt is right on an example."""
        raw = blake2b(f"{self.seed}\x1f{text}\x1f{example}".encode(), digest_size=8).digest()
        unit = (int.from_bytes(raw, "big") + 0.5) / 2**64
        return bool(self._logits(text)[example] > self.law.noise * np.log(unit / (1 - unit)))

    def truth(self, text: str) -> float:
        """The chance of being right on an unseen example."""
        return float((1 / (1 + np.exp(-self._logits(text)[self.unseen] / self.law.noise))).mean())

    @lru_cache(maxsize=4096)  # noqa: B019 - a world lives as long as its runs
    def _logits(self, text: str) -> npt.NDArray[np.float64]:
        law = self.law
        gain = np.zeros(len(law.shares))
        lines = text.splitlines()
        for topic in range(len(law.shares)):
            gain[topic] = law.gains[topic] * (rule(topic) in lines)
        junk = sum(line.startswith("Note") for line in lines)
        logits: npt.NDArray[np.float64] = law.base + self.ease + gain[self.topics] - law.harm * junk
        return logits

    def rewrite(self, text: str, shown: Sequence[tuple[int, float]], rng: Random) -> str:
        """What the reflector makes of a prompt and of what happened with it: (example, score)."""
        law, lines = self.law, text.splitlines()
        failing = [example for example, score in shown if score < 1] or [example for example, _ in shown]
        if rng.random() < law.loss and len(lines) > 1:
            lines.pop(rng.randrange(1, len(lines)))
        topics = sorted({int(self.topics[example]) for example in failing})
        for topic in rng.sample(topics, min(law.focus, len(topics))):
            if rng.random() >= law.insight:
                lines.append(f"Mind topic {topic} ({rng.randrange(10**6)}).")
            elif rule(topic) not in lines:
                lines.append(rule(topic))
        if rng.random() < law.junk:
            lines.append(f"Note {rng.randrange(10**6)}.")
        return "\n".join(lines)


def rule(topic: int) -> str:
    """The line that states the rule of a topic."""
    return f"The rule of topic {topic} is {topic * 7919 % 9973}."
