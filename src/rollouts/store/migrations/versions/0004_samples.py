"""What was asked, and when: samples, which of them a rollout is of, and in which phase of a run it was wanted."""

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
    for table, column in (("rollouts", "sample"), ("rollouts", "phase"), ("run_rollouts", "phase")):
        op.add_column(table, sa.Column(column, sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("a store is never migrated back")
