"""The governance API as its three kinds of callers see it."""

from collections.abc import Sequence
from typing import Protocol

from fedcore.contracts import Contract
from fedcore.dpias import Dpia, DpiaAct
from fedcore.signing import Envelope


class NodeGateway(Protocol):
    """What a unit's node asks of governance. Every request is a document signed by the node's key.

    All methods raise UnreachableError when governance does not answer, and the FedError that
    governance answered otherwise.
    """

    def fetch_contract(self, digest: str) -> Envelope:
        """Return the signed contract with this digest."""

    def sync_bulletin(self, request: Envelope) -> Envelope:
        """Hand over a signed BulletinRequest and return the signed Bulletin."""

    def submit_opt_out(self, event: Envelope) -> None:
        """Hand over a signed OptOutEvent; repeating the same event changes nothing."""


class ServerGateway(Protocol):
    """What the federation server asks of governance, under the operator's API key."""

    def fetch_plan(self, digest: str) -> Envelope:
        """Return the author-signed plan with this digest."""

    def fetch_contract(self, digest: str) -> Envelope:
        """Return the signed contract with this digest."""

    def request_permit(self, plan: str, run_id: str) -> Envelope:
        """Return the signed permit of this run; the same call again returns the same permit.

        Raises: RefusedError with the reason codes of every gate rule that refused.
        """

    def submit_round(self, report: Envelope, receipts: Sequence[Envelope]) -> None:
        """Hand over a signed RoundReport with its receipts, in one transaction."""

    def register_model(self, run_id: str, name: str, artifact: bytes) -> Envelope:
        """Return the signed ModelVersion of a finished run's released model (safetensors bytes)."""

    def submit_cosignatures(self, cosignatures: Sequence[Envelope]) -> None:
        """Hand over nodes' signed Cosignatures."""


class OfficeGateway(Protocol):
    """What people ask of governance, each under their own API key."""

    def create_account(self, name: str, role: str, public_key: str | None = None) -> str:
        """Return the API key of a new account; it is shown once."""

    def enrol(self, enrolment: Envelope) -> Envelope:
        """Hand over a node-signed Enrolment and return the signed UnitCertificate."""

    def publish_contract(self, contract: Contract) -> Envelope:
        """Return the contract, signed by governance."""

    def create_dpia(self, dpia: Dpia) -> str:
        """Store a draft and return its digest."""

    def act_on_dpia(self, digest: str, act: DpiaAct, note: str) -> str:
        """Do one act on a DPIA and return the state it is in now."""

    def register_plan(self, plan: Envelope) -> str:
        """Store an author-signed plan and return its digest."""

    def revoke_permit(self, run_id: str, reason: str) -> None:
        """Revoke the permit of a run."""

    def fetch_evidence(self, name: str, version: int) -> bytes:
        """Return the evidence bundle of a model version."""
