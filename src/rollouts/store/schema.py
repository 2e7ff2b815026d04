"""The tables as this version of the code reads and writes them. `migrations` makes them.

Every JSON value is text that Python's `json` wrote: one format in every database, and no second parse on the way in.
Rows that are scanned have an `id` that counts up in the order of recording.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISIONS = ("0001", "0002", "0003", "0004")
"""All schema versions this code can migrate from, oldest first; the last is the one it works with."""

VERSION_TABLE = "rollouts_version"

metadata = MetaData()

_Int = BigInteger().with_variant(Integer, "sqlite")


def _cost_columns() -> tuple[Column[object], ...]:
    return (
        Column("prompt_tokens", _Int, nullable=False),
        Column("completion_tokens", _Int, nullable=False),
        Column("cached_tokens", _Int, nullable=False),
        Column("cost_micros", _Int, nullable=False),
        Column("latency_s", Double, nullable=False),
    )


runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("method", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("config", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("elapsed_s", Double, nullable=False),
    Column("authorised", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Index("ix_runs_created", "created_at", "id"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", _Int, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("run_id", String, nullable=False),
    Column("program", String, nullable=False),
    Column("sample_id", Text, nullable=False),
    Column("repeat", _Int, nullable=False),
    Column("score", Double),
    Column("output", Text, nullable=False),
    Column("failure", Text),
    *_cost_columns(),
    Column("data", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("sample", String, nullable=False, server_default=""),
    Column("phase", String, nullable=False, server_default=""),
    Index("ix_rollouts_run", "run_id", "id"),
    Index(
        "ix_rollouts_failed",
        "run_id",
        "id",
        sqlite_where=text("failure IS NOT NULL"),
        postgresql_where=text("failure IS NOT NULL"),
    ),
)

generations = Table(
    "generations",
    metadata,
    Column("id", _Int, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("run_id", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("model", Text, nullable=False),
    Column("request", Text),
    Column("response", Text, nullable=False),
    *_cost_columns(),
    Column("created_at", Double, nullable=False),
    Index("ix_generations_run", "run_id", "id"),
)

programs = Table(
    "programs",
    metadata,
    Column("digest", String, primary_key=True),
    Column("modules", Text, nullable=False),
)

samples = Table(
    "samples",
    metadata,
    Column("digest", String, primary_key=True),
    Column("inputs", Text, nullable=False),
    Column("ground_truth", Text),
)

events = Table(
    "events",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("seq", _Int, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

run_rollouts = Table(
    "run_rollouts",
    metadata,
    Column("id", _Int, primary_key=True),
    Column("run_id", String, nullable=False),
    Column("key", String, nullable=False),
    Column("phase", String, nullable=False, server_default=""),
    UniqueConstraint("run_id", "key"),
    Index("ix_run_rollouts_run", "run_id", "id"),
)

# What follows is used by the service alone. It stands here because one database has one history of migrations.

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("error", Text),
    Column("summary", Text),
    Column("result", Text),
    Column("webhook_due", Double),
    Index("ix_jobs_owner", "owner", "created_at", "id"),
    Index("ix_jobs_finished", "finished_at"),
    Index("ix_jobs_webhook", "webhook_due"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
)

env_keys = Table(
    "env_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("ciphertext", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("owner", "name"),
)
