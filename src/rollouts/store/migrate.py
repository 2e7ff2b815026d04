"""Brings a database to the schema that this version works with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from rollouts.errors import StoreError, StoreTooNew
from rollouts.store.dialects import is_prepared, lock_migrations, prepare_store
from rollouts.store.schema import REVISIONS, VERSION_TABLE, metadata

SCRIPTS = Path(__file__).parent / "migrations"


def bring_up_to_date(engine: Engine, place: str, alone: Callable[[], AbstractContextManager[None]]) -> None:
    """Makes or migrates the tables in one transaction; a store that is up to date costs two small reads.

    `alone` keeps other processes from doing the same at once. Raises StoreTooNew for a revision this version does not
    know, StoreError for a database that belongs to another program.
    """
    with engine.connect() as connection:
        if revision_of(connection, place) == REVISIONS[-1] and is_prepared(connection):
            return
    with alone():
        prepare_store(engine)
        with engine.connect().execution_options(write="durable") as connection, connection.begin():
            lock_migrations(connection)
            if revision_of(connection, place) != REVISIONS[-1]:
                upgrade(connection, REVISIONS[-1])


def revision_of(connection: Connection, place: str) -> str | None:
    """The revision the database is at; None for a new one."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE in tables:
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
        if revision is None or revision in REVISIONS:
            return revision
        raise StoreTooNew(
            f"store {place} has the schema {revision}, this version of rollouts knows {REVISIONS[-1]} and older: "
            "upgrade rollouts (pip install -U rollouts-optimizer), or choose another store"
        )
    foreign = tables if connection.dialect.name == "sqlite" else tables & set(metadata.tables)
    if foreign:
        raise StoreError(
            f"store {place} holds tables of another program ({', '.join(sorted(foreign)[:3])}); choose another place"
        )
    return None


def upgrade(connection: Connection, revision: str) -> None:
    """Runs the migrations up to `revision` in the transaction of `connection`."""
    # Alembic takes a third of a second to import, and a store is migrated once.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
