"""Who may take part in what: enrolments, certificates and permits."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.caps import EpsilonCaps
from fedcore.record import At, Counter, Digest, Name, Part, Positive, PublicKey, Realm, Record, Text
from fedcore.transport_keys import TransportKey


class Enrolment(Record):
    """A unit's request to take part, signed by its own node key.

    `size_band` is the lower end of a power-of-two band that the operator declares, at most yearly;
    the exact number of customers is never told. `transport_key` is the public key, as an OpenSSH
    line, that the node's connection is known by.
    """

    schema_name: Literal["enrolment/1"] = Field(default="enrolment/1", alias="schema")
    unit: Name
    legal_entity: Text
    node_key: PublicKey
    size_band: Annotated[int, Field(ge=2, le=2**40)]
    subject_namespace: Name
    requested_at: At
    transport_key: TransportKey | None = None

    @model_validator(mode="after")
    def _power_of_two(self) -> Self:
        if self.size_band & (self.size_band - 1):
            raise ValueError("size_band: must be a power of two")
        return self


class UnitCertificate(Record):
    """Governance's answer to an enrolment: this key speaks for this unit, and its connection is
    known by that transport key.
    """

    schema_name: Literal["unit-certificate/1"] = Field(default="unit-certificate/1", alias="schema")
    unit: Name
    node_key: PublicKey
    size_band: Annotated[int, Field(ge=2)]
    enrolment: Digest
    issued_at: At
    transport_key: TransportKey | None = None


PermitKind = Literal["train", "evaluate", "score"]


class NodeGrant(Part):
    """A unit in a permit: its key and the most epsilon that the run may add to its ledger."""

    unit: Name
    node_key: PublicKey
    epsilon: Positive


class Permit(Record):
    """Leave to run one plan once, to do one kind of thing with it.

    Guarantees: names one run and kind, one plan, one DPIA version, the exact cohort with its keys
        and minimum, the server's and the author's key, and a time window in one realm.
    `ledger_caps` are those that the DPIA binds the units' ledgers to; `update_retention_days` says
    for how long it lets a node keep an update that it has sent, and the server what it made of it.
    """

    schema_name: Literal["permit/1"] = Field(default="permit/1", alias="schema")
    run_id: Name
    kind: PermitKind = "train"
    realm: Realm
    plan: Digest
    contract: Digest
    dpia: Digest
    dpia_decision: Digest
    task: Name
    purpose: Name
    cohort: Annotated[tuple[NodeGrant, ...], Field(min_length=1, max_length=1000)]
    minimum_cohort: Annotated[int, Field(ge=1)]
    author_key: PublicKey
    server_key: PublicKey
    rounds: Annotated[int, Field(ge=1)]
    exchanges: Annotated[int, Field(ge=1)]
    attempts: Annotated[int, Field(ge=1)]
    delta: Positive
    min_opt_out_epoch: Counter
    accepted_versions: Annotated[tuple[Text, ...], Field(min_length=1, max_length=50)]
    issued_at: At
    not_before: At
    expires_at: At
    ledger_caps: EpsilonCaps | None = None
    update_retention_days: Annotated[int, Field(ge=0, le=36_600)] | None = None

    def grant(self, unit: str) -> NodeGrant | None:
        """Return the unit's grant, or None when it is not of the cohort."""
        return next((grant for grant in self.cohort if grant.unit == unit), None)


class Revocation(Record):
    """A permit that is no longer valid."""

    schema_name: Literal["revocation/1"] = Field(default="revocation/1", alias="schema")
    run_id: Name
    permit: Digest
    reason: Text
    revoked_at: At


class PermitRenewal(Record):
    """A permit may be used longer. Signed by governance, after its gate has said yes once more.

    Guarantees: changes nothing in the permit, whose digest orders, receipts and ledgers hold; adds
        the time from `issued_at` to `expires_at` to that permit of that run, and takes none away.
    `sequence` counts a run's renewals from 1.
    """

    schema_name: Literal["permit-renewal/1"] = Field(default="permit-renewal/1", alias="schema")
    run_id: Name
    realm: Realm
    permit: Digest
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]
    issued_at: At
    expires_at: At

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.expires_at <= self.issued_at:
            raise ValueError("expires_at: must be after issued_at")
        return self


def public_n_of(size_band: int) -> int:
    """Return the public number that stands for a unit of a size band: the band's middle.

    `size_band` is the band's lower end, a power of two; the band reaches up to twice that.
    """
    return size_band + size_band // 2
