"""Since when group opt-outs act at which unit, and what was said of those without the group's seal.

What bulletins showed before is not made up: from the next one of each unit on it is noted.

Revision: 0017
Follows: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "group_set_asides",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("by_unit", sa.String(length=80), nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["unit", "sequence"],
            ["group_opt_outs.unit", "group_opt_outs.sequence"],
            name=op.f("fk_group_set_asides_unit"),
        ),
        sa.ForeignKeyConstraint(
            ["by_unit"], ["opt_out_group_units.unit"], name=op.f("fk_group_set_asides_by_unit")
        ),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_group_set_asides_document")
        ),
        sa.PrimaryKeyConstraint("unit", "sequence", "by_unit", name=op.f("pk_group_set_asides")),
        sa.UniqueConstraint("document", name=op.f("uq_group_set_asides_document")),
    )
    op.create_table(
        "group_deliveries",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=True),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["unit"], ["opt_out_group_units.unit"], name=op.f("fk_group_deliveries_unit")
        ),
        sa.ForeignKeyConstraint(
            ["source"], ["opt_out_group_units.unit"], name=op.f("fk_group_deliveries_source")
        ),
        sa.PrimaryKeyConstraint(
            "unit", "source", "last_sequence", name=op.f("pk_group_deliveries")
        ),
    )


def downgrade() -> None:
    op.drop_table("group_deliveries")
    op.drop_table("group_set_asides")
