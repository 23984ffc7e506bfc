"""Changes of a unit's membership: new keys, revoked keys, leaving."""

from fedcore.errors import MismatchError, NotFoundError, RollbackError
from fedcore.membership import AffectedModel, KeyRotation, Leave, LeaveAnswer, NodeKeyRevocation
from fedcore.permits import UnitCertificate
from fedcore.signing import Envelope, open_envelope
from governance.auth import open_from_node, verify_not_future, verify_speaks_for
from governance.decisions.heads import GENESIS
from governance.enrolments import certify, open_enrolment, verify_keys_fresh, verify_same_terms
from governance.office import Desk
from registry import bulletins, documents, models, units
from registry.units import EnrolledUnit

UNKNOWN = ("unit.unknown", "no unit of this name is enrolled")


def rotate(desk: Desk, envelope: Envelope) -> Envelope:
    """Give a unit its new keys and return the new certificate.

    Guarantees: the key that goes has signed the rotation, the key that comes the enrolment in it;
        both documents are logged; from now on nothing new of the old key is accepted; the same
        rotation again returns the same certificate, whenever it comes.
    Raises: SignatureError `unit.key_unknown`, `unit.key_retired`, `unit.other_unit`; RefusedError
        `unit.revoked`; ExpiredError `request.from_future`; ConflictError `enrolment.key_known`;
        MismatchError `enrolment.terms_differ`.
    """
    done = _certificate_of(desk, envelope)
    if done is not None:
        return done
    rotation, unit = open_from_node(desk, envelope, KeyRotation)
    verify_speaks_for(unit, rotation.unit)
    verify_not_future(rotation.requested_at, desk.now)
    enrolment = open_enrolment(desk, rotation.enrolment)
    verify_speaks_for(unit, enrolment.unit)
    verify_keys_fresh(desk, enrolment)
    verify_same_terms(desk, enrolment, unit)
    desk.file(rotation, envelope, unit=unit.unit)
    units.end_key(desk.session, unit.node_key, rotation.digest, desk.now)
    return certify(desk, enrolment, rotation.enrolment, unit)


def revoke_node(desk: Desk, name: str, reason: str) -> Envelope:
    """Revoke the key of a unit's node and return the revocation; a second time changes nothing.

    Raises: NotFoundError `unit.unknown`.
    """
    unit = units.find(desk.session, name)
    if unit is None:
        raise NotFoundError(*UNKNOWN)
    if unit.revocation is not None:
        return desk.fetch(NodeKeyRevocation, unit.revocation)
    revocation = NodeKeyRevocation(
        unit=name, node_key=unit.node_key, reason=reason, revoked_at=desk.now
    )
    issued = desk.issue(revocation, unit=name)
    units.end_key(desk.session, unit.node_key, revocation.digest, desk.now)
    return issued


def leave(desk: Desk, envelope: Envelope) -> LeaveAnswer:
    """Record a unit's last statement, revoke its key, and say which models have learnt from it.

    The same statement again gets the same answer.

    Raises: SignatureError `unit.key_unknown`, `unit.key_retired`, `unit.other_unit`; RefusedError
        `unit.revoked` for another statement of a unit that is out; ExpiredError
        `request.from_future`; RollbackError `ledger.rollback`; MismatchError
        `ledger.claim_mismatch`.
    """
    unit = units.find_by_key(desk.session, envelope.signer)
    if unit is None or not _has_left(desk, unit, envelope):
        record, unit = open_from_node(desk, envelope, Leave)
        verify_speaks_for(unit, record.unit)
        verify_not_future(record.left_at, desk.now)
        _verify_head(desk, record)
        desk.file(record, envelope, unit=unit.unit)
    return LeaveAnswer(
        revocation=revoke_node(desk, unit.unit, "The unit has left."),
        models=tuple(
            AffectedModel(name=model.name, version=model.version, run_id=model.run_id)
            for model in models.list_trained_by(desk.session, unit.unit)
        ),
    )


def _certificate_of(desk: Desk, envelope: Envelope) -> Envelope | None:
    """Return the certificate that a rotation has led to, if this very one was done before."""
    key = units.find_key(desk.session, envelope.signer)
    if key is None or key.ended_by != envelope.digest:
        return None
    rotation = open_envelope(envelope, KeyRotation, envelope.signer, desk.realm)
    successor = units.find_key(desk.session, rotation.enrolment.signer)
    if successor is None:
        return None
    return desk.fetch(UnitCertificate, successor.certificate)


def _has_left(desk: Desk, unit: EnrolledUnit, envelope: Envelope) -> bool:
    """Return whether a unit is out by this very statement."""
    if unit.revocation is None or documents.find(desk.session, Leave, envelope.digest) is None:
        return False
    open_envelope(envelope, Leave, unit.node_key, desk.realm)
    return True


def _verify_head(desk: Desk, record: Leave) -> None:
    newest = bulletins.find_newest_head(desk.session, record.unit) or GENESIS
    if record.ledger_sequence < newest.sequence:
        raise RollbackError(
            "ledger.rollback", "governance has seen a newer ledger of this unit: restore it first"
        )
    if record.ledger_sequence == newest.sequence and record.ledger_hash != newest.hash:
        raise MismatchError(
            "ledger.claim_mismatch", "governance has seen another ledger of this length"
        )
