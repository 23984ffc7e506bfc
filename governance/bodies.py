"""What requests and answers hold, besides signed documents."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, RootModel, model_validator

from fedcore.contracts import Normaliser
from fedcore.dpia_record import AnyDpia
from fedcore.dpias import ActDetails, DpiaAct, DpiaState
from fedcore.group_opt_outs import MAX_UNITS
from fedcore.models import Erasure, LogEntry
from fedcore.permits import PermitKind
from fedcore.record import Digest, Hex256, Name, Part, PublicKey, Text
from fedcore.signing import Envelope
from fedcore.stops import StopScope
from governance.roles import Role


class AccountRequest(Part):
    """A new account. Authors and operators sign documents and need a public key; a unit's operator
    speaks for one `unit`, everybody else for none.
    """

    name: Name
    role: Role
    public_key: PublicKey | None = None
    unit: Name | None = None


class AccountCreated(Part):
    """The API key of a new account: shown once, kept nowhere."""

    name: Name
    role: Role
    api_key: str


class ClaimRequest(Part):
    """The first administrator's claim: the one-time code, and what is kept of the API key that the
    claimant has made, `fpk_<key_id>_<secret>`, the secret being 32 random bytes in hex.
    """

    code: Annotated[str, Field(min_length=1, max_length=100)]
    name: Name
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    key_hash: Hex256


class Stored(Part):
    """A document that is now stored."""

    digest: Digest


class DraftRequest(RootModel[Annotated[AnyDpia, Field(discriminator="schema_name")]]):
    """A draft DPIA. One of the schema before is read, so that the refusal can say the way out."""


class ActRequest(ActDetails):
    """An act on a DPIA, why, and what it says besides."""

    act: DpiaAct
    note: Text


class StateView(Part):
    """The state that a DPIA is in now."""

    state: DpiaState


class OptOutProgress(Part):
    """How many opt-outs of a unit governance holds, and up to which its node has fetched them."""

    unit: Name
    received: int
    received_at: datetime | None
    served: int
    served_at: datetime | None


class GroupRequest(Part):
    """Units that are to act on each other's group opt-outs, and the check value of their key."""

    units: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_UNITS)]
    normaliser: Normaliser
    key_check: Hex256


class PermitRequest(Part):
    """A run that is to follow a registered plan, and what it is to do."""

    plan: Digest
    run_id: Name
    kind: PermitKind = "train"


class GateDecisionView(Part):
    """What the gate answered; no codes mean yes. `facts` is the digest of what it looked at,
    `rules` the version of the rules that it decided by, which version 0.2 did not keep.
    """

    plan: Digest
    facts: Digest
    codes: tuple[str, ...]
    decided_at: datetime
    rules: str | None


class GateDecisions(Part):
    """Everything that the gate answered for one run, oldest first."""

    decisions: tuple[GateDecisionView, ...]


class ReplayView(Part):
    """A kept decision and what the rules of today answer on the facts that were kept with it.

    `agrees` is None when no facts were kept (version 0.2), or the DPIA that they name was erased.
    """

    decided_at: datetime
    rules: str | None
    codes: tuple[str, ...]
    codes_today: tuple[str, ...] | None
    agrees: bool | None


class Replays(Part):
    """Everything that the gate answered for one run, decided once more; `rules` are today's."""

    rules: str
    replays: tuple[ReplayView, ...]


class StopRequest(Part):
    """What is to be stopped and why; `subject` names the unit, purpose, task or DPIA."""

    scope: StopScope = "all"
    subject: Name | None = None
    reason: Text

    @model_validator(mode="after")
    def _subject_of_its_scope(self) -> Self:
        if (self.subject is None) != (self.scope == "all"):
            raise ValueError("subject: names what is stopped, and nothing for the scope all")
        return self


class LiftRequest(Part):
    """Why a stop is lifted."""

    reason: Text


class StopView(Part):
    """A stop; it is in force until `lift`, the digest of what lifted it, is there."""

    stop: Digest
    envelope: Envelope
    lift: Digest | None


class StopList(Part):
    """Stops, oldest first."""

    stops: tuple[StopView, ...]


class RevocationRequest(Part):
    """Why a permit is revoked."""

    reason: Text


class RoundRequest(Part):
    """A signed round report and the signed receipts of its answers."""

    report: Envelope
    receipts: Annotated[tuple[Envelope, ...], Field(max_length=1000)]


class TablesRequest(Part):
    """The noised tables of all answers that an accepted report counts, signed by the server."""

    tables: Annotated[tuple[Envelope, ...], Field(min_length=1, max_length=1000)]


class ModelRequest(Part):
    """A finished run's released model, as base64 of its safetensors bytes."""

    run_id: Name
    name: Name
    artifact_base64: str


class ModelSummary(Part):
    """A model version in the list."""

    name: Name
    version: int
    run_id: Name
    document: Digest


class ModelList(Part):
    """All model versions in the order in which they were registered."""

    models: tuple[ModelSummary, ...]


class CosignatureRequest(Part):
    """Nodes' signed cosignatures."""

    cosignatures: Annotated[tuple[Envelope, ...], Field(max_length=1000)]


class EntryView(Part):
    """A log entry and its place."""

    index: int
    entry: LogEntry | Erasure


class LogEntries(Part):
    """A part of the log in order."""

    entries: tuple[EntryView, ...]


class HandoverList(Part):
    """The hand-overs between this service's keys, oldest first."""

    handovers: tuple[Envelope, ...]


class Ready(Part):
    """The service can do its work: database, schema, key and disk are well."""

    status: str


class Health(Part):
    """The service and its database answer; `public_key` is what its signatures verify with."""

    status: str
    realm: str
    public_key: PublicKey
