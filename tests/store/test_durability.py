"""What is left after disks fill, files are locked and processes are killed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event as listening

from rollouts.errors import ConfigError, RunLocked, StoreError
from rollouts.store import SqlStore, Store, open_store
from tests.store.conftest import POSTGRES
from tests.store.rows import failed, generation, rollout, run

CHILD = """
import sys, time
from rollouts.store import open_store
from tests.store.rows import rollout, generation, run
place, task = sys.argv[1:]
store = open_store(place)
if task == "write":
    store.create_run(run())
    for number in range(10**9):
        store.record(rollout(f"r{number}"), generation(f"g{number}"))
        if number % 100 == 99:
            store.flush()
            print(number + 1, flush=True)
if task == "lock":
    store.lock_run("run-1")
    print("locked", flush=True)
    time.sleep(60)
if task == "exit":
    store.record(rollout("last"))
"""


class Child:
    """Another process that works on the store."""

    def __init__(self, place: str, task: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, place, task], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait(20)


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.kill()


def set_pragma(store: SqlStore, pragma: str) -> None:
    """For every connection that the store uses from now on."""
    engine = store.database.engine
    listening.listen(engine, "checkout", lambda connection, *_: connection.execute(f"PRAGMA {pragma}").close())


def test_kill_9_while_writing_loses_nothing_flushed(place: str, children: list[Child]) -> None:
    child = Child(place, "write")
    children.append(child)
    for _ in range(5):
        durable = int(child.line())
    child.kill()
    store = open_store(place)
    rows = list(store.scan_rollouts("run-1"))
    assert len(rows) >= durable
    assert [row.key for row in rows] == [f"r{number}" for number in range(len(rows))]
    assert len(list(store.scan_generations("run-1"))) == len(rows)
    assert store.run("run-1") == run()
    store.record(rollout("after"))
    store.close()


def test_another_process_reads_while_a_run_writes(place: str, children: list[Child]) -> None:
    child = Child(place, "write")
    children.append(child)
    seen = [int(child.line())]
    with_reader = open_store(place)
    for _ in range(5):
        count = len(list(with_reader.scan_rollouts("run-1", page=50)))
        assert count >= seen[-1]
        seen.append(int(child.line()))
        with_reader.record(generation(f"reader {count}"))
        with_reader.flush()
    with_reader.close()


def test_a_scan_ends_although_rows_keep_coming(store: Store) -> None:
    store.record(rollout("r0"), generation("g0"))
    store.flush()
    for scan, kind in ((store.scan_rollouts, rollout), (store.scan_generations, generation)):
        seen = 0
        for seen, _ in enumerate(scan("run-1", page=1), start=1):
            store.record(kind(f"more {seen}"))
            store.flush()
            assert seen < 10
        assert seen >= 1


def test_a_forgotten_close_loses_nothing(place: str) -> None:
    assert Child(place, "exit").wait() == 0
    store = open_store(place)
    assert store.rollouts(["last"]).keys() == {"last"}
    store.close()


def test_a_lock_ends_with_its_process(place: str, children: list[Child]) -> None:
    child = Child(place, "lock")
    children.append(child)
    assert child.line() == "locked"
    store = open_store(place)
    with pytest.raises(RunLocked, match="run-1"):
        store.lock_run("run-1")
    store.lock_run("run-2")
    child.kill()
    end = time.monotonic() + 5
    while True:
        try:
            store.lock_run("run-1")
            break
        except RunLocked:
            assert time.monotonic() < end
            time.sleep(0.01)
    store.close()


def test_a_lock_ends_when_the_store_closes(place: str) -> None:
    first, second = open_store(place), open_store(place)
    first.lock_run("run-1")
    with pytest.raises(RunLocked):
        second.lock_run("run-1")
    first.close()
    second.lock_run("run-1")
    second.close()


def test_the_lock_names_its_holder_and_leaves_no_file(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "a.db"), open_store(tmp_path / "a.db")
    first.lock_run("run-1")
    with pytest.raises(RunLocked, match="this process"):
        second.lock_run("run-1")
    first.close()
    second.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_many_processes_first_open_at_once(place: str) -> None:
    started = [Child(place, "exit") for _ in range(4)]
    assert [child.wait() for child in started] == [0] * 4
    store = open_store(place)
    assert store.rollouts(["last"]).keys() == {"last"}
    store.close()


def test_two_stores_write_the_same_keys(place: str) -> None:
    stores = [SqlStore(place), SqlStore(place)]
    for number in range(300):
        for store in stores if number % 2 else stores[::-1]:
            store.record(failed(f"k{number}"), generation(f"g{number}"))
    for number in range(300):
        for store in stores:
            store.record(rollout(f"k{number}"))
    for store in stores:
        store.flush()
    assert len(stores[0].rollouts([f"k{number}" for number in range(300)])) == 300
    assert len(list(stores[0].scan_rollouts("run-1"))) == 300
    for store in stores:
        store.close()


def test_a_full_disk_says_what_to_do_and_keeps_the_rest(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "store.db")
    store.create_run(run())
    store.record(rollout("before"))
    store.flush()
    set_pragma(store, "max_page_count=40")
    store.record(*(rollout(f"r{number}", output="x" * 4000) for number in range(100)))
    for _ in range(2):
        with pytest.raises(StoreError, match=r"disk is full; free some space.*kept"):
            store.flush()
    with pytest.raises(StoreError, match="disk is full"):
        store.record(rollout("next"))
    with pytest.raises(StoreError, match="disk is full"):
        store.update_run("run-1", status="done")
    assert store.rollouts(["before"]).keys() == {"before"}
    with pytest.raises(StoreError, match="disk is full"):
        store.close()
    store = SqlStore(tmp_path / "store.db")
    assert [row.key for row in store.scan_rollouts("run-1")] == ["before"]
    store.record(rollout("next"))
    store.close()


def test_a_store_that_cannot_be_written_is_still_read(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "store.db")
    store.record(rollout("a"))
    store.flush()
    set_pragma(store, "query_only=ON")
    with pytest.raises(StoreError, match="permissions"):
        store.create_run(run())
    store.record(rollout("b"))
    with pytest.raises(StoreError, match="permissions"):
        store.flush()
    assert [row.key for row in store.scan_rollouts("run-1")] == ["a"]
    with pytest.raises(StoreError):
        store.close()


def test_a_read_only_file(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "store.db")
    store.record(rollout("a"))
    store.close()
    (tmp_path / "store.db").chmod(0o444)
    if os.access(tmp_path / "store.db", os.W_OK):
        pytest.skip("this user may write read-only files")
    store = SqlStore(tmp_path / "store.db")
    assert store.rollouts(["a"]).keys() == {"a"}
    with pytest.raises(StoreError, match="permissions"):
        store.create_run(run())
    store.close()


def test_a_locked_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollouts.store.dialects.BUSY_TIMEOUT_S", 0.02)
    store = SqlStore(tmp_path / "store.db")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.record(rollout("a"))
    with pytest.raises(StoreError, match="another process"):
        store.flush()
    assert store.rollouts(["a"]).keys() == {"a"}
    other.close()
    with pytest.raises(StoreError, match="another process"):
        store.close()


def test_data_that_is_not_json_is_refused_where_it_is_recorded(place: str) -> None:
    store = open_store(place)
    for wrong in (object(), {1, 2}, b"x"):
        with pytest.raises(StoreError, match="only JSON"):
            store.record(rollout("a", data={"x": wrong}))
    store.record(rollout("b"))
    store.close()


def test_text_that_no_database_holds(place: str) -> None:
    store = open_store(place)
    store.record(
        rollout("a", output="\ud83d \0 é 😀", data={"x": "\ud83d\0é"}), generation("g", response={"t": "\ude00"})
    )
    store.flush()
    found = store.rollouts(["a"])["a"]
    assert (found.output, found.data) == ("\ufffd \ufffd é 😀", {"x": "\ud83d\0é"})
    assert store.generations(["g"])["g"].response == {"t": "\ude00"}
    store.close()


def test_a_full_queue_makes_record_wait(place: str) -> None:
    store = SqlStore(place, queue_rows=10)
    commit, gate = store._writer._commit, threading.Event()
    store._writer._commit = lambda batch: (gate.wait(5), commit(batch))[1]  # type: ignore[func-returns-value]
    recorded = []

    def produce() -> None:
        for number in range(100):
            store.record(rollout(f"r{number}"))
            recorded.append(number)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(0.05)
    assert 10 <= len(recorded) <= 20
    gate.set()
    producer.join(10)
    store.flush()
    assert len(list(store.scan_rollouts("run-1"))) == 100
    store.close()


def test_a_large_store_is_read_in_little_memory(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "store.db")
    for start in range(0, 100_000, 1000):
        store.record(*(rollout(f"r{number}") for number in range(start, start + 1000)))
    store.flush()
    tracemalloc.start()
    count = sum(1 for _ in store.scan_rollouts("run-1"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 8e6
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_must_open_its_own(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "store.db")
    child = os.fork()
    if child == 0:
        try:
            store.record(rollout("a"))
        except StoreError as error:
            os._exit(7 if "open it in this process" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    store.record(rollout("a"))
    store.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (":memory:", "MemoryStore"),
        ("sqlite://", "MemoryStore"),
        ("mysql://host/name", "mysql"),
        ("http//://[", "read"),
        ("sqlite:///a.db?mode=ro", "options"),
    ],
)
def test_a_place_that_can_be_no_store(wrong: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SqlStore(wrong)


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.db"):
        open_store(tmp_path)


def test_missing_directories_are_made(tmp_path: Path) -> None:
    open_store(tmp_path / "a" / "b" / "store.db").close()
    open_store(f"sqlite:///{tmp_path}/c/store.db").close()
    assert (tmp_path / "a" / "b" / "store.db").exists()
    assert (tmp_path / "c" / "store.db").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="another path"):
        open_store(tmp_path / "file" / "store.db")


def test_no_password_in_errors() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://me:s3cret@127.0.0.1:1/none")
    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.skipif(not POSTGRES, reason="needs ROLLOUTS_TEST_POSTGRES_URL")
def test_a_lost_connection_is_made_again(postgres: str) -> None:
    store = SqlStore(postgres)
    store.record(rollout("a"))
    store.flush()
    other = SqlStore(postgres)
    with other.database.read() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
    store.record(rollout("b"))
    store.flush()
    assert store.rollouts(["a", "b"]).keys() == {"a", "b"}
    store.close()
    other.close()
