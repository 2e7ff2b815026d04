"""What a metric of the user's own computes is named: an edit of anything that counts gives it another name."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rollouts.evaluation.metrics import metric_identity

METRICS = """
    import dataclasses
    import enum
    import functools

    LIMIT = 3
    LABELS = {"b", "a"}

    def helper(text):
        return len(text) > LIMIT

    def unrelated():
        return 1

    class Base:
        def value(self, text):
            return helper(text) if self.ready else 0.0

        @property
        def ready(self):
            return CHECKED

    CHECKED = True

    class Derived(Base):
        def __call__(self, trajectory, sample):
            return self.value(trajectory.output)

    @dataclasses.dataclass
    class Options:
        limit: int = 3

    class Judge:
        __slots__ = ("limit", "options", "tags", "graph", "__hidden")

        def __init__(self, limit, options=None):
            self.limit, self.options = limit, options
            self.tags = {object, Options(1).__class__}
            self.graph = {"me": self, (1, 2): 3}
            self.__hidden = limit

        def norm(self, text):
            return text.strip()

        @classmethod
        def score_all(cls, trajectory, sample):
            return helper(trajectory.output)

        def score(self, trajectory, sample):
            return float(len(self.norm(trajectory.output)) > self.limit)

    class Node:
        def __init__(self):
            self.peers = {self: 1}
            self.loop = [self]
            self.seen = {Options}

        def score(self, trajectory, sample):
            return 1.0

    class Colour(enum.Enum):
        RED = 1

    def plain(trajectory, sample):
        return helper(trajectory.output) and trajectory.output in LABELS

    def with_default(trajectory, sample, *, limit=4, options=Options(2)):
        return Options(limit).limit + Colour.RED.value

    def made(limit):
        return lambda trajectory, sample: float(len(trajectory.output) > limit)

    METRICS = {
        "plain": plain,
        "with_default": with_default,
        "closure": made(5),
        "callable": Derived(),
        "bound": Judge(3).score,
        "class method": Judge.score_all,
        "state": Judge(3, {"a": Options(1)}).score,
        "partial": functools.partial(with_default, options=Options(7)),
        "odd": Node().score,
    }
"""


def identities(folder: Path, code: str, seed: str = "1") -> dict[str, str]:
    """The identities as a fresh process sees them."""
    (folder / "wd_metrics.py").write_text(textwrap.dedent(code))
    script = (
        "import json, wd_metrics; from rollouts.evaluation.metrics import metric_identity\n"
        "for name, metric in wd_metrics.METRICS.items(): print(name, metric_identity(metric), sep='\\t')"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=folder,
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(line.split("\t") for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return identities(tmp_path_factory.mktemp("start"), METRICS)


BY_HELPER = {"plain", "callable", "class method", "bound", "state"}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("return 1\n", "return 2\n", set()),
        ("len(text) > LIMIT", "len(text) <= LIMIT", BY_HELPER),
        ("LIMIT = 3", "LIMIT = 4", BY_HELPER),
        ("if self.ready else 0.0", "if self.ready else 0.5", {"callable"}),
        ("CHECKED = True", "CHECKED = False", {"callable"}),
        ("text.strip()", "text.upper()", {"bound", "class method", "state"}),
        ("Judge(3).score", "Judge(9).score", {"bound"}),
        ('{"a": Options(1)}', '{"a": Options(2)}', {"state"}),
        ("options=Options(7)", "options=Options(8)", {"partial"}),
        ("made(5)", "made(6)", {"closure"}),
    ],
)
def test_what_an_edit_changes(tmp_path: Path, start: dict[str, str], old: str, new: str, changed: set[str]) -> None:
    assert METRICS.count(old) == 1
    found = identities(tmp_path, METRICS.replace(old, new))
    assert {name for name in start if found[name] != start[name]} == changed


def test_the_name_is_the_same_in_every_process(tmp_path: Path, start: dict[str, str]) -> None:
    assert identities(tmp_path, METRICS, seed="2") == start


def test_the_names_of_plain_functions_stay(start: dict[str, str]) -> None:
    """Rollouts are stored under them."""
    assert {name: start[name] for name in ("plain", "with_default", "closure")} == {
        "plain": "wd_metrics:plain#8b5852a9ee40879fd140d8ed86c4079f",
        "with_default": "wd_metrics:with_default#266f2c4cb7821b7528a37e2260b5f21f",
        "closure": "wd_metrics:made.<locals>.<lambda>#37fb6876ccc13684b15edeace7e5b595",
    }


class Stated:
    identity = "judge-v2"

    def score(self, trajectory: Any, sample: Any) -> float:
        return 1.0


def test_the_stated_name_of_an_instance_counts_for_its_methods() -> None:
    class Renamed(Stated):
        identity = "judge-v3"

    assert metric_identity(Stated().score) == metric_identity(Stated().score)
    assert metric_identity(Stated().score) != metric_identity(Renamed().score)


def test_classes_of_other_packages_are_known_by_their_own_source_alone() -> None:
    import argparse

    parser = argparse.ArgumentParser(prog="x")
    one = functools.partial(lambda parser, trajectory, sample: 1.0, parser)
    assert metric_identity(one) == metric_identity(one)
    assert "0x" not in metric_identity(parser.format_help)
