"""Notices that are due, and their way to each receiver.

Revision: 0007
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("occasion", sa.String(length=300), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint("event_id", name=op.f("uq_notices_event_id")),
        sa.UniqueConstraint("occasion", name=op.f("uq_notices_occasion")),
    )
    op.create_table(
        "notice_deliveries",
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("receiver", sa.String(length=80), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"], ["notices.event_id"], name=op.f("fk_notice_deliveries_event_id")
        ),
        sa.PrimaryKeyConstraint("event_id", "receiver", name=op.f("pk_notice_deliveries")),
    )
    op.create_index(
        op.f("ix_notice_deliveries_next_at"), "notice_deliveries", ["next_at"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_notice_deliveries_next_at"), table_name="notice_deliveries")
    op.drop_table("notice_deliveries")
    op.drop_table("notices")
