from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from rollouts.store import MemoryStore, Store, open_store
from rollouts.store.schema import VERSION_TABLE, metadata

POSTGRES = os.environ.get("ROLLOUTS_TEST_POSTGRES_URL", "")
TABLES = ", ".join([*metadata.tables, VERSION_TABLE])
needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="set ROLLOUTS_TEST_POSTGRES_URL=postgresql://... to an empty database to test PostgreSQL"
)


@pytest.fixture
def postgres() -> str:
    """The URL of an emptied PostgreSQL database."""
    engine = create_engine(POSTGRES.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {TABLES}"))
    engine.dispose()
    return POSTGRES


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store lasts: a path or URL that can be opened many times."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return str(tmp_path / "store.db")


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=needs_postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every store there is."""
    makers: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "sqlite": lambda: open_store(tmp_path / "store.db"),
        "postgres": lambda: open_store(str(request.getfixturevalue("postgres"))),
    }
    made = makers[request.param]()
    yield made
    made.close()
