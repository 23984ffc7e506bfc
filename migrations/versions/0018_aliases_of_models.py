"""Aliases of models: challenger and champion, their approvals, and what the gate answered.

Revision: 0018
Follows: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alias_moves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("alias", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("to_version", sa.Integer(), nullable=True),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_alias_moves_document")
        ),
        sa.ForeignKeyConstraint(
            ["name", "to_version"],
            ["models.name", "models.version"],
            name=op.f("fk_alias_moves_name_to_version"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_moves")),
        sa.UniqueConstraint("document", name=op.f("uq_alias_moves_document")),
        sa.UniqueConstraint(
            "name", "alias", "number", name=op.f("uq_alias_moves_name_alias_number")
        ),
    )
    op.create_table(
        "model_approvals",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("evidence", sa.String(length=71), nullable=False),
        sa.Column("approved_by", sa.String(length=80), nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_model_approvals_document")
        ),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name=op.f("fk_model_approvals_name_version"),
        ),
        sa.PrimaryKeyConstraint("name", "version", "number", name=op.f("pk_model_approvals")),
        sa.UniqueConstraint("document", name=op.f("uq_model_approvals_document")),
        sa.UniqueConstraint(
            "name",
            "version",
            "evidence",
            "approved_by",
            name=op.f("uq_model_approvals_name_version_evidence_approved_by"),
        ),
    )
    op.create_table(
        "promotion_answers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=16), nullable=False),
        sa.Column("asked_by", sa.String(length=80), nullable=False),
        sa.Column("facts", sa.String(length=71), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("codes", sa.Text(), nullable=False),
        sa.Column("rules", sa.String(length=40), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name=op.f("fk_promotion_answers_name_version"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion_answers")),
    )
    op.create_index(op.f("ix_promotion_answers_name"), "promotion_answers", ["name"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_promotion_answers_name"), table_name="promotion_answers")
    op.drop_table("promotion_answers")
    op.drop_table("model_approvals")
    op.drop_table("alias_moves")
