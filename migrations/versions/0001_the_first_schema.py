"""The first schema.

Revision: 0001
Follows: none
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=True),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("key_id", name=op.f("uq_accounts_key_id")),
        sa.UniqueConstraint("name", "role", name=op.f("uq_accounts_name_role")),
        sa.UniqueConstraint("public_key", name=op.f("uq_accounts_public_key")),
    )
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "cosignatures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cosignatures")),
        sa.UniqueConstraint("unit", "size", name=op.f("uq_cosignatures_unit_size")),
    )
    op.create_table(
        "documents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=80), nullable=False),
        sa.Column("unit", sa.String(length=80), nullable=True),
        sa.Column("run_id", sa.String(length=80), nullable=True),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("digest", name=op.f("uq_documents_digest")),
    )
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_documents_kind"), ["kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_documents_run_id"), ["run_id"], unique=False)

    op.create_table(
        "dpias",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("dpia_id", sa.String(length=80), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("decision", sa.String(length=71), nullable=True),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dpias")),
        sa.UniqueConstraint("digest", name=op.f("uq_dpias_digest")),
        sa.UniqueConstraint("dpia_id", "version", name=op.f("uq_dpias_dpia_id_version")),
    )
    with op.batch_alter_table("dpias", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dpias_state"), ["state"], unique=False)

    op.create_table(
        "gate_decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("plan", sa.String(length=71), nullable=False),
        sa.Column("facts", sa.String(length=71), nullable=False),
        sa.Column("codes", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_decisions")),
    )
    with op.batch_alter_table("gate_decisions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_gate_decisions_run_id"), ["run_id"], unique=False)

    op.create_table(
        "log_entries",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("leaf_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_log_entries")),
        sa.UniqueConstraint("document", name=op.f("uq_log_entries_document")),
    )
    op.create_table(
        "dpia_acts",
        sa.Column("dpia", sa.String(length=71), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("act", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("acted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dpia"], ["dpias.digest"], name=op.f("fk_dpia_acts_dpia")),
        sa.PrimaryKeyConstraint("dpia", "position", name=op.f("pk_dpia_acts")),
    )
    op.create_table(
        "permits",
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("permit", sa.String(length=71), nullable=False),
        sa.Column("dpia", sa.String(length=71), nullable=False),
        sa.Column("revocation", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(["dpia"], ["dpias.digest"], name=op.f("fk_permits_dpia")),
        sa.ForeignKeyConstraint(["permit"], ["documents.digest"], name=op.f("fk_permits_permit")),
        sa.ForeignKeyConstraint(
            ["revocation"], ["documents.digest"], name=op.f("fk_permits_revocation")
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_permits")),
        sa.UniqueConstraint("permit", name=op.f("uq_permits_permit")),
    )
    with op.batch_alter_table("permits", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_permits_dpia"), ["dpia"], unique=False)

    op.create_table(
        "units",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("node_key", sa.String(length=64), nullable=False),
        sa.Column("enrolment", sa.String(length=71), nullable=False),
        sa.Column("certificate", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate"], ["documents.digest"], name=op.f("fk_units_certificate")
        ),
        sa.ForeignKeyConstraint(
            ["enrolment"], ["documents.digest"], name=op.f("fk_units_enrolment")
        ),
        sa.PrimaryKeyConstraint("unit", name=op.f("pk_units")),
        sa.UniqueConstraint("node_key", name=op.f("uq_units_node_key")),
    )
    op.create_table(
        "bulletins",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_bulletins_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulletins")),
        sa.UniqueConstraint("unit", "nonce", name=op.f("uq_bulletins_unit_nonce")),
    )
    op.create_table(
        "ledger_heads",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("witnessed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_ledger_heads_unit")),
        sa.PrimaryKeyConstraint("unit", "sequence", name=op.f("pk_ledger_heads")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.Column("artifact", sa.String(length=71), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.digest"], name=op.f("fk_models_artifact")
        ),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_models_document")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["permits.run_id"], name=op.f("fk_models_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("document", name=op.f("uq_models_document")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_models_name_version")),
        sa.UniqueConstraint("run_id", name=op.f("uq_models_run_id")),
    )
    op.create_table(
        "opt_out_events",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("pseudonym", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=80), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_opt_out_events_unit")),
        sa.PrimaryKeyConstraint("unit", "sequence", name=op.f("pk_opt_out_events")),
        sa.UniqueConstraint("digest", name=op.f("uq_opt_out_events_digest")),
    )
    op.create_table(
        "permit_units",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["permits.run_id"], name=op.f("fk_permit_units_run_id")
        ),
        sa.PrimaryKeyConstraint("unit", "run_id", name=op.f("pk_permit_units")),
    )


def downgrade() -> None:
    op.drop_table("permit_units")
    op.drop_table("opt_out_events")
    op.drop_table("models")
    op.drop_table("ledger_heads")
    op.drop_table("bulletins")
    op.drop_table("units")
    with op.batch_alter_table("permits", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_permits_dpia"))

    op.drop_table("permits")
    op.drop_table("dpia_acts")
    op.drop_table("log_entries")
    with op.batch_alter_table("gate_decisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_gate_decisions_run_id"))

    op.drop_table("gate_decisions")
    with op.batch_alter_table("dpias", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dpias_state"))

    op.drop_table("dpias")
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_documents_run_id"))
        batch_op.drop_index(batch_op.f("ix_documents_kind"))

    op.drop_table("documents")
    op.drop_table("cosignatures")
    op.drop_table("artifacts")
    op.drop_table("accounts")
