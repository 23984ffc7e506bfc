"""Enrolments: a unit's own key asks, governance certifies."""

from fedcore.errors import ConflictError, MismatchError, SignatureError
from fedcore.membership import UnitStatus
from fedcore.permits import Enrolment, UnitCertificate
from fedcore.signing import Envelope, open_envelope
from governance.auth import verify_not_future
from governance.office import Desk
from registry import documents, units
from registry.units import EnrolledUnit


def enrol(desk: Desk, envelope: Envelope) -> Envelope:
    """Return the certificate of a unit; the same enrolment again returns the same certificate.

    A unit whose key was revoked, or that has left, comes back with a fresh key. Its opt-outs and
    the heads of its ledger stay: a customer base has one ledger for good.

    Guarantees: one unit has one key and one key one unit, also among the keys of the past; the
        enrolment is signed by the key in it.
    Raises: SignatureError; ExpiredError `request.from_future`; ConflictError
        `enrolment.unit_known`, `enrolment.key_known`; MismatchError `enrolment.terms_differ`.
    """
    enrolment = open_enrolment(desk, envelope)
    verify_not_future(enrolment.requested_at, desk.now)
    known = units.find(desk.session, enrolment.unit)
    if known is None:
        verify_keys_fresh(desk, enrolment)
        return certify(desk, enrolment, envelope)
    if known.revocation is None:
        if known.enrolment == enrolment.digest:
            return desk.fetch(UnitCertificate, known.certificate)
        raise ConflictError("enrolment.unit_known", "this unit is enrolled already")
    verify_keys_fresh(desk, enrolment)
    verify_same_terms(desk, enrolment, known)
    return certify(desk, enrolment, envelope, known)


def open_enrolment(desk: Desk, envelope: Envelope) -> Enrolment:
    """Return an enrolment that the key in it has signed. Raises: SignatureError."""
    enrolment = open_envelope(envelope, Enrolment, envelope.signer, desk.realm)
    if enrolment.node_key != envelope.signer:
        raise SignatureError("signature.wrong_key", "an enrolment is signed by the key in it")
    return enrolment


def verify_keys_fresh(desk: Desk, enrolment: Enrolment) -> None:
    """Refuse keys that any unit has or had. Raises: ConflictError `enrolment.key_known`."""
    transport_key = enrolment.transport_key
    if units.find_key(desk.session, enrolment.node_key) is not None or (
        transport_key is not None and units.transport_key_known(desk.session, transport_key)
    ):
        raise ConflictError(
            "enrolment.key_known",
            "a unit has or had this node key or transport key: make fresh ones, each node its own",
        )


def verify_same_terms(desk: Desk, enrolment: Enrolment, unit: EnrolledUnit) -> None:
    """Refuse new keys that come with other terms: they would be another customer base or size.

    Raises: MismatchError `enrolment.terms_differ`.
    """
    before = open_enrolment(desk, desk.fetch(Enrolment, unit.enrolment))
    if (enrolment.size_band, enrolment.subject_namespace) != (
        before.size_band,
        before.subject_namespace,
    ):
        raise MismatchError(
            "enrolment.terms_differ",
            f"{unit.unit} was enrolled with size band {before.size_band} and subject namespace "
            f"{before.subject_namespace}: keep both when its keys change",
        )


def certify(
    desk: Desk, enrolment: Enrolment, envelope: Envelope, before: EnrolledUnit | None = None
) -> Envelope:
    """File an enrolment whose keys are fresh, and return its certificate.

    `before` is the unit as it was; its key must have been ended.
    """
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
    store = units.append if before is None else units.replace_key
    store(desk.session, unit, enrolment.transport_key, desk.now)
    return issued


def list_units(
    desk: Desk, after: str, limit: int, only: str | None = None
) -> tuple[UnitStatus, ...]:
    """Return at most `limit` units that were ever enrolled, by name, from the one after a name;
    `only` names the one that is returned, if it comes after.
    """
    found = units.list_after(desk.session, after, limit, only)
    digests = [unit.certificate for unit in found]
    certificates = documents.find_named(desk.session, UnitCertificate, digests)
    return tuple(
        UnitStatus(
            unit=unit.unit,
            certificate=certificates[unit.certificate],
            revoked=unit.revocation is not None,
        )
        for unit in found
    )
