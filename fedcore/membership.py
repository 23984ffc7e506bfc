"""How a unit's membership goes on and ends: new keys, revoked keys, leaving."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.record import At, Counter, Hex256, Name, Part, PublicKey, Record, Text
from fedcore.signing import Envelope


class KeyRotation(Record):
    """A unit changes its node and transport key. Signed by the key that goes.

    `enrolment` is the unit's new enrolment, signed by the key that comes, so that each key speaks
    for the other.
    """

    schema_name: Literal["key-rotation/1"] = Field(default="key-rotation/1", alias="schema")
    unit: Name
    enrolment: Envelope
    requested_at: At


class NodeKeyRevocation(Record):
    """A node key counts no more: from `revoked_at` on nothing that it signs is accepted.

    What it signed before stays what it was. Signed by governance.
    """

    schema_name: Literal["node-key-revocation/1"] = Field(
        default="node-key-revocation/1", alias="schema"
    )
    unit: Name
    node_key: PublicKey
    reason: Text
    revoked_at: At


class Leave(Record):
    """A unit's last statement: it leaves, with its ledger at this entry. Signed by its node."""

    schema_name: Literal["leave/1"] = Field(default="leave/1", alias="schema")
    unit: Name
    ledger_sequence: Counter
    ledger_hash: Hex256
    reason: Text
    left_at: At


class AffectedModel(Part):
    """A model version that was trained with data of a unit that has left."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    run_id: Name


class LeaveAnswer(Part):
    """What governance answers to a Leave: the unit's key is revoked, and which models have learnt
    from its customers.
    """

    revocation: Envelope
    models: Annotated[tuple[AffectedModel, ...], Field(max_length=100_000)]


class UnitStatus(Part):
    """An enrolled unit: its signed certificate, and whether its key is revoked or it has left."""

    unit: Name
    certificate: Envelope
    revoked: bool


class UnitList(Part):
    """All units that were ever enrolled, by name."""

    units: Annotated[tuple[UnitStatus, ...], Field(max_length=100_000)]
