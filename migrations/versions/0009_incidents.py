"""Incidents, phase by phase.

Revision: 0009
Follows: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "incident_phases",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phase", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_incident_phases_document")
        ),
        sa.PrimaryKeyConstraint("number", "phase", name=op.f("pk_incident_phases")),
        sa.UniqueConstraint("document", name=op.f("uq_incident_phases_document")),
    )


def downgrade() -> None:
    op.drop_table("incident_phases")
