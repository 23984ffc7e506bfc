"""Enrolments: a unit's own key asks, governance certifies."""

from fedcore.errors import ConflictError, SignatureError
from fedcore.permits import Enrolment, UnitCertificate
from fedcore.signing import Envelope, open_envelope
from governance.auth import verify_not_future
from governance.office import Desk
from registry import units
from registry.units import EnrolledUnit


def enrol(desk: Desk, envelope: Envelope) -> Envelope:
    """Return the certificate of a unit; the same enrolment again returns the same certificate.

    Guarantees: one unit has one key and one key one unit; the enrolment is signed by the key in it.
    Raises: SignatureError; ExpiredError `request.from_future`; ConflictError
        `enrolment.unit_known`, `enrolment.key_known`.
    """
    enrolment = open_envelope(envelope, Enrolment, envelope.signer, desk.realm)
    if enrolment.node_key != envelope.signer:
        raise SignatureError("signature.wrong_key", "an enrolment is signed by the key in it")
    verify_not_future(enrolment.requested_at, desk.now)
    known = units.find(desk.session, enrolment.unit)
    if known is not None and known.enrolment == enrolment.digest:
        return desk.fetch(UnitCertificate, known.certificate)
    if known is not None:
        raise ConflictError("enrolment.unit_known", "this unit is enrolled already")
    if units.find_by_key(desk.session, enrolment.node_key) is not None:
        raise ConflictError("enrolment.key_known", "another unit has this key: make a fresh one")
    return _certify(desk, enrolment, envelope)


def _certify(desk: Desk, enrolment: Enrolment, envelope: Envelope) -> Envelope:
    desk.file(enrolment, envelope, unit=enrolment.unit)
    certificate = UnitCertificate(
        unit=enrolment.unit,
        node_key=enrolment.node_key,
        size_band=enrolment.size_band,
        enrolment=enrolment.digest,
        issued_at=desk.now,
        transport_key=enrolment.transport_key,
    )
    issued = desk.issue(certificate, unit=enrolment.unit)
    unit = EnrolledUnit(enrolment.unit, enrolment.node_key, enrolment.digest, certificate.digest)
    units.append(desk.session, unit)
    return issued
