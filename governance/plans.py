"""Training plans and contracts as documents."""

from typing import TypeVar

from fedcore.contracts import Contract
from fedcore.errors import ConflictError, ForbiddenError
from fedcore.plans import TrainingPlan
from fedcore.record import Record
from fedcore.signing import Envelope, open_envelope, open_known
from governance.office import Desk
from registry import documents
from registry.accounts import Account

P = TypeVar("P", bound=Record)


def publish_contract(desk: Desk, contract: Contract) -> Envelope:
    """Return the contract, signed; the same contract again returns the same envelope.

    Raises: ConflictError `contract.version_known`.
    """
    for envelope in documents.of_kind(desk.session, Contract):
        known = desk.open_signed_here(envelope, Contract)
        same_version = (known.contract_id, known.version) == (
            contract.contract_id,
            contract.version,
        )
        if same_version and known != contract:
            raise ConflictError(
                "contract.version_known", "this version is published: publish the next one"
            )
    return desk.issue(contract)


def register_plan(desk: Desk, envelope: Envelope, author: Account) -> str:
    """Store a plan that its author signed with the key of their account, and return its digest.

    Raises: ForbiddenError `account.key_missing`; SignatureError; ConflictError `plan.other_author`
        when the very same plan was registered under another key.
    """
    plan = open_authored(desk, envelope, TrainingPlan, author)
    file_authored(desk, plan, envelope)
    return plan.digest


def open_authored(desk: Desk, envelope: Envelope, kind: type[P], author: Account) -> P:
    """Return a plan of its kind that the caller has signed with the key of their account.

    Raises: ForbiddenError `account.key_missing`; SignatureError.
    """
    if author.public_key is None:
        raise ForbiddenError("account.key_missing", "this account has no key to sign plans with")
    return open_envelope(envelope, kind, author.public_key, desk.realm)


def file_authored(desk: Desk, plan: Record, envelope: Envelope) -> None:
    """Store a plan that was opened. Raises: ConflictError `plan.other_author`."""
    known = documents.find(desk.session, type(plan), plan.digest)
    if known is not None and known.signer != envelope.signer:
        raise ConflictError("plan.other_author", "another author has registered this very plan")
    desk.file(plan, envelope)


def open_plan(desk: Desk, digest: str) -> tuple[TrainingPlan, str]:
    """Return a registered plan and the key of its author. Raises: NotFoundError `plan.unknown`."""
    envelope = desk.fetch(TrainingPlan, digest)
    plan = open_known(envelope, TrainingPlan, envelope.signer, desk.realm)
    return plan, envelope.signer
