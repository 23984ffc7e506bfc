"""Evaluations of models, and which models they are about.

The documents of evaluations stay on the way down; only where to find them is lost.

Revision: 0019
Follows: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.Column("evaluated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_evaluations_document")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["permits.run_id"], name=op.f("fk_evaluations_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint("document", name=op.f("uq_evaluations_document")),
        sa.UniqueConstraint("run_id", name=op.f("uq_evaluations_run_id")),
    )
    op.create_table(
        "evaluated_models",
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("artifact", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.digest"], name=op.f("fk_evaluated_models_artifact")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["evaluations.run_id"], name=op.f("fk_evaluated_models_run_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "place", name=op.f("pk_evaluated_models")),
    )
    op.create_index(
        op.f("ix_evaluated_models_artifact"), "evaluated_models", ["artifact"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_evaluated_models_artifact"), table_name="evaluated_models")
    op.drop_table("evaluated_models")
    op.drop_table("evaluations")
