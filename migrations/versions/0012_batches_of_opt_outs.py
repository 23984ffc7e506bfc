"""Batches of opt-outs under one signature, and digests of parts of a unit's set of states.

Down: a batch's events cannot be single ones, since nobody signed them so; while there are batches,
there is no way back.

Revision: 0012
Follows: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "opt_out_batches",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_opt_out_batches_unit")),
        sa.PrimaryKeyConstraint("unit", "sequence", name=op.f("pk_opt_out_batches")),
        sa.UniqueConstraint("digest", name=op.f("uq_opt_out_batches_digest")),
    )
    op.create_table(
        "opt_out_buckets",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_opt_out_buckets_unit")),
        sa.PrimaryKeyConstraint("unit", "bucket", name=op.f("pk_opt_out_buckets")),
    )


def downgrade() -> None:
    held = op.get_bind().execute(sa.text("SELECT COUNT(*) FROM opt_out_batches")).scalar_one()
    if held:
        raise RuntimeError(f"{held} batches of opt-outs would be lost: there is no way back")
    op.drop_table("opt_out_buckets")
    op.drop_table("opt_out_batches")
