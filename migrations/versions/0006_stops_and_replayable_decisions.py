"""Stops, what a decision of the gate rested on, answers under an Idempotency-Key.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stops",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stop", sa.String(length=71), nullable=False),
        sa.Column("lift", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(["lift"], ["documents.digest"], name=op.f("fk_stops_lift")),
        sa.ForeignKeyConstraint(["stop"], ["documents.digest"], name=op.f("fk_stops_stop")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_stops")),
        sa.UniqueConstraint("stop", name=op.f("uq_stops_stop")),
    )
    op.create_table(
        "answered_requests",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("request", sa.String(length=71), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", "role", "key", name=op.f("pk_answered_requests")),
    )
    op.create_index(
        op.f("ix_answered_requests_answered_at"), "answered_requests", ["answered_at"], unique=False
    )
    op.add_column("gate_decisions", sa.Column("document", sa.Text(), nullable=True))
    op.add_column("gate_decisions", sa.Column("rules", sa.String(length=40), nullable=True))


def downgrade() -> None:
    op.drop_column("gate_decisions", "rules")
    op.drop_column("gate_decisions", "document")
    op.drop_index(op.f("ix_answered_requests_answered_at"), table_name="answered_requests")
    op.drop_table("answered_requests")
    op.drop_table("stops")
