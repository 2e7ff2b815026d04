"""When the end of a job is to be told to its webhook."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("webhook_due", sa.Double))
    op.create_index("ix_jobs_webhook", "jobs", ["webhook_due"])


def downgrade() -> None:
    raise NotImplementedError("a store is never migrated back")
