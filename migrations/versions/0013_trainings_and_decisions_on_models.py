"""What receipts say of applied opt-outs, as a table; and what was decided about models.

The trainings are found again in the receipts: nothing is lost on the way down but the decisions'
places, whose documents stay.

Revision: 0013
Follows: 0015
"""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0015"
branch_labels = None
depends_on = None

_PAGE = 1_000


def upgrade() -> None:
    op.create_index(op.f("ix_bulletins_digest"), "bulletins", ["digest"], unique=False)
    op.create_index("ix_bulletins_unit_last_sequence", "bulletins", ["unit", "last_sequence"])
    trainings = op.create_table(
        "trainings",
        sa.Column("receipt", sa.String(length=71), nullable=False),
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("purpose", sa.String(length=80), nullable=False),
        sa.Column("contract", sa.String(length=71), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["receipt"], ["documents.digest"], name=op.f("fk_trainings_receipt")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["permits.run_id"], name=op.f("fk_trainings_run_id")),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_trainings_unit")),
        sa.PrimaryKeyConstraint("receipt", name=op.f("pk_trainings")),
    )
    op.create_index("ix_trainings_unit_answered_at", "trainings", ["unit", "answered_at"])
    _create_decisions()
    _fill(op.get_bind(), trainings)


def downgrade() -> None:
    op.drop_index(op.f("ix_model_decisions_unit"), table_name="model_decisions")
    op.drop_table("model_decisions")
    op.drop_index("ix_trainings_unit_answered_at", table_name="trainings")
    op.drop_table("trainings")
    op.drop_index("ix_bulletins_unit_last_sequence", table_name="bulletins")
    op.drop_index(op.f("ix_bulletins_digest"), table_name="bulletins")


def _create_decisions() -> None:
    op.create_table(
        "model_decisions",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.String(length=71), nullable=False),
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name=op.f("fk_model_decisions_name_version"),
        ),
        sa.ForeignKeyConstraint(
            ["document"], ["documents.digest"], name=op.f("fk_model_decisions_document")
        ),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_model_decisions_unit")),
        sa.PrimaryKeyConstraint("name", "version", "number", name=op.f("pk_model_decisions")),
        sa.UniqueConstraint("document", name=op.f("uq_model_decisions_document")),
    )
    op.create_index(op.f("ix_model_decisions_unit"), "model_decisions", ["unit"], unique=False)


def _fill(connection: sa.Connection, trainings: sa.Table) -> None:
    permits = {
        permit["run_id"]: (permit["purpose"], permit["contract"])
        for _, permit in _documents(connection, "permit")
    }
    bulletins = connection.execute(sa.text("SELECT unit, digest, last_sequence FROM bulletins"))
    applied = {(unit, digest): last for unit, digest, last in bulletins}
    page: list[dict[str, object]] = []
    for digest, receipt in _documents(connection, "receipt"):
        purpose, contract = permits[receipt["run_id"]]
        page.append(
            {
                "receipt": digest,
                "unit": receipt["unit"],
                "run_id": receipt["run_id"],
                "round": receipt["round"],
                "answered_at": datetime.fromisoformat(receipt["answered_at"]),
                "purpose": purpose,
                "contract": contract,
                "last_sequence": applied.get((receipt["unit"], receipt["bulletin"]), 0),
            }
        )
        if len(page) == _PAGE:
            connection.execute(trainings.insert(), page)
            page = []
    if page:
        connection.execute(trainings.insert(), page)


def _documents(connection: sa.Connection, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all documents of a kind in pages, so that nothing is written while a query is open."""
    query = sa.text(
        "SELECT id, digest, envelope FROM documents WHERE kind = :kind AND id > :after "
        "ORDER BY id LIMIT :page"
    )
    after = -1
    while True:
        found = connection.execute(query, {"kind": kind, "after": after, "page": _PAGE}).all()
        for _, digest, envelope in found:
            yield digest, json.loads(base64.b64decode(json.loads(envelope)["payload"]))
        if len(found) < _PAGE:
            return
        after = found[-1][0]
