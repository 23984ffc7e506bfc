"""The governance API as its three kinds of callers see it."""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import ConfigDict

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia, DpiaView
from fedcore.dpias import ActDetails, DpiaAct
from fedcore.enforcement import GroupOptOutStatus, OptOutStatus
from fedcore.evaluation_lists import EvaluationSummary
from fedcore.incidents import IncidentHistory, IncidentOpening, IncidentUpdate, IncidentView
from fedcore.membership import LeaveAnswer, UnitStatus
from fedcore.model_decisions import DecisionRequest, DecisionView
from fedcore.permits import PermitKind
from fedcore.promotions import Alias, AliasHistory, PromotionCheck
from fedcore.record import At, Part, PublicKey, Realm, Text
from fedcore.signing import Envelope
from fedcore.stops import StopScope


class About(Part):
    """What governance says of itself to anyone, unsigned: enough to find a fault, not to trust.

    Attributes:
        version: of its software.
        realm: that its documents are valid in.
        public_key: that its signatures verify with.
        accepted_versions: node software that its permits accept.
        now: its clock.
    """

    model_config = ConfigDict(extra="ignore")  # a newer governance may say more

    version: Text
    realm: Realm
    public_key: PublicKey
    accepted_versions: tuple[Text, ...]
    now: At


class NodeGateway(Protocol):
    """What a unit's node asks of governance. Every request is a document signed by the node's key.

    All methods raise UnreachableError when governance does not answer, and the FedError that
    governance answered otherwise.
    """

    def fetch_about(self) -> About:
        """Return what governance says of itself, unsigned."""

    def fetch_contract(self, digest: str) -> Envelope:
        """Return the signed contract with this digest."""

    def sync_bulletin(self, request: Envelope) -> Envelope:
        """Hand over a signed BulletinRequest and return the signed Bulletin."""

    def submit_opt_out(self, event: Envelope) -> None:
        """Hand over a signed OptOutEvent; repeating the same event changes nothing."""

    def submit_opt_outs(self, batch: Envelope) -> None:
        """Hand over a signed OptOutBatch; repeating the same batch changes nothing."""

    def fetch_opt_outs(self, request: Envelope) -> bytes:
        """Hand over a signed HistoryRequest and return the part of the history that it asks for."""

    def submit_group_opt_out(self, event: Envelope) -> None:
        """Hand over a signed GroupOptOut; repeating the same event changes nothing."""

    def set_aside_group_opt_out(self, statement: Envelope) -> None:
        """Hand over a signed GroupSetAside; repeating the same one changes nothing."""

    def fetch_handovers(self) -> tuple[Envelope, ...]:
        """Return all signed KeyHandovers of governance, oldest first."""

    def rotate_key(self, rotation: Envelope) -> Envelope:
        """Hand over a signed KeyRotation and return the new signed UnitCertificate; repeating the
        same rotation changes nothing.
        """

    def fetch_ledger_history(self, request: Envelope) -> Envelope:
        """Hand over a signed LedgerRequest and return the signed LedgerHistory."""

    def leave(self, statement: Envelope) -> LeaveAnswer:
        """Hand over a signed Leave, after which governance accepts nothing more of this key;
        repeating the same statement gets the same answer.
        """


class ServerGateway(Protocol):
    """What the federation server asks of governance, under the operator's API key."""

    def fetch_plan(self, digest: str) -> Envelope:
        """Return the author-signed plan with this digest."""

    def fetch_contract(self, digest: str) -> Envelope:
        """Return the signed contract with this digest."""

    def list_units(self) -> tuple[UnitStatus, ...]:
        """Return all units that were ever enrolled, by name."""

    def fetch_handovers(self) -> tuple[Envelope, ...]:
        """Return all signed KeyHandovers of governance, oldest first."""

    def fetch_evaluation_plan(self, digest: str) -> Envelope:
        """Return the author-signed evaluation plan with this digest."""

    def request_permit(self, plan: str, run_id: str, kind: PermitKind = "train") -> Envelope:
        """Return the signed permit of this run; the same call again returns the same permit.

        Raises: RefusedError with the reason codes of every gate rule that refused.
        """

    def renew_permit(self, run_id: str) -> Envelope:
        """Return a signed PermitRenewal of this run, the newest one while it lasts.

        Raises: RefusedError with the reason codes of everything that speaks against it.
        """

    def submit_round(self, report: Envelope, receipts: Sequence[Envelope]) -> None:
        """Hand over a signed RoundReport with its receipts, in one transaction."""

    def submit_tables(self, run_id: str, tables: Sequence[Envelope]) -> Envelope:
        """Hand over the NoisedTables of all answers that the run's accepted report counts, each
        signed by the server, and return the signed Evaluation; the same again gets the same.
        """

    def register_model(self, run_id: str, name: str, artifact: bytes) -> Envelope:
        """Return the signed ModelVersion of a finished run's released model (safetensors bytes)."""

    def fetch_artifact(self, digest: str) -> bytes:
        """Return the bytes of a registered model (safetensors)."""

    def submit_cosignatures(self, cosignatures: Sequence[Envelope]) -> None:
        """Hand over nodes' signed Cosignatures."""

    def fetch_checkpoint(self) -> Envelope:
        """Return the signed Checkpoint of the log as it is now."""


