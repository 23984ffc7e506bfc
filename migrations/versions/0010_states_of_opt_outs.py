"""The one current state of each objection, beside the events that lead to it.

The states are those that the events lead to; each act has the name of the state it leads to.

Revision: 0010
Follows: 0009
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_PAGE = 10_000
_FIRST = {
    "art21_2": "excluded",
    "art21_1": "pending",
    "art7_3": "excluded",
    "art17": "erasure_due",
    "art18": "restricted",
    "ccpa_120": "excluded",
    "gpc": "excluded",
}
_IN_AGAIN = (None, "rejected", "lifted", "withdrawn", "consented")


def upgrade() -> None:
    states = op.create_table(
        "opt_out_states",
        sa.Column("unit", sa.String(length=80), nullable=False),
        sa.Column("pseudonym", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=80), nullable=False),
        sa.Column("ground", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["unit"], ["units.unit"], name=op.f("fk_opt_out_states_unit")),
        sa.PrimaryKeyConstraint(
            "unit", "pseudonym", "purpose", "ground", name=op.f("pk_opt_out_states")
        ),
    )
    connection = op.get_bind()
    for (unit,) in connection.execute(sa.text("SELECT unit FROM units ORDER BY unit")).all():
        _fill(connection, states, unit)


def downgrade() -> None:
    op.drop_table("opt_out_states")


def _fill(connection: sa.Connection, states: sa.Table, unit: str) -> None:
    found: dict[tuple[str, str, str], dict[str, object]] = {}
    for event in _events(connection, unit):
        key = (event["pseudonym"], event["purpose"], event["ground"])
        before = found.get(key, {}).get("state")
        objection = _FIRST[event["ground"]] if before in _IN_AGAIN else before
        found[key] = {
            "unit": unit,
            "pseudonym": event["pseudonym"],
            "purpose": event["purpose"],
            "ground": event["ground"],
            "state": event.get("act", objection),
            "sequence": event["sequence"],
        }
    rows = list(found.values())
    for first in range(0, len(rows), _PAGE):
        connection.execute(states.insert(), rows[first : first + _PAGE])


def _events(connection: sa.Connection, unit: str) -> Iterator[dict[str, Any]]:
    query = sa.text("SELECT envelope FROM opt_out_events WHERE unit = :unit ORDER BY sequence")
    for (envelope,) in connection.execute(query, {"unit": unit}):
        yield json.loads(base64.b64decode(json.loads(envelope)["payload"]))
