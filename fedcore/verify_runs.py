"""The papers of one run in a bundle, each opened under the key and realm that may have signed it.

A run trains the model, or evaluates it: permit, DPIA, certificates, reports and receipts are the
same kinds of documents, and are held against each other by the same checks.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from fedcore.bundle import EvaluationPapers, Evidence
from fedcore.dpia_record import AnyDpia, Dpia
from fedcore.dpias import DpiaDecision, DpiaV1
from fedcore.errors import InvalidRecordError, MismatchError, SignatureError, TrustError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluationPlan
from fedcore.handovers import GovernanceKeys
from fedcore.models import OptOutEpoch
from fedcore.permits import Permit, PermitRenewal, Revocation, UnitCertificate
from fedcore.plans import TrainingPlan
from fedcore.record import Realm, Record
from fedcore.rounds import Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope, payload_type

R = TypeVar("R", bound=Record)
# A member's path and its envelope.
Named = tuple[str, Envelope]


@dataclass(frozen=True)
class Opener:
    """Opens documents of one realm under governance's keys, or under another key that is given."""

    keys: GovernanceKeys
    realm: Realm

    def governance_document(self, path: str, envelope: Envelope, record_type: type[R]) -> R:
        """Return a document that governance signed. Raises: FedError, naming the member."""
        if not self.keys.knows(envelope.signer):
            raise SignatureError(
                "signature.wrong_key",
                f"{path} is not signed by the given key, nor does a hand-over in this bundle lead "
                "from it to the signer: verify with the key that governance had then, or have the "
                "bundle exported anew",
            )
        with naming(path):
            self.keys.open(envelope, record_type, self.realm)
        return self.open(path, envelope, record_type, envelope.signer)

    def open(self, path: str, envelope: Envelope, record_type: type[R], signer: str) -> R:
        """Return a document that this key signed. Raises: FedError, naming the member."""
        with naming(path):
            record = open_envelope(envelope, record_type, signer, self.realm)
        if getattr(record, "realm", self.realm) != self.realm:
            raise MismatchError("document.other_realm", f"{path} names another realm than its type")
        return record


