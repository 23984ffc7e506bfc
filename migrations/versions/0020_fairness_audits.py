"""Fairness audits of model versions, and the waivers beside them.

The documents stay on the way down; only where to find them is lost.

Revision: 0020
Follows: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fairness_audits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.Column("audited_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_fairness_audits_document")
        ),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name=op.f("fk_fairness_audits_name"),
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["evaluations.run_id"], name=op.f("fk_fairness_audits_run_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fairness_audits")),
        sa.UniqueConstraint("document", name=op.f("uq_fairness_audits_document")),
        sa.UniqueConstraint(
            "name", "version", "number", name=op.f("uq_fairness_audits_name_version_number")
        ),
        sa.UniqueConstraint("run_id", name=op.f("uq_fairness_audits_run_id")),
    )
    op.create_table(
        "waivers",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_waivers_document")
        ),
        sa.ForeignKeyConstraint(
            ["name", "version"], ["models.name", "models.version"], name=op.f("fk_waivers_name")
        ),
        sa.PrimaryKeyConstraint("name", "version", "number", name=op.f("pk_waivers")),
        sa.UniqueConstraint("document", name=op.f("uq_waivers_document")),
    )


def downgrade() -> None:
    op.drop_table("waivers")
    op.drop_table("fairness_audits")
