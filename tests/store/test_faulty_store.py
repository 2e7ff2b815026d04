"""The store that fails on purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rollouts.errors import StoreError
from rollouts.store import MemoryStore, Store, open_store
from rollouts.testing.faulty_store import FaultyStore
from tests.store.rows import rollout, run

CHILD = """
import os, sys
from rollouts.store import open_store
from rollouts.testing.faulty_store import FaultyStore
from tests.store.rows import rollout
store = FaultyStore(open_store(sys.argv[1]), fail_after=int(sys.argv[2]), kill=lambda: os._exit(7))
for number in range(5):
    store.record(rollout(f"r{number}"))
store.close()
"""


@pytest.mark.parametrize("steps", range(4))
def test_it_fails_after_so_many_rows(store: Store, steps: int) -> None:
    faulty = FaultyStore(store, fail_after=steps)
    with pytest.raises(StoreError, match=f"after {steps} rows"):
        faulty.record(*(rollout(f"r{number}") for number in range(9)))
    with pytest.raises(StoreError):
        faulty.flush()
    assert [row.key for row in store.scan_rollouts("run-1")] == [f"r{number}" for number in range(steps)]
    assert faulty.rollouts(["r0"]) == store.rollouts(["r0"])


def test_it_fails_after_so_many_commits_with_the_given_error() -> None:
    error = StoreError("disk gone")
    faulty = FaultyStore(MemoryStore(), fail_after=2, count="commits", error=error)
    faulty.create_run(run())
    faulty.record(*(rollout(f"r{number}") for number in range(9)))
    faulty.flush()
    with pytest.raises(StoreError) as caught:
        faulty.update_run("run-1", status="done")
    assert caught.value is error
    assert faulty.run("run-1").status == "running"


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_process_killed_at_a_row_leaves_the_rows_before(tmp_path: Path, steps: int) -> None:
    arguments = [sys.executable, "-c", CHILD, str(tmp_path / "store.db"), str(steps)]
    assert subprocess.run(arguments, cwd=Path(__file__).parents[2], check=False).returncode == 7
    store = open_store(tmp_path / "store.db")
    assert [row.key for row in store.scan_rollouts("run-1")] == [f"r{number}" for number in range(steps)]
    store.close()
