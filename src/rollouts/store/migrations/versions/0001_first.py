"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_FAILED = sa.text("failure IS NOT NULL")


def _cost_columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("prompt_tokens", _INT, nullable=False),
        sa.Column("completion_tokens", _INT, nullable=False),
        sa.Column("cached_tokens", _INT, nullable=False),
        sa.Column("cost_micros", _INT, nullable=False),
        sa.Column("latency_s", sa.Double, nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("elapsed_s", sa.Double, nullable=False),
        sa.Column("authorised", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
    )
    op.create_index("ix_runs_created", "runs", ["created_at", "id"])
    op.create_table(
        "rollouts",
        sa.Column("id", _INT, primary_key=True),
        sa.Column("key", sa.String, nullable=False, unique=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("program", sa.String, nullable=False),
        sa.Column("sample_id", sa.Text, nullable=False),
        sa.Column("repeat", _INT, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("failure", sa.Text),
        *_cost_columns(),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_rollouts_run", "rollouts", ["run_id", "id"])
    op.create_index("ix_rollouts_failed", "rollouts", ["run_id", "id"], sqlite_where=_FAILED, postgresql_where=_FAILED)
    op.create_table(
        "generations",
        sa.Column("id", _INT, primary_key=True),
        sa.Column("key", sa.String, nullable=False, unique=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("request", sa.Text),
        sa.Column("response", sa.Text, nullable=False),
        *_cost_columns(),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_generations_run", "generations", ["run_id", "id"])
    op.create_table(
        "programs",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("modules", sa.Text, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("seq", _INT, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "run_rollouts",
        sa.Column("id", _INT, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.UniqueConstraint("run_id", "key"),
    )
    op.create_index("ix_run_rollouts_run", "run_rollouts", ["run_id", "id"])


def downgrade() -> None:
    raise NotImplementedError("a store is never migrated back")
