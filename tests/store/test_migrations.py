"""Stores of older, newer and no version of the schema."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from rollouts.errors import StoreError, StoreTooNew
from rollouts.store import SqlStore, open_store
from rollouts.store.migrate import SCRIPTS
from rollouts.store.schema import REVISIONS, VERSION_TABLE, metadata
from tests.store.rows import event, failed, generation, program, rollout, run, sample

_WITHOUT_SAMPLES = ("v1", "v2", "v3")
GOLDEN = sorted((Path(__file__).parent / "golden").glob("v*.sql"))


def test_every_schema_version_has_a_golden_store() -> None:
    assert [path.stem for path in GOLDEN] == [f"v{int(revision)}" for revision in REVISIONS]


@pytest.mark.parametrize("dump", GOLDEN, ids=lambda path: path.stem)
def test_an_old_store_is_opened_and_continued(dump: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()
    store = open_store(tmp_path / "old.db")
    changed = {"status": "stopped", "authorised": {"micros": 100}, "summary": {"best": "p1"}}
    assert store.runs() == [run("run-2", created_at=2.0), run("run-1", created_at=1.0, name="é", **changed)]
    shown = {} if dump.stem in _WITHOUT_SAMPLES else {"sample": "x"}
    paid = [rollout("a", **shown), failed("b", **shown), rollout("c", output="naïve 😀", **shown)]
    assert list(store.scan_rollouts("run-1")) == paid
    assert list(store.scan_rollouts("run-2")) == [replace(paid[2], phase="test" if shown else "")]
    assert list(store.scan_generations("run-1", phase="task")) == [generation("g")]
    assert store.programs(["p1"]) == {"p1": program("p1")}
    assert store.samples(["x"]) == ({"x": sample("x")} if shown else {})
    assert store.events("run-1") == [event(1), event(2)]
    store.record(rollout("b"), rollout("d"), event(3))
    store.update_run("run-1", status="done")
    assert [row.key for row in store.scan_rollouts("run-1")] == ["a", "c", "b", "d"]
    assert store.run("run-1").status == "done"
    store.close()
    connection = sqlite3.connect(tmp_path / "old.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_code_knows_all_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == REVISIONS


def test_the_migrations_make_the_tables_of_the_code(place: str) -> None:
    store = SqlStore(place)
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    store.close()


def test_a_newer_store_is_left_alone(place: str) -> None:
    store = SqlStore(place)
    store.record(rollout("a"))
    with store.database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
    store.close()
    with pytest.raises(StoreTooNew, match=rf"0999.*{REVISIONS[-1]}.*upgrade rollouts"):
        open_store(place)


def test_a_migration_that_fails_leaves_nothing(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreError("no power")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
        with pytest.raises(StoreError, match="no power"):
            open_store(place)
    store = open_store(place)
    store.record(rollout("a"))
    store.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Not a database.\n" * 100)
    with pytest.raises(StoreError, match=r"no SQLite database; choose another path"):
        open_store(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text().startswith("Not a database.")


def test_the_database_of_another_program(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE albums (id INTEGER)")
    connection.close()
    with pytest.raises(StoreError, match="albums"):
        open_store(tmp_path / "other.db")


def test_opening_an_up_to_date_store_loads_no_alembic(tmp_path: Path) -> None:
    open_store(tmp_path / "store.db").close()
    code = (
        "import sys; from rollouts.store import open_store; assert 'sqlalchemy' not in sys.modules; "
        f"open_store({str(tmp_path / 'store.db')!r}).close(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
