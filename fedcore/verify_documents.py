"""The documents of a bundle, each opened under the key and realm that may have signed it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from fedcore.bundle import Evidence
from fedcore.contracts import Contract
from fedcore.dpia_record import AnyDpia, Dpia
from fedcore.dpias import DpiaDecision, DpiaV1
from fedcore.errors import InvalidRecordError, MismatchError, SignatureError, TrustError
from fedcore.handovers import GovernanceKeys, follow_handovers
from fedcore.model_signatures import ModelKey
from fedcore.models import Checkpoint, ModelVersion
from fedcore.permits import Permit, PermitRenewal, Revocation, UnitCertificate
from fedcore.plans import TrainingPlan
from fedcore.record import Realm, Record
from fedcore.rounds import Cosignature, Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope, payload_type

R = TypeVar("R", bound=Record)


class Documents:
    """Opens a bundle's documents when a check asks for them.

    Guarantees: what a property returns was signed by the key that speaks for its role: governance's
        as given by the caller, or one that follows from it by hand-overs; the author's, the
        server's and the nodes' as the signed permit and certificates name them. It is of the asked
        realm, in its envelope and in itself.
    Raises: every property a FedError that names the member which must not be believed.
    """

    def __init__(self, evidence: Evidence, governance_key: str, realm: Realm) -> None:
        self.evidence = evidence
        self.realm = realm
        self._governance_key = governance_key

    @cached_property
    def keys(self) -> GovernanceKeys:
        """Governance's keys, as they follow from the given one by the bundle's hand-overs."""
        with naming("handovers"):
            return follow_handovers(self._governance_key, self.evidence.handovers, self.realm)

    @cached_property
    def model_version(self) -> ModelVersion:
        """The model version, signed by governance."""
        return self._governance_document(
            "model-version.json", self.evidence.model_version, ModelVersion
        )

    @cached_property
    def contract(self) -> Contract:
        """The data contract, signed by governance."""
        return self._governance_document("contract.json", self.evidence.contract, Contract)

    @cached_property
    def dpia(self) -> AnyDpia:
        """The DPIA, of today's schema or of 0.2, signed by governance."""
        envelope = self.evidence.dpia
        if envelope.payload_type == payload_type(DpiaV1, self.realm):
            return self._governance_document("dpia.json", envelope, DpiaV1)
        return self._governance_document("dpia.json", envelope, Dpia)

    @cached_property
    def dpia_decision(self) -> DpiaDecision:
        """The state of the DPIA and the acts that led there, signed by governance."""
        return self._governance_document(
            "dpia-decision.json", self.evidence.dpia_decision, DpiaDecision
        )

    @cached_property
    def permit(self) -> Permit:
        """The permit, signed by governance."""
        return self._governance_document("permit.json", self.evidence.permit, Permit)

    @cached_property
    def revocation(self) -> Revocation | None:
        """The permit's revocation, signed by governance, or None when the bundle has none."""
        if self.evidence.revocation is None:
            return None
        return self._governance_document("revocation.json", self.evidence.revocation, Revocation)

    @cached_property
    def renewals(self) -> tuple[PermitRenewal, ...]:
        """The renewals of the permit, signed by governance."""
        return tuple(
            self._governance_document(path, envelope, PermitRenewal)
            for path, envelope in _paths("renewals", self.evidence.renewals)
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The log's checkpoint, signed by governance's last key that the bundle names."""
        envelope = self.evidence.checkpoint
        with naming("checkpoint.json"):
            self.keys.open_current(envelope, Checkpoint, self.realm)
        return self._governance_document("checkpoint.json", envelope, Checkpoint)

    @cached_property
    def model_key(self) -> ModelKey:
        """The key of signatures on models, as governance's last key states it.

        Raises: MismatchError `artifact.not_signed` when the bundle has no such signature.
        """
        signed = self.evidence.signed_model
        if signed is None:
            raise MismatchError(
                "artifact.not_signed", "the bundle has no model.sig: have it exported anew"
            )
        with naming("model-key.json"):
            self.keys.open_current(signed.stated, ModelKey, self.realm)
        return self._governance_document("model-key.json", signed.stated, ModelKey)

    @cached_property
    def plan(self) -> TrainingPlan:
        """The plan, signed by the author whom the permit names."""
        return self._open("plan.json", self.evidence.plan, TrainingPlan, self.permit.author_key)

    @cached_property
    def certificates(self) -> Mapping[str, UnitCertificate]:
        """The certificates by unit, signed by governance."""
        opened = [
            self._governance_document(path, envelope, UnitCertificate)
            for path, envelope in _paths("certificates", self.evidence.certificates)
        ]
        by_unit = {certificate.unit: certificate for certificate in opened}
        if len(by_unit) != len(opened):
            raise MismatchError("certificate.repeated", "a unit has two certificates")
        return by_unit

    @cached_property
    def unit_of_key(self) -> Mapping[str, str]:
        """The cohort's units by the node key that both their grant and their certificate name.

        Raises: MismatchError `certificate.other_key`, `permit.cohort_invalid`.
        """
        for grant in self.permit.cohort:
            certificate = self.certificates.get(grant.unit)
            if certificate is None or certificate.node_key != grant.node_key:
                raise MismatchError(
                    "certificate.other_key",
                    f"the permit and the certificate of {grant.unit} do not name one node key",
                )
        by_key = {grant.node_key: grant.unit for grant in self.permit.cohort}
        if not len(by_key) == len({*by_key.values()}) == len(self.permit.cohort):
            raise MismatchError("permit.cohort_invalid", "a unit or key is twice in the cohort")
        return by_key

    @cached_property
    def reports(self) -> tuple[RoundReport, ...]:
        """The round reports in the bundle's order, signed by the server whom the permit names."""
        return tuple(
            self._open(path, envelope, RoundReport, self.permit.server_key)
            for path, envelope in _paths("reports", self.evidence.reports)
        )

    @cached_property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts in the bundle's order, each signed by the node of the unit that it names."""
        return tuple(
            self._open_of_unit(path, envelope, Receipt)
            for path, envelope in _paths("receipts", self.evidence.receipts)
        )

    @cached_property
    def receipt_of_digest(self) -> Mapping[str, Receipt]:
        """The receipts by their digests."""
        digests = (envelope.digest for envelope in self.evidence.receipts)
        return dict(zip(digests, self.receipts, strict=True))

    @cached_property
    def cosignatures(self) -> tuple[Cosignature, ...]:
        """The cosignatures in the bundle's order, each signed by the node of its unit."""
        envelopes = [position.envelope for position in self.evidence.cosignatures]
        return tuple(
            self._open_of_unit(path, envelope, Cosignature)
            for path, envelope in _paths("cosignatures", envelopes)
        )

    def _governance_document(self, path: str, envelope: Envelope, record_type: type[R]) -> R:
        if not self.keys.knows(envelope.signer):
            raise SignatureError(
                "signature.wrong_key",
                f"{path} is not signed by the given key, nor does a hand-over in this bundle lead "
                "from it to the signer: verify with the key that governance had then, or have the "
                "bundle exported anew",
            )
        with naming(path):
            self.keys.open(envelope, record_type, self.realm)
        return self._open(path, envelope, record_type, envelope.signer)

    def _open(self, path: str, envelope: Envelope, record_type: type[R], signer: str) -> R:
        with naming(path):
            record = open_envelope(envelope, record_type, signer, self.realm)
        if getattr(record, "realm", self.realm) != self.realm:
            raise MismatchError("document.other_realm", f"{path} names another realm than its type")
        return record

    def _open_of_unit(self, path: str, envelope: Envelope, record_type: type[R]) -> R:
        unit = self.unit_of_key.get(envelope.signer)
        if unit is None:
            raise SignatureError(
                "signature.wrong_key", f"{path} is signed by a key that is not of the cohort"
            )
        record = self._open(path, envelope, record_type, envelope.signer)
        if getattr(record, "unit", None) != unit:
            raise SignatureError("signature.wrong_key", f"{path} is signed by another unit's key")
        return record


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Put the member's path before the sentence of an error that is raised inside."""
    try:
        yield
    except (TrustError, InvalidRecordError) as error:
        raise type(error)(error.code, f"{path}: {error.public}", error.detail) from error


def _paths(folder: str, envelopes: Sequence[Envelope]) -> list[tuple[str, Envelope]]:
    return [
        (f"{folder}/{number:06}.json", envelope) for number, envelope in enumerate(envelopes, 1)
    ]