class RunDocuments:
    """Opens the papers of a run when a check asks for them.

    Guarantees: what a property returns was signed by the key that speaks for its role: governance's
        as given by the caller, or one that follows from it by hand-overs; the author's, the
        server's and the nodes' as the signed permit and certificates name them. It is of the asked
        realm, in its envelope and in itself.
    Raises: every property a FedError that names the member which must not be believed.
    """

    def __init__(self, papers: Evidence | EvaluationPapers, folder: str, realm: Realm) -> None:
        self.papers = papers
        self.folder = folder
        self.realm = realm

    @cached_property
    def opener(self) -> Opener:
        """What opens documents, once it is known which keys are governance's."""
        raise NotImplementedError

    @property
    def plan(self) -> TrainingPlan | EvaluationPlan:
        """The plan, signed by the author whom the permit names."""
        raise NotImplementedError

    @property
    def made_at(self) -> datetime:
        """When governance said what came of the run."""
        raise NotImplementedError

    @property
    def stated_epochs(self) -> tuple[OptOutEpoch, ...]:
        """The opt-out epochs that governance states of the run."""
        raise NotImplementedError

    @cached_property
    def dpia(self) -> AnyDpia:
        """The DPIA, of today's schema or of 0.2, signed by governance."""
        envelope = self.papers.dpia
        if envelope.payload_type == payload_type(DpiaV1, self.realm):
            return self._of_governance("dpia.json", envelope, DpiaV1)
        return self._of_governance("dpia.json", envelope, Dpia)

    @cached_property
    def dpia_decision(self) -> DpiaDecision:
        """The state of the DPIA and the acts that led there, signed by governance."""
        return self._of_governance("dpia-decision.json", self.papers.dpia_decision, DpiaDecision)

    @cached_property
    def permit(self) -> Permit:
        """The permit, signed by governance."""
        return self._of_governance("permit.json", self.papers.permit, Permit)

    @cached_property
    def revocation(self) -> Revocation | None:
        """The permit's revocation, signed by governance, or None when the bundle has none."""
        if self.papers.revocation is None:
            return None
        return self._of_governance("revocation.json", self.papers.revocation, Revocation)

    @cached_property
    def renewals(self) -> tuple[PermitRenewal, ...]:
        """The renewals of the permit, signed by governance."""
        return tuple(
            self._of_governance(path, envelope, PermitRenewal)
            for path, envelope in numbered("renewals", self.papers.renewals)
        )

    @cached_property
    def certificates(self) -> Mapping[str, UnitCertificate]:
        """The certificates by unit, signed by governance."""
        opened = [
            self._of_governance(path, envelope, UnitCertificate)
            for path, envelope in numbered("certificates", self.papers.certificates)
        ]
        by_unit = {certificate.unit: certificate for certificate in opened}
        if len(by_unit) != len(opened):
            raise MismatchError("certificate.repeated", "a unit has two certificates")
        return by_unit

    @cached_property
    def unit_of_key(self) -> Mapping[str, str]:
        """The cohort's units by the node key that both their grant and their certificate name.

        Raises: MismatchError `certificate.other_key`, `certificate.surplus`,
            `permit.cohort_invalid`.
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
        if self.certificates.keys() - by_key.values():
            raise MismatchError(
                "certificate.surplus", "a certificate is of a unit that is not of the cohort"
            )
        return by_key

    @cached_property
    def reports(self) -> tuple[RoundReport, ...]:
        """The round reports in the bundle's order, signed by the server whom the permit names."""
        return tuple(
            self.opener.open(self.folder + path, envelope, RoundReport, self.permit.server_key)
            for path, envelope in numbered("reports", self.papers.reports)
        )

    @cached_property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts in the bundle's order, each signed by the node of the unit that it names."""
        return tuple(
            self.open_of_unit(path, envelope, Receipt)
            for path, envelope in numbered("receipts", self.papers.receipts)
        )

    @cached_property
    def receipt_of_digest(self) -> Mapping[str, Receipt]:
        """The receipts by their digests."""
        digests = (envelope.digest for envelope in self.papers.receipts)
        return dict(zip(digests, self.receipts, strict=True))

    def open_of_unit(self, path: str, envelope: Envelope, record_type: type[R]) -> R:
        """Return a document that the node of the unit that it names has signed."""
        path, unit = self.folder + path, self.unit_of_key.get(envelope.signer)
        if unit is None:
            raise SignatureError(
                "signature.wrong_key", f"{path} is signed by a key that is not of the cohort"
            )
        record = self.opener.open(path, envelope, record_type, envelope.signer)
        if getattr(record, "unit", None) != unit:
            raise SignatureError("signature.wrong_key", f"{path} is signed by another unit's key")
        return record

    def _of_governance(self, path: str, envelope: Envelope, record_type: type[R]) -> R:
        return self.opener.governance_document(self.folder + path, envelope, record_type)


class EvaluationDocuments(RunDocuments):
    """The papers of a run that evaluated the model."""

    def __init__(self, papers: EvaluationPapers, folder: str, opener: Opener) -> None:
        super().__init__(papers, folder, opener.realm)
        self.evidence = papers
        self.__dict__["opener"] = opener

    @cached_property
    def evaluation(self) -> Evaluation:
        """What was derived from the units' tables, signed by governance."""
        return self._of_governance("evaluation.json", self.evidence.evaluation, Evaluation)

    @cached_property
    def plan(self) -> EvaluationPlan:
        """The evaluation plan, signed by the author whom the permit names."""
        path = self.folder + "plan.json"
        return self.opener.open(path, self.papers.plan, EvaluationPlan, self.permit.author_key)

    @property
    def made_at(self) -> datetime:
        """When the evaluation was derived."""
        return self.evaluation.evaluated_at

    @property
    def stated_epochs(self) -> tuple[OptOutEpoch, ...]:
        """The opt-out epochs that the evaluation states."""
        return self.evaluation.opt_out_epochs


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Put the member's path before the sentence of an error that is raised inside."""
    try:
        yield
    except (TrustError, InvalidRecordError) as error:
        raise type(error)(error.code, f"{path}: {error.public}", error.detail) from error


def numbered(folder: str, envelopes: Sequence[Envelope]) -> list[Named]:
    """Return the members of a folder by their paths."""
    return [
        (f"{folder}/{number:06}.json", envelope) for number, envelope in enumerate(envelopes, 1)
    ]
