"""The task apps that come with the package."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from rollouts.datasets import DatasetSpec, load
from rollouts.dtypes import Environment, PromptTemplate, Sample
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.errors import ConfigError, DataError
from rollouts.evaluation.metrics import resolve_metric
from rollouts.taskapp.programs import serve_program

Make = Callable[[Path | None, Sequence[str]], FastAPI]
"""(folder with data sets, environment keys) -> the app."""

_SEED = 0
_QUESTIONS = 200
_FORMS: tuple[tuple[str, Callable[[int, int, int], int]], ...] = (
    ("A hall has {a} rows of {b} seats, and {c} seats are broken. How many can be used?", lambda a, b, c: a * b - c),
    ("A farm sends {a} crates of {b} eggs and {c} loose eggs. How many eggs are that?", lambda a, b, c: a * b + c),
    ("A printer makes {b} pages an hour. How many are left of {c} thousand after {a} hours?",
     lambda a, b, c: c * 1000 - a * b),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """One app: what it is, the port it listens on by default, and how it is made."""

    about: str
    port: int
    make: Make


def banking77(data_dir: Path | None, keys: Sequence[str]) -> FastAPI:
    """Intents of banking customers (Casanueva et al. 2020), in a fixed random order: the file is sorted by intent, so
    that neighbouring seeds would be of one kind.

    Raises DataError that says what to do where the data set is neither in `data_dir` nor to be had.
    """
    try:
        rows = load(DatasetSpec(path="banking77"), data_dir=data_dir, cache_dir=_cache_dir())
    except DataError as error:
        raise DataError(
            f"{error}; give --data-dir DIR with DIR/banking77/train.csv in it, or serve the data that come with the "
            "package: rollouts task-app tickets"
        ) from error
    intents = ", ".join(sorted({str(row.ground_truth) for row in rows}))
    system = f"Name the intent of the bank customer's message. Answer with one of: {intents}."
    return serve_program(
        "banking77",
        random.Random(_SEED).sample(rows, len(rows)),
        PromptTemplate(system=system, user_template="Message: {text}\nIntent:"),
        resolve_metric("exact_match"),
        description="Messages of customers of a bank, each of one of 77 intents.",
        keys=keys,
    )


def tickets(data_dir: Path | None, keys: Sequence[str]) -> FastAPI:
    """Support tickets and where they go; the data come with the package, and `data_dir` is not read."""
    rows = load(DatasetSpec(path="tickets"))
    return serve_program(
        "tickets",
        random.Random(_SEED).sample(rows, len(rows)),
        PromptTemplate(system="Route the support ticket.", user_template="Ticket: {ticket}\nRoute:"),
        resolve_metric("exact_match"),
        description="Routes a customer's message to the team that answers it.",
        keys=keys,
    )


def calculator(data_dir: Path | None, keys: Sequence[str]) -> FastAPI:
    """Word problems with numbers that are too large to guess, for an agent with a calculator."""
    return serve_program(
        "calculator",
        _questions(),
        PromptTemplate(system="Answer the question. Use the calculator.", user_template="{question}"),
        resolve_metric("numeric_match"),
        description="Word problems for an agent with a calculator; the answer is a number.",
        environment_factory=_calculator,
        keys=keys,
    )


APPS: Mapping[str, Shipped] = {
    "banking77": Shipped(about="intents of bank customers (needs the data set)", port=8002, make=banking77),
    "calculator": Shipped(about="word problems for an agent with a calculator", port=8003, make=calculator),
    "tickets": Shipped(about="routes of support tickets (the data come with the package)", port=8001, make=tickets),
}


def shipped(name: str) -> Shipped:
    """The app with that name; raises ConfigError that names the others."""
    if name not in APPS:
        raise ConfigError(f"there is no task app {name!r}; one of {', '.join(APPS)}")
    return APPS[name]


def _questions() -> list[Sample]:
    rng = random.Random(_SEED)
    out = []
    for number in range(_QUESTIONS):
        text, answer = _FORMS[number % len(_FORMS)]
        a, b, c = rng.randint(12, 99), rng.randint(101, 999), rng.randint(100, 300)
        truth = answer(a, b, c)
        out.append(Sample(inputs={"question": text.format(a=a, b=b, c=c)}, ground_truth=truth, id=str(number)))
    return out


def _calculator(sample: Mapping[str, object]) -> Environment:
    return CalculatorEnvironment()


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollouts"
