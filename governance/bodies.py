"""What requests and answers hold, besides signed documents."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, RootModel

from fedcore.dpia_record import AnyDpia
from fedcore.dpias import ActDetails, DpiaAct, DpiaState
from fedcore.models import LogEntry
from fedcore.record import Digest, Hex256, Name, Part, PublicKey, Text
from fedcore.signing import Envelope
from governance.roles import Role


class AccountRequest(Part):
    """A new account. Authors and operators sign documents and need a public key."""

    name: Name
    role: Role
    public_key: PublicKey | None = None


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


class PermitRequest(Part):
    """A run that is to follow a registered plan."""

    plan: Digest
    run_id: Name


class GateDecisionView(Part):
    """What the gate answered; no codes mean yes. `facts` is the digest of what it looked at."""

    plan: Digest
    facts: Digest
    codes: tuple[str, ...]
    decided_at: datetime


class GateDecisions(Part):
    """Everything that the gate answered for one run, oldest first."""

    decisions: tuple[GateDecisionView, ...]


class RevocationRequest(Part):
    """Why a permit is revoked."""

    reason: Text


class RoundRequest(Part):
    """A signed round report and the signed receipts of its answers."""

    report: Envelope
    receipts: Annotated[tuple[Envelope, ...], Field(max_length=1000)]


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
    entry: LogEntry


class LogEntries(Part):
    """A part of the log in order."""

    entries: tuple[EntryView, ...]


class HandoverList(Part):
    """The hand-overs between this service's keys, oldest first."""

    handovers: tuple[Envelope, ...]


class Health(Part):
    """The service and its database answer; `public_key` is what its signatures verify with."""

    status: str
    realm: str
    public_key: PublicKey
