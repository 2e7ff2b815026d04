"""Random programs, latency laws, failures, prices, budgets and limits for r-MIPRO, with books of their own.

A module's text is named by its number; from the number and the seed follow how often it is right, how long it takes
and how many words it has. Better texts tend to be slower, so that limits on latency matter.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

from rollouts.budget import Budget, Constraints, Spend
from rollouts.dtypes import (
    Agent,
    Endpoint,
    Price,
    Program,
    PromptTemplate,
    Request,
    Response,
    Sample,
    Sampling,
    Trajectory,
)
from rollouts.errors import CallTimeout, ProviderUnavailable, RateLimited
from rollouts.prompt_optimization import Splits
from rollouts.testing import FakeClock
from rollouts.testing.billing import billed, prompt_tokens, worst_case
from rollouts.testing.latency import LatencyLaw, log_normal, pareto

WRITER = Endpoint(provider="law", model="writer", sampling=Sampling(max_tokens=40))
TESTS = 64
_DRAWS = 4000


@dataclass(slots=True)
class Book:
    """What was sent for a module, the texts' writer under the empty name."""

    calls: int = 0
    tokens: int = 0
    micros: int = 0
    seconds: float = 0.0

    def __add__(self, other: Book) -> Book:
        return Book(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.micros + other.micros,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Text:
    """What a text makes of its module."""

    right: float
    latency: LatencyLaw
    words: int


@dataclass
class RandomWorld:
    """Everything that follows from `seed`. It is the provider of all models, too."""

    seed: int
    clock: FakeClock = field(default_factory=lambda: FakeClock(auto=True))
    books: dict[str, Book] = field(default_factory=lambda: defaultdict(Book))

    def __post_init__(self) -> None:
        rng = self._rng = Random(f"world {self.seed}")
        self.modules = [f"m{n}" for n in range(rng.choice((1, 2, 2, 3, 4)))]
        self.branches = rng.random() < 0.4
        self.raises = rng.random() < 0.3
        self.failing = rng.choice((0.0, 0.0, 0.03, 0.15))
        self._tail = rng.choice((log_normal, log_normal, pareto))
        self._sigma = rng.uniform(0.3, 1.3)
        self._asked: Counter[str] = Counter()
        self._texts: dict[tuple[str, int], Text] = {}
        self.endpoints = {name: self._endpoint(name) for name in self.modules}

    def loop(self) -> asyncio.AbstractEventLoop:
        """A loop whose own timers go by the world's clock, so that a slow machine changes nothing."""
        loop = asyncio.new_event_loop()
        loop.time = self.clock.now  # type: ignore[method-assign]
        return loop

    # ── the program ──

    @property
    def start(self) -> Program:
        modules = {name: PromptTemplate(f"{name} text 0.", "{n} {said}") for name in self.modules}
        return Program(modules=modules, run=self._run)

    def path(self, number: int) -> list[str]:
        """The modules that run on a row, in order: all of them, or the first and one of the others."""
        if not self.branches or len(self.modules) < 3:
            return self.modules
        return [self.modules[0], self.modules[1 + number % (len(self.modules) - 1)]]

    async def _run(self, sample: Sample, agents: Mapping[str, Agent]) -> str:
        number, said = int(sample.inputs["n"]), "right"
        for name in self.path(number):
            said = (await agents[name]({"n": str(number), "said": said})).output
        if self.raises and number % 9 == 4:
            raise ValueError("this branch is broken")
        return said

    def splits(self) -> Splits:
        def rows(start: int, count: int) -> list[Sample]:
            return [Sample(inputs={"n": n}, ground_truth="right", id=str(n)) for n in range(start, start + count)]

        return Splits(train=rows(1000, 10), val=rows(2000, 40), test=rows(3000, TESTS))

    def text(self, module: str, number: int) -> Text:
        """What a text is like; number 0 is the start's."""
        if (module, number) not in self._texts:
            rng = Random(f"text {self.seed} {module} {number}")
            merit = rng.gauss(0.0, 1.0) if number else 0.0
            scale = 0.3 * (1 + int(module[1:]) % 3) * 1.2 ** (merit + rng.gauss(0.0, 1.0))
            law = log_normal(scale, self._sigma) if self._tail is log_normal else pareto(scale / 2, 1 + 1 / self._sigma)
            right = min(0.98, max(0.02, 0.6 + 0.3 * merit))
            self._texts[module, number] = Text(right, law, rng.randrange(12) if number else 0)
        return self._texts[module, number]

    # ── the provider ──

    def _endpoint(self, name: str) -> Endpoint:
        price = Price(input=Decimal(self._rng.randint(1, 40)) / 10, output=Decimal(self._rng.randint(1, 90)) / 10)
        return Endpoint(provider="law", model=name, sampling=Sampling(max_tokens=8), timeout_s=1e6, price=price)

    @staticmethod
    def _price(request: Request) -> Price:
        return request.endpoint.price or Price(input=Decimal(1), output=Decimal(1))

    async def complete(self, request: Request) -> Response:
        book = self.books[request.module if request.phase != "propose" else ""]
        book.calls += 1
        begun = self.clock.now()
        try:
            response = await self._answer(request)
        except Exception as error:
            if getattr(error, "billed", False):
                self._bill(book, worst_case(request, self._price(request)))
            raise
        finally:
            book.seconds += self.clock.now() - begun
        self._bill(book, Spend(micros=response.cost_micros, tokens=response.usage.total_tokens))
        return response

    @staticmethod
    def _bill(book: Book, spend: Spend) -> None:
        book.tokens += spend.tokens
        book.micros += spend.micros

    async def _answer(self, request: Request) -> Response:
        system, asked = request.messages[0].content, request.messages[-1].content
        key, seconds = request.key(), 0.0
        self._asked[key] += 1
        draws = Random(f"{self.seed} {key} {self._asked[key]}")
        if request.phase == "propose":
            module, number = re.findall(r"'(m\d)'", system + "'m0'")[0], draws.randrange(1, 500)
            said = f"<instruction>{module} text {number}. {'word ' * self.text(module, number).words}</instruction>"
        else:
            module, number = re.findall(r"(m\d) text (\d+)", system)[0]
            text = self.text(module, int(number))
            seconds = text.latency(draws.random())
            luck = Random(f"{self.seed} {system} {asked.split()[0]}").random()
            said = "right" if luck < text.right and "wrong" not in asked else "wrong"
        await self._fail_or_wait(draws.random(), seconds, request)
        return billed(said, prompt_tokens(request.messages), request, self._price(request), seconds)

    async def _fail_or_wait(self, draw: float, seconds: float, request: Request) -> None:
        if draw < self.failing / 3:
            raise RateLimited("slower", retry_after=0.5)
        if draw < 2 * self.failing / 3:
            raise ProviderUnavailable("down")
        limit = request.endpoint.timeout_s
        await self.clock.sleep(min(seconds, limit))
        if draw < self.failing or seconds > limit:
            raise CallTimeout("no answer in time")

    async def close(self) -> None: ...

    def worst_case(self, request: Request) -> Spend:
        return worst_case(request, self._price(request))

    def count_tokens(self, text: str) -> int:
        return len(text) // 4

    # ── caps ──

    def budget(self) -> Budget:
        """Caps on some resources, for some 160 to 420 rollouts."""
        rng, rollouts = self._rng, self._rng.randint(160, 420)
        calls = rollouts * len(self.path(0))
        caps: dict[str, Any] = {
            "max_rollouts": rollouts,
            "max_calls": calls,
            "max_tokens": 45 * calls,
            "max_cost_usd": Decimal(calls * 45 * 4) / 10**6,
            "max_seconds": rollouts * 0.4,
        }
        chosen = rng.sample(sorted(caps), rng.randint(1, 3))
        return Budget(**{name: caps[name] for name in chosen}, max_trials=rng.choice((None, None, rng.randint(1, 40))))

    def module_budgets(self) -> dict[str, Budget]:
        """Caps on one resource of some modules."""
        rng, out = self._rng, {}
        for name in self.modules:
            calls = rng.randint(40, 400)
            caps: dict[str, Any] = {
                "max_calls": calls,
                "max_tokens": 45 * calls,
                "max_cost_usd": Decimal(calls * 45 * 4) / 10**6,
                "max_seconds": calls * 0.4,
                "max_trials": rng.randint(0, 9),
            }
            if rng.random() < 0.25:
                chosen = rng.choice(sorted(caps))
                out[name] = Budget(**{chosen: caps[chosen]})
        return out

    def constraints(self) -> Constraints:
        """A cap on the 95th percentile near the start's own, sometimes with a cut, sometimes on a module."""
        rng = self._rng
        if rng.random() < 0.2:
            return Constraints()
        cap = self._quantile(self._start_numbers) * rng.uniform(0.9, 2.5)
        cut = cap * rng.uniform(1.0, 3.0) if rng.random() < 0.3 else None
        modules = {self.modules[-1]: Constraints(max_p95_latency_s=cap)} if rng.random() < 0.3 else {}
        confidence = rng.choice((0.8, 0.8, 0.9, 0.95))
        return Constraints(max_p95_latency_s=cap, max_latency_s=cut, confidence=confidence, modules=modules)

    # ── the truth ──

    @property
    def _start_numbers(self) -> dict[str, int]:
        return dict.fromkeys(self.modules, 0)

    def _fresh(self, numbers: Mapping[str, int], draws: int = _DRAWS) -> list[float]:
        """Latencies of rollouts that no run has seen."""
        rng = Random(f"fresh {self.seed} {sorted(numbers.items())}")
        laws = {name: self.text(name, number).latency for name, number in numbers.items()}
        return [sum(laws[name](rng.random()) for name in self.path(n)) for n in range(draws)]

    def _quantile(self, numbers: Mapping[str, int]) -> float:
        return sorted(self._fresh(numbers))[int(0.95 * _DRAWS)]

    def keeps(self, program: Program, cap: float) -> bool:
        """Whether at least 95 % of fresh rollouts are within the cap."""
        numbers = {name: int(re.findall(r"text (\d+)", t.system)[0]) for name, t in program.modules.items()}
        return sum(seconds <= cap for seconds in self._fresh(numbers)) >= 0.95 * _DRAWS


def right(trajectory: Trajectory, sample: Sample) -> float:
    return float(trajectory.output == "right")
