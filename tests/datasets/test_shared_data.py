"""The published data sets and the configurations that come beside the checkout."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rollouts.datasets import DatasetSpec, describe, load, split

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs the folder `shared` beside the checkout"),
]


def configured(name: str) -> tuple[DatasetSpec, dict[str, int]]:
    config = tomllib.loads((SHARED / "configs" / name).read_text())["prompt_learning"]["dataset"]
    sizes = {key: config.pop(key) for key in ("train", "val", "test")}
    settings: dict[str, Any] = {**config, "path": SHARED / "configs" / config["path"]}
    return DatasetSpec(**settings), sizes


def test_banking_with_twelve_labels() -> None:
    spec, sizes = configured("banking12_mipro.toml")
    samples = load(spec)
    assert {sample.ground_truth for sample in samples} == set(spec.labels)
    summary = describe(samples)
    assert summary.labels is not None
    assert (summary.columns, summary.answers, len(summary.labels)) == (("query",), "labels", 12)
    parts = split(samples, sizes, seed=0)
    assert {name: len(part) for name, part in parts.items()} == sizes
    for name, part in parts.items():
        found = Counter(sample.ground_truth for sample in part)
        for label, count in summary.labels.items():
            assert abs(found[label] - sizes[name] * count / summary.n) < 1.1, (name, label)


def test_banking_by_name() -> None:
    samples = load(DatasetSpec(path="banking77"), data_dir=SHARED / "data")
    assert (len(samples), samples[0]["text"]) == (10_003, "I am still waiting on my card?")
    assert len({sample.ground_truth for sample in samples}) == 77
    assert len(load(DatasetSpec(path="banking77@test"), data_dir=SHARED / "data")) == 3_080


def test_sst2_without_header() -> None:
    spec, sizes = configured("sst2_mipro.toml")
    samples = load(spec)
    assert len(samples) == 6_920
    assert set(describe(samples).labels or ()) == {"positive", "negative"}
    assert {name: len(part) for name, part in split(samples, sizes).items()} == sizes


def test_gsm8k() -> None:
    samples = load(DatasetSpec(path=SHARED / "data" / "gsm8k" / "train.jsonl"), placeholders=frozenset({"question"}))
    assert len(samples) == 1_000
    assert samples[0].ground_truth.endswith("#### 72")
    assert describe(samples).answers == "text"
