"""The tasks of the comparison, and the rows that everyone gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.mipro_comparison.outcome import Row
from rollouts.datasets import DatasetSpec, load, same_inputs, split
from rollouts.dtypes import Sample
from rollouts.errors import ConfigError, DataError

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

BANKING12 = (
    "activate_my_card",
    "age_limit",
    "cancel_transfer",
    "card_arrival",
    "change_pin",
    "country_support",
    "exchange_rate",
    "lost_or_stolen_card",
    "passcode_forgotten",
    "terminate_account",
    "top_up_limits",
    "verify_my_identity",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Rows of each part."""

    train: int
    val: int
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every optimizer is told of a task.

    input: the placeholder; instruction: the starting prompt; user: the user message, for those that have templates;
    answer: the name of the answer, for those that have fields. demos: most demonstrations in a prompt. max_tokens: of
    an answer that is the label alone. sizes: rows where the command line names none.
    """

    name: str
    input: str
    instruction: str
    user: str
    answer: str
    labels: tuple[str, ...]
    demos: int
    max_tokens: int
    sizes: Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Rows: the task's input, `label`, and an `id`. No text is in two parts."""

    train: tuple[Row, ...]
    val: tuple[Row, ...]
    test: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A task, without labels where they are read off its data. `test` None: the test rows are taken from `train`."""

    task: Task
    train: DatasetSpec
    test: DatasetSpec | None = field(default=None)


def _banking(name: str, labels: tuple[str, ...], sizes: Sizes, max_tokens: int) -> _Source:
    def part(file: str) -> DatasetSpec:
        return DatasetSpec(
            path=f"banking77/{file}.csv", inputs={"query": "text"}, ground_truth="category", labels=labels
        )

    task = Task(
        name=name,
        input="query",
        instruction="Classify the customer's message into one banking intent.",
        user="Query: {query}\nIntent:",
        answer="intent",
        labels=labels,
        demos=24,
        max_tokens=max_tokens,
        sizes=sizes,
    )
    return _Source(task=task, train=part("train"), test=part("test"))


def _sst2() -> _Source:
    train = DatasetSpec(
        path="sst2/train.tsv",
        columns=("review", "sentiment"),
        inputs={"review": "review"},
        ground_truth="sentiment",
        rename_labels={"0": "negative", "1": "positive"},
    )
    task = Task(
        name="sst2",
        input="review",
        instruction="Decide whether the film review is positive or negative.",
        user="Message: {review}\nLabel:",
        answer="sentiment",
        labels=(),
        demos=8,
        max_tokens=8,
        sizes=Sizes(train=64, val=96, test=200),
    )
    return _Source(task=task, train=train, test=replace(train, path="sst2/dev.tsv"))


def _tickets() -> _Source:
    task = Task(
        name="tickets",
        input="message",
        instruction="Route the customer's message to one of the shop's desks.",
        user="Message: {message}\nRoute:",
        answer="route",
        labels=(),
        demos=12,
        max_tokens=12,
        sizes=Sizes(train=96, val=96, test=200),
    )
    return _Source(task=task, train=DatasetSpec(path="tickets", inputs={"message": "ticket"}))


_SOURCES = {
    "banking12": _banking("banking12", BANKING12, Sizes(train=96, val=96, test=240), 16),
    "banking77": _banking("banking77", (), Sizes(train=154, val=154, test=231), 24),
    "sst2": _sst2(),
    "tickets": _tickets(),
}
TASKS = tuple(_SOURCES)


def default_sizes(name: str) -> Sizes:
    """The sizes of a task where none are asked for. Raises ConfigError for an unknown task."""
    return _source(name).task.sizes


def load_task(name: str, *, seed: int, sizes: Sizes | None = None, data: Path = DATA) -> tuple[Task, Data]:
    """The task and its rows: shuffled with `seed`, stratified, the same for everyone who asks with the same arguments.

    Test rows come from the data's own test file where there is one. `data` is the folder that holds `banking77` and
    `sst2`. Raises ConfigError for an unknown task, DataError when the data are not there or too few.
    """
    source = _source(name)
    counts = sizes or source.task.sizes
    rows = _read(source.train, data)
    labels = source.task.labels or tuple(sorted({str(sample.ground_truth) for sample in rows}))
    task = replace(source.task, labels=labels)
    wanted = {"train": counts.train, "val": counts.val}
    if source.test is None:
        parts = split(rows, {**wanted, "test": counts.test}, seed=seed)
    else:
        parts = split(rows, wanted, seed=seed)
        unseen = _unlike([*parts["train"], *parts["val"]], _read(source.test, data))
        parts |= split(unseen, {"test": counts.test}, seed=seed)
    made = {
        part: tuple(_row(task, sample, part if part == "test" and source.test else "train") for sample in parts[part])
        for part in parts
    }
    return task, Data(**made)


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise ConfigError(f"there is no task {name!r}; the tasks are {', '.join(TASKS)}")
    return _SOURCES[name]


def _read(spec: DatasetSpec, data: Path) -> list[Sample]:
    if spec.path == "tickets":
        return load(spec)
    path = data / spec.path
    if not path.is_file():
        raise DataError(f"{path} is not there: name the folder that holds banking77 and sst2 with --data")
    return load(replace(spec, path=path))


def _unlike(seen: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """Those of `others` whose inputs are not in `seen`."""
    known = set(map(id, seen))
    return [sample for group in same_inputs([*seen, *others]) if id(group[0]) not in known for sample in group]


def _row(task: Task, sample: Sample, file: str) -> Row:
    return {
        task.input: str(sample.inputs[task.input]),
        "label": str(sample.ground_truth),
        "id": f"{file}-{sample.id}",
    }
