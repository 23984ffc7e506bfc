import pytest

from clients.doctor.enrolments import check_enrolment, check_membership
from clients.state import StateDir
from fedcore.errors import UnreachableError
from fedcore.permits import UnitCertificate
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record


@pytest.fixture
def certify(unit, digest, now):
    """Keep a certificate of the unit, as `node accept` does; returns governance's public key."""

    def certificate(signer=None, **changes):
        governance = SigningKey.generate()
        state = StateDir(unit.state_dir)
        keys = state.keys()
        values = {
            "unit": "north",
            "node_key": keys.signing.public,
            "transport_key": keys.transport,
            "size_band": 32,
            "enrolment": digest("request"),
            "issued_at": now,
            **changes,
        }
        envelope = sign_record(UnitCertificate(**values), signer or governance, Realm.PRODUCTION)
        state.certificate.write_bytes(envelope.to_bytes())
        return governance.public

    return certificate


def test_a_unit_with_its_own_certificate_is_enrolled(found, certify):
    (finding,) = check_enrolment(found(governance_key=certify()))
    assert finding.outcome == "ok"


def test_a_unit_without_a_certificate_cannot_be_started(found):
    (finding,) = check_enrolment(found())
    assert (finding.code, finding.blocks) == ("node.not_enrolled", True)
    assert "node enrol" in finding.way_out
    assert list(check_membership(found())) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"unit": "south"}, "certificate.other_unit"),
        ({"node_key": "cd" * 32}, "certificate.other_node"),
        ({"transport_key": None}, "certificate.other_node"),
        ({"signer": SigningKey.generate()}, "signature.wrong_key"),
    ],
)
def test_a_certificate_of_another_unit_key_or_signer_does_not_count(found, certify, changes, code):
    (finding,) = check_enrolment(found(governance_key=certify(**changes)))
    assert (finding.code, finding.blocks) == (code, True)


def test_a_damaged_certificate_does_not_count(found, unit):
    StateDir(unit.state_dir).certificate.write_bytes(b"{}")
    (finding,) = check_enrolment(found())
    assert finding.code == "envelope.invalid"


def test_another_size_band_than_the_certified_one_is_a_warning(found, certify):
    (finding,) = check_enrolment(found(governance_key=certify(size_band=64)))
    assert (finding.outcome, finding.blocks) == ("warning", False)


def test_membership_is_not_asked_for_while_governance_is_silent(found, certify):
    silent = UnreachableError("governance.unreachable", "x")
    assert list(check_membership(found(silent, governance_key=certify()))) == []
