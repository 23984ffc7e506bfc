"""Enrolment: one unit, one node key, one transport key, and a way back for who was out."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedcore.errors import ConflictError, FedError, MismatchError, SignatureError
from fedcore.permits import UnitCertificate
from fedcore.signing import Envelope, SigningKey


@pytest.fixture
def office(make_world, begin):
    return make_world(begin("people"))


def transport_line():
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def enrol(world, unit, **changes):
    envelope = world.sign(world.enrolment(unit, **changes), unit)
    return world.open(world.gateway("compliance").enrol(envelope), UnitCertificate)


def code_of(act, *arguments):
    with pytest.raises(FedError) as caught:
        act(*arguments)
    return caught.value.code


def test_a_certificate_names_the_keys_of_the_request(office):
    line = transport_line()
    certificate = enrol(office, "north", transport_key=line)
    assert (certificate.node_key, certificate.transport_key) == (office.keys["north"].public, line)
    assert enrol(office, "south").transport_key is None


def test_the_same_request_again_gets_the_same_certificate(office):
    request = office.enrolment("north", transport_key=transport_line())
    envelope = office.sign(request, "north")
    first = office.gateway("compliance").enrol(envelope)
    office.clock.tick(hours=5)
    assert office.gateway("compliance").enrol(envelope) == first


def test_a_unit_that_takes_part_is_not_enrolled_anew(office):
    enrol(office, "north")
    office.keys["north"] = SigningKey.generate()
    with pytest.raises(ConflictError, match=r"enrolment\.unit_known"):
        enrol(office, "north")


@pytest.mark.parametrize("shared", ["node_key", "transport_key"])
def test_two_nodes_never_have_one_key(office, shared):
    line = transport_line()
    enrol(office, "north", transport_key=line)
    if shared == "node_key":
        office.keys["south"], line = office.keys["north"], transport_line()
    with pytest.raises(ConflictError, match=r"enrolment\.key_known"):
        enrol(office, "south", transport_key=line)
    office.keys.pop("south")
    assert enrol(office, "south", transport_key=transport_line()).unit == "south"


def test_a_request_that_another_key_signed_is_refused(office):
    request = office.enrolment("north")
    office.keys["stranger"] = SigningKey.generate()
    envelope = office.sign(request, "stranger")
    with pytest.raises(SignatureError, match=r"signature\.wrong_key"):
        office.gateway("compliance").enrol(envelope)


def test_a_request_that_was_altered_on_its_way_is_refused(office):
    honest = office.sign(office.enrolment("north"), "north")
    altered = office.sign(office.enrolment("north", size_band=2), "north")
    swapped = honest.model_copy(update={"payload": altered.payload})
    with pytest.raises(SignatureError, match=r"signature\.invalid"):
        office.gateway("compliance").enrol(swapped)
    office.gateway("compliance").enrol(honest)


def test_a_field_of_ten_megabytes_is_refused_by_its_rule(office):
    huge = office.enrolment("north").model_copy(update={"legal_entity": "N" * 10_000_000})
    assert code_of(office.gateway("compliance").enrol, office.sign(huge, "north")) == (
        "record.invalid"
    )


def test_a_request_from_the_future_is_refused(office):
    late = office.enrolment("north", requested_at=office.clock.now.replace(year=2030))
    assert code_of(office.gateway("compliance").enrol, office.sign(late, "north")) == (
        "request.from_future"
    )


@pytest.mark.databases
def test_concurrent_enrolments_of_one_unit_make_one_certificate(office):
    requests = []
    for number in range(6):
        office.keys[f"n{number}"] = SigningKey.generate()
        record = office.enrolment("north", node_key=office.keys[f"n{number}"].public)
        requests.append(office.sign(record, f"n{number}"))

    def attempt(envelope):
        try:
            return office.gateway("compliance").enrol(envelope)
        except ConflictError as error:
            return error.code

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(attempt, requests))
    assert sum(isinstance(item, Envelope) for item in outcomes) == 1
    assert outcomes.count("enrolment.unit_known") == 5


class TestComingBack:
    """A unit whose key was revoked is enrolled with fresh keys; what it did before stays."""

    @pytest.fixture
    def out(self, office):
        enrol(office, "north", transport_key=transport_line())
        office.gateway().submit_opt_out(office.sign(office.opt_out("north", 1), "north"))
        office.gateway("compliance").revoke_node("north", "stolen")
        return office

    def test_it_comes_back_with_fresh_keys(self, out):
        out.keys["north"] = SigningKey.generate()
        certificate = enrol(out, "north", transport_key=transport_line())
        assert certificate.node_key == out.keys["north"].public
        [listed] = out.gateway("operator").list_units()
        assert not listed.revoked
        assert out.open(listed.certificate, UnitCertificate) == certificate

    def test_its_opt_outs_and_its_ledger_go_on(self, out):
        out.keys["north"] = SigningKey.generate()
        enrol(out, "north")
        bulletin = out.bulletin("north")
        assert bulletin.last_sequence == 1
        with pytest.raises(ConflictError, match=r"opt_out\.sequence_known"):
            out.gateway().submit_opt_out(out.sign(out.opt_out("north", 1, purpose="x"), "north"))

    def test_it_never_comes_back_with_a_key_that_it_had(self, out):
        with pytest.raises(ConflictError, match=r"enrolment\.key_known"):
            enrol(out, "north", transport_key=transport_line())

    def test_nobody_else_takes_a_key_that_was_revoked(self, out):
        out.keys["south"] = out.keys["north"]
        with pytest.raises(ConflictError, match=r"enrolment\.key_known"):
            enrol(out, "south")

    @pytest.mark.parametrize("change", [{"size_band": 2048}, {"subject_namespace": "other"}])
    def test_it_cannot_become_another_customer_base(self, out, change):
        out.keys["north"] = SigningKey.generate()
        with pytest.raises(MismatchError, match=r"enrolment\.terms_differ"):
            enrol(out, "north", **change)
        assert enrol(out, "north").unit == "north"


def test_all_units_are_listed_with_what_became_of_them(office):
    for unit in ("south", "north", "west"):
        enrol(office, unit, transport_key=transport_line())
    office.gateway("compliance").revoke_node("west", "stolen")
    units = office.gateway("operator").list_units()
    assert [(item.unit, item.revoked) for item in units] == [
        ("north", False),
        ("south", False),
        ("west", True),
    ]
