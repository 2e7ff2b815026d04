"""The SQL for many rows is what SQLAlchemy itself would compile, in both databases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg

from rollouts.store.codec import QUEUED, ROLLOUTS, Codec
from rollouts.store.dialects import among_sql, insert_sql, without_password

DIALECTS = [
    pytest.param(sqlite.dialect(paramstyle="qmark"), sqlite.insert, id="sqlite"),
    pytest.param(psycopg.dialect(paramstyle="format"), postgresql.insert, id="postgresql"),
]


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("folder/runs.db", "folder/runs.db"),
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=s3cret", "postgresql://host/db?user=me"),
    ],
)
def test_a_place_is_shown_without_its_password(place: str, shown: str) -> None:
    assert without_password(place) == shown


@pytest.mark.parametrize("size", [1, 2, 64])
@pytest.mark.parametrize("codec", QUEUED.values(), ids=lambda codec: codec.table.name)
@pytest.mark.parametrize(("dialect", "insert"), DIALECTS)
def test_of_many_rows(dialect: Any, insert: Any, codec: Codec[Any], size: int) -> None:
    engine: Any = SimpleNamespace(dialect=dialect)
    whole = insert(codec.table).inline().values([dict.fromkeys(codec.names)] * size).on_conflict_do_nothing()
    assert insert_sql(engine, codec.table, codec.names, size) == str(whole.compile(dialect=dialect))

    key = codec.table.c[codec.names[0]]
    among = key.in_([bindparam(f"key_{number}", type_=key.type) for number in range(size)])
    statements: list[Any] = [select(*codec.columns)]
    if codec is ROLLOUTS:
        statements.append(delete(codec.table).where(codec.table.c.failure.is_not(None)))
    for statement in statements:
        assert among_sql(engine, statement, key, size) == str(statement.where(among).compile(dialect=dialect))
