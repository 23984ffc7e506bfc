"""The documents of a bundle, each opened under the key and realm that may have signed it."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from fedcore.bundle import Evidence, evaluation_folder
from fedcore.contracts import Contract
from fedcore.errors import MismatchError
from fedcore.fairness_audits import FairnessAudit, Waiver
from fedcore.handovers import GovernanceKeys, follow_handovers
from fedcore.model_signatures import ModelKey
from fedcore.models import Checkpoint, ModelVersion, OptOutEpoch
from fedcore.plans import TrainingPlan
from fedcore.promotions import ModelApproval, Promotion
from fedcore.record import Realm, Record
from fedcore.rounds import Cosignature
from fedcore.signing import Envelope
from fedcore.verify_runs import EvaluationDocuments, Opener, RunDocuments, naming, numbered

R = TypeVar("R", bound=Record)


class Documents(RunDocuments):
    """Opens a bundle's documents when a check asks for them; those of its training run are its own.

    Guarantees: as `RunDocuments`.
    Raises: every property a FedError that names the member which must not be believed.
    """

    def __init__(self, evidence: Evidence, governance_key: str, realm: Realm) -> None:
        super().__init__(evidence, "", realm)
        self.evidence = evidence
        self._governance_key = governance_key

    @cached_property
    def keys(self) -> GovernanceKeys:
        """Governance's keys, as they follow from the given one by the bundle's hand-overs."""
        with naming("handovers"):
            return follow_handovers(self._governance_key, self.evidence.handovers, self.realm)

    @cached_property
    def opener(self) -> Opener:
        """What opens documents, once it is known which keys are governance's."""
        return Opener(self.keys, self.realm)

    @cached_property
    def model_version(self) -> ModelVersion:
        """The model version, signed by governance."""
        return self._of_governance("model-version.json", self.evidence.model_version, ModelVersion)

    @property
    def made_at(self) -> datetime:
        """When the model was registered."""
        return self.model_version.registered_at

    @property
    def stated_epochs(self) -> tuple[OptOutEpoch, ...]:
        """The opt-out epochs that the model version states."""
        return self.model_version.opt_out_epochs

    @cached_property
    def contract(self) -> Contract:
        """The data contract, signed by governance."""
        return self._of_governance("contract.json", self.evidence.contract, Contract)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The log's checkpoint, signed by governance's last key that the bundle names."""
        envelope = self.evidence.checkpoint
        with naming("checkpoint.json"):
            self.keys.open_current(envelope, Checkpoint, self.realm)
        return self._of_governance("checkpoint.json", envelope, Checkpoint)

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
        return self._of_governance("model-key.json", signed.stated, ModelKey)

    @cached_property
    def plan(self) -> TrainingPlan:
        """The plan, signed by the author whom the permit names."""
        author_key = self.permit.author_key
        return self.opener.open("plan.json", self.evidence.plan, TrainingPlan, author_key)

    @cached_property
    def cosignatures(self) -> tuple[Cosignature, ...]:
        """The cosignatures in the bundle's order, each signed by the node of its unit."""
        envelopes = [position.envelope for position in self.evidence.cosignatures]
        return tuple(
            self.open_of_unit(path, envelope, Cosignature)
            for path, envelope in numbered("cosignatures", envelopes)
        )

    @cached_property
    def evaluations(self) -> tuple[EvaluationDocuments, ...]:
        """The papers of the version's evaluations, oldest first, each opened when it is asked."""
        return tuple(
            EvaluationDocuments(papers, evaluation_folder(number), self.opener)
            for number, papers in enumerate(self.evidence.evaluations, 1)
        )

    @cached_property
    def runs(self) -> tuple[RunDocuments, ...]:
        """The training run and the evaluations."""
        return (self, *self.evaluations)

    @cached_property
    def audits(self) -> tuple[FairnessAudit, ...]:
        """The fairness audits of the version, signed by governance."""
        return self._all("audits", self.evidence.judgements.audits, FairnessAudit)

    @cached_property
    def waivers(self) -> tuple[Waiver, ...]:
        """The waivers of audits of the version, signed by governance."""
        return self._all("waivers", self.evidence.judgements.waivers, Waiver)

    @cached_property
    def approvals(self) -> tuple[ModelApproval, ...]:
        """The approvals of the version, signed by governance."""
        return self._all("approvals", self.evidence.judgements.approvals, ModelApproval)

    @cached_property
    def moves(self) -> tuple[Promotion, ...]:
        """The moves of the aliases of the model's name, signed by governance."""
        return self._all("moves", self.evidence.judgements.moves, Promotion)

    def _all(
        self, folder: str, envelopes: Sequence[Envelope], record_type: type[R]
    ) -> tuple[R, ...]:
        return tuple(
            self._of_governance(path, envelope, record_type)
            for path, envelope in numbered(folder, envelopes)
        )
