"""The rows of the comparison: the same for everyone, balanced, and nothing in two parts."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.mipro_comparison.ours import splits_of
from benchmarks.mipro_comparison.tasks import BANKING12, DATA, TASKS, Data, Sizes, Task, default_sizes, load_task

from rollouts.errors import ConfigError, DataError

SMALL = Sizes(train=26, val=24, test=30)
WORDS = ("card", "late", "code", "fee", "bank", "money", "app", "why", "where", "please")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up files in the forms of the real ones; some test texts are training texts in other letters."""
    root, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    for part, count in (("train", 8), ("test", 5)):
        (root / "banking77").mkdir(exist_ok=True)
        with (root / "banking77" / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "category"])
            for label in BANKING12:
                for number in range(count):
                    text = f"{label} {number if number < 3 else part + str(number)}"
                    writer.writerow([text if part == "train" else text.upper(), label])
    (root / "sst2").mkdir()
    for part in ("train", "dev"):
        lines = [f"{' '.join(rng.choices(WORDS, k=12))} {part} {n}\t{n % 2}" for n in range(80)]
        (root / "sst2" / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return root


def check(task: Task, data: Data, sizes: Sizes) -> None:
    """Sizes, labels, ids, and no text twice, in whatever letters."""
    parts = (data.train, data.val, data.test)
    assert tuple(map(len, parts)) == (sizes.train, sizes.val, sizes.test)
    rows = [row for part in parts for row in part]
    assert len({" ".join(row[task.input].casefold().split()) for row in rows}) == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["label"] for row in rows} == set(task.labels)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_are_balanced_and_in_one_part_only(name: str, seed: int, folder: Path) -> None:
    task, data = load_task(name, seed=seed, sizes=SMALL, data=folder)
    check(task, data, SMALL)
    for rows in (data.train, data.val, data.test):
        counts = Counter(row["label"] for row in rows)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_gives_everyone_the_same_rows_and_another_one_others(name: str, folder: Path) -> None:
    first = load_task(name, seed=3, sizes=SMALL, data=folder)
    assert load_task(name, seed=3, sizes=SMALL, data=folder) == first
    assert load_task(name, seed=4, sizes=SMALL, data=folder)[1].test != first[1].test


@pytest.mark.parametrize("name", TASKS)
def test_the_search_sees_no_test_row(name: str, folder: Path) -> None:
    task, data = load_task(name, seed=0, sizes=SMALL, data=folder)
    splits = splits_of(task, data)
    seen = {sample.id for part in (splits.train, splits.val, splits.test) for sample in part}
    assert seen == {row["id"] for row in (*data.train, *data.val)}
    assert not seen & {row["id"] for row in data.test}


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not beside the checkout")
@pytest.mark.parametrize("name", TASKS)
def test_the_real_data_have_rows_enough(name: str) -> None:
    task, data = load_task(name, seed=0)
    check(task, data, default_sizes(name))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        load_task("sst2", seed=0, data=tmp_path)
    with pytest.raises(ConfigError, match="banking12"):
        load_task("banking", seed=0)