class OfficeGateway(Protocol):
    """What people ask of governance, each under their own API key."""

    def create_account(self, name: str, role: str, public_key: str | None = None) -> str:
        """Return the API key of a new account; it is shown once."""

    def revoke_account(self, name: str, role: str) -> None:
        """Make the API key of an account worthless."""

    def declare_group(
        self, name: str, units: Sequence[str], normaliser: str, key_check: str
    ) -> Envelope:
        """Make a group of units, or add units to it, and return the signed OptOutGroup."""

    def enrol(self, enrolment: Envelope) -> Envelope:
        """Hand over a node-signed Enrolment and return the signed UnitCertificate."""

    def revoke_node(self, unit: str, reason: str) -> Envelope:
        """Revoke the key of a unit's node and return the signed NodeKeyRevocation."""

    def publish_contract(self, contract: Contract) -> Envelope:
        """Return the contract, signed by governance."""

    def create_dpia(self, dpia: Dpia) -> str:
        """Store a draft and return its digest."""

    def fetch_dpia(self, digest: str) -> DpiaView:
        """Return a DPIA version as it stands now."""

    def act_on_dpia(
        self, digest: str, act: DpiaAct, note: str, details: ActDetails | None = None
    ) -> str:
        """Do one act on a DPIA and return the state it is in now."""

    def register_plan(self, plan: Envelope) -> str:
        """Store an author-signed plan and return its digest."""

    def register_evaluation_plan(self, plan: Envelope) -> str:
        """Store an author-signed evaluation plan and return its digest."""

    def list_evaluations(self) -> tuple[EvaluationSummary, ...]:
        """Return all evaluations that the caller may see, oldest first."""

    def fetch_evaluation(self, run_id: str) -> Envelope:
        """Return the signed Evaluation of a run."""

    def revoke_permit(self, run_id: str, reason: str) -> None:
        """Revoke the permit of a run."""

    def stop(self, scope: StopScope, subject: str | None, reason: str) -> Envelope:
        """Stop everything, or all of a unit, purpose, task or DPIA, and return the signed Stop."""

    def lift_stop(self, digest: str, reason: str) -> Envelope:
        """End a stop that another person has made and return the signed StopLift."""

    def open_incident(self, opening: IncidentOpening) -> Envelope:
        """Open an incident and return the signed Incident; what it stops is stopped at once."""

    def update_incident(self, number: int, update: IncidentUpdate, seen: str) -> Envelope:
        """Add a phase to an incident whose newest document was `seen`; return the signed phase."""

    def list_incidents(self) -> tuple[IncidentView, ...]:
        """Return all incidents as they stand now, oldest first."""

    def fetch_incident(self, number: int) -> IncidentHistory:
        """Return an incident as it stands now, with all its phases."""

    def list_opt_outs(self, unit: str) -> tuple[OptOutStatus, ...]:
        """Return how far each of a unit's opt-outs has come, and since when it acts."""

    def list_group_opt_outs(self, unit: str) -> tuple[GroupOptOutStatus, ...]:
        """Return how far each opt-out has come that a unit was told for its group."""

    def fetch_opt_out(self, unit: str, sequence: int) -> OptOutStatus:
        """Return how far one of a unit's opt-outs has come, and since when it acts."""

    def decide_model(
        self, name: str, version: int, decision: DecisionRequest, seen: str
    ) -> Envelope:
        """Decide about a model version whose newest decision was `seen`; return the signed one."""

    def see_decisions(self, name: str, version: int) -> tuple[tuple[DecisionView, ...], str]:
        """Return the decisions on a model version, oldest first, and the ETag of this sight."""

    def fetch_evidence(self, name: str, version: int) -> bytes:
        """Return the evidence bundle of a model version."""

    def fetch_card(self, name: str, version: int, form: Literal["html", "md"]) -> str:
        """Return the card of a model version as HTML or Markdown."""

    def check_promotion(self, name: str, version: int, alias: Alias) -> PromotionCheck:
        """Return all rules for an alias with what speaks against a model version now."""

    def approve_model(self, name: str, version: int, evidence: str, reason: str) -> Envelope:
        """Approve a model version on the evidence that was seen; return the signed approval."""

    def promote_model(
        self, version: tuple[str, int], alias: Alias, reason: str, seen: str
    ) -> Envelope:
        """Give a model version an alias, where aliases are as they were `seen`."""

    def roll_back(self, name: str, alias: Alias, reason: str, seen: str) -> Envelope:
        """Give an alias back to who had it before, where aliases are as they were `seen`."""

    def see_aliases(self, name: str) -> tuple[AliasHistory, str]:
        """Return who has a model's aliases, all moves, and the ETag of this sight."""
