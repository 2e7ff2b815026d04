"""This project's side of the comparisons: a model in this process, and rows evaluated with everything switched on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from benchmarks.engine.stopwatch import Stopwatch, Taken
from rollouts.budget import Budget, Spend
from rollouts.dtypes import (
    Endpoint,
    Evaluation,
    Price,
    Program,
    PromptTemplate,
    Request,
    Response,
    Sample,
    Sampling,
    Usage,
)
from rollouts.evaluation import Cell, Task, summarise
from rollouts.evaluation.metrics import exact_match
from rollouts.llm.pricing import cost_micros
from rollouts.llm.tokens import estimate
from rollouts.prompt_optimization.opening import open_study
from rollouts.prompt_optimization.study import StudyOptions
from rollouts.store import open_store
from rollouts.testing.billing import worst_case

PRICE = Price(input=Decimal("0.10"), output=Decimal("0.40"))
ENDPOINT = Endpoint(provider="openai", model="fake", sampling=Sampling(max_tokens=16), price=PRICE)
TEMPLATE = PromptTemplate("Given the fields `question`, produce the fields `answer`.", "Question: {question}\nAnswer:")
CAPS = Budget(max_cost_usd=1000, max_tokens=10**10, max_calls=10**7, max_rollouts=10**7, max_seconds=10**6)


class InProcessLLM:
    """A `Provider` that answers the same after `latency()` seconds, or at once."""

    def __init__(self, answer: str, latency: Callable[[], float] | None = None) -> None:
        self._answer, self._latency = answer, latency
        self.in_flight = self.most_in_flight = 0

    async def complete(self, request: Request) -> Response:
        seconds = 0.0
        if self._latency is not None:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            seconds = self._latency()
            await asyncio.sleep(seconds)
            self.in_flight -= 1
        prompt = sum(estimate(message.content) + 4 for message in request.messages)
        usage = Usage(prompt_tokens=prompt, completion_tokens=1)
        return Response(text=self._answer, usage=usage, cost_micros=cost_micros(PRICE, usage), latency_s=seconds)

    async def close(self) -> None: ...

    def worst_case(self, request: Request) -> Spend:
        return worst_case(request, PRICE)

    def count_tokens(self, text: str) -> int:
        return estimate(text)


Evaluate = Callable[[list[str], str], Awaitable[list[Evaluation]]]


@asynccontextmanager
async def evaluating(llm: InProcessLLM, slots: int, directory: Path) -> AsyncIterator[Evaluate]:
    """Evaluates questions that have one answer, on a fresh store file, until everything is committed."""
    store = open_store(directory / f"{time.time_ns()}.db")
    options = StudyOptions(budget=CAPS, store=store, slots=slots, providers={ENDPOINT.name: llm}, method="evaluate")
    study = open_study(Task(endpoint=ENDPOINT, score_fn=exact_match()), [], options)
    program = Program.single(TEMPLATE)

    async def evaluate(questions: list[str], answer: str) -> list[Evaluation]:
        samples = [Sample(inputs={"question": text}, ground_truth=answer, id=text) for text in questions]
        evaluations = await study.evaluate([Cell(program, sample) for sample in samples], phase="benchmark")
        store.flush()
        return evaluations

    yield evaluate
    await study.close("done")
    store.close()


def evaluate_all(questions: list[str], answer: str, llm: InProcessLLM, slots: int, directory: Path) -> Taken:
    """What it takes to evaluate all questions on a fresh store file, until everything is committed."""

    async def timed() -> Taken:
        async with evaluating(llm, slots, directory) as evaluate:
            watch = Stopwatch()
            evaluations = await evaluate(questions, answer)
            taken = watch.taken()
        summary = summarise(evaluations)
        if summary.scored != len(questions) or summary.mean != 1.0:
            raise RuntimeError(f"the benchmark is broken: {summary}")
        return taken

    return asyncio.run(timed())
