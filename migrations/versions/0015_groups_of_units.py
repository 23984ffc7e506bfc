"""Groups of units, and the opt-outs that act at all of a group.

Revision: 0015
Follows: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "opt_out_groups",
        sa.Column("group_name", sa.String(length=80), nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_opt_out_groups_document")
        ),
        sa.PrimaryKeyConstraint("group_name", name=op.f("pk_opt_out_groups")),
    )
    op.create_table(
        "opt_out_group_units",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("group_name", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_opt_out_group_units_unit")),
        sa.ForeignKeyConstraint(
            ["group_name"],
            ["opt_out_groups.group_name"],
            name=op.f("fk_opt_out_group_units_group_name"),
        ),
        sa.PrimaryKeyConstraint("unit", name=op.f("pk_opt_out_group_units")),
    )
    op.create_index(
        op.f("ix_opt_out_group_units_group_name"), "opt_out_group_units", ["group_name"]
    )
    op.create_table(
        "group_opt_outs",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["unit"], ["opt_out_group_units.unit"], name=op.f("fk_group_opt_outs_unit")
        ),
        sa.PrimaryKeyConstraint("unit", "sequence", name=op.f("pk_group_opt_outs")),
        sa.UniqueConstraint("digest", name=op.f("uq_group_opt_outs_digest")),
    )


def downgrade() -> None:
    op.drop_table("group_opt_outs")
    op.drop_index(op.f("ix_opt_out_group_units_group_name"), table_name="opt_out_group_units")
    op.drop_table("opt_out_group_units")
    op.drop_table("opt_out_groups")
