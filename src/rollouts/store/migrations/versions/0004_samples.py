"""What was asked: samples, and which of them a rollout is of."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "samples",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("ground_truth", sa.Text),
    )
    op.add_column("rollouts", sa.Column("sample", sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("a store is never migrated back")
