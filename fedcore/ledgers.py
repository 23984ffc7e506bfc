"""What governance holds of a unit's ledger: enough to rebuild a lost one, never too small."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.bulletins import WitnessedHead
from fedcore.record import At, Hex256, Name, Record
from fedcore.signing import Envelope

_Envelopes = Annotated[tuple[Envelope, ...], Field(max_length=100_000)]


class LedgerRequest(Record):
    """A unit asks what governance holds of its ledger. Signed by its node; the nonce comes back."""

    schema_name: Literal["ledger-request/1"] = Field(default="ledger-request/1", alias="schema")
    unit: Name
    nonce: Hex256
    requested_at: At


class LedgerHistory(Record):
    """What may have been charged to a unit's ledger. Signed by governance.

    `permits` are all that ever named the unit, in the order of their runs; `plans` those that they
    permit; `receipts` the unit's first of each run; `witnessed` the newest head that governance has
    witnessed, absent when there is none.
    """

    schema_name: Literal["ledger-history/1"] = Field(default="ledger-history/1", alias="schema")
    unit: Name
    nonce: Hex256
    permits: _Envelopes
    plans: _Envelopes
    receipts: _Envelopes
    witnessed: WitnessedHead | None = None
    issued_at: At
