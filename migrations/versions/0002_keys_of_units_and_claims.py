"""The keys that units had one after the other, revoked accounts, one-time codes.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "claim_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_by", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_claim_codes")),
    )
    op.create_table(
        "unit_keys",
        sa.Column("node_key", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("transport_key", sa.String(length=300), nullable=True),
        sa.Column("certificate", sa.String(length=71), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(
            ["certificate"], ["documents.digest"], name=op.f("fk_unit_keys_certificate")
        ),
        sa.ForeignKeyConstraint(
            ["ended_by"], ["documents.digest"], name=op.f("fk_unit_keys_ended_by")
        ),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_unit_keys_unit")),
        sa.PrimaryKeyConstraint("node_key", name=op.f("pk_unit_keys")),
        sa.UniqueConstraint("transport_key", name=op.f("uq_unit_keys_transport_key")),
    )
    op.create_index(op.f("ix_unit_keys_unit"), "unit_keys", ["unit"], unique=False)
    op.execute(
        "INSERT INTO unit_keys (node_key, unit, certificate, started_at) "
        "SELECT u.node_key, u.unit, u.certificate, d.recorded_at "
        "FROM units u JOIN documents d ON d.digest = u.certificate"
    )
    op.add_column("accounts", sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("accounts", "revoked_at")
    op.drop_index(op.f("ix_unit_keys_unit"), table_name="unit_keys")
    op.drop_table("unit_keys")
    op.drop_table("claim_codes")
