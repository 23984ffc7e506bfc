"""Units from a distance: the words are typed, and what they do not stand for is not enrolled."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from fedcore.fingerprints import words_of
from fedcore.permits import Enrolment, UnitCertificate
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
from fedcore.transport_keys import create_transport_key


class Node:
    """A unit's side of the enrolment, on paper."""

    def __init__(self, folder, governance_key, name=None):
        self.key = SigningKey.generate()
        self.name = name or f"unit-{uuid4().hex[:8]}"
        self.record = Enrolment(
            unit=self.name,
            legal_entity="North Ltd",
            node_key=self.key.public,
            size_band=1024,
            subject_namespace="crm",
            requested_at=datetime.now(UTC),
            transport_key=create_transport_key(folder / f"{self.name}.transport.key"),
        )
        self.request = folder / f"{self.name}.request.json"
        self.envelope = sign_record(self.record, self.key, Realm.PRODUCTION)
        self.request.write_bytes(self.envelope.to_bytes())
        self.words = words_of(self.record, governance_key, Realm.PRODUCTION)
        self.out = folder / f"{self.name}.answer.json"


@pytest.fixture
def governance_key(service):
    return SigningKey.load(service.home / "governance.pem").public


@pytest.fixture
def node(tmp_path, governance_key):
    return Node(tmp_path, governance_key)


@pytest.fixture
def carla(service):
    return ("--api-key-file", service.home / "carla.key", *service.line)


def enrol(run, node, carla, words=None, typed=None, request=None):
    given = () if words is None else ("--words", words)
    line = ("enrol", request or node.request, "--out", node.out, *given, *carla)
    return run(*line, typed=typed)


class TestEnrol:
    def test_with_the_right_words_the_unit_gets_its_certificate(
        self, run, node, carla, governance_key
    ):
        exit_code, output = enrol(run, node, carla, node.words)
        assert exit_code == 0, output
        answer = Envelope.from_bytes(node.out.read_bytes())
        certificate = open_envelope(answer, UnitCertificate, governance_key, Realm.PRODUCTION)
        assert (certificate.unit, certificate.node_key) == (node.name, node.key.public)
        assert certificate.transport_key == node.record.transport_key

    def test_the_words_are_asked_for_and_never_shown(self, run, node, carla):
        exit_code, output = enrol(run, node, carla, typed=f"{node.words.upper()}\n")
        assert exit_code == 0
        for part in ("North Ltd", "1024 to 2048", "crm", node.name):
            assert part in output
        shown = output.partition("reads them")[0]
        assert not [word for word in node.words.split() if word in shown.split()]

    def test_with_wrong_words_nothing_is_enrolled_and_the_right_ones_are_not_told(
        self, run, node, carla
    ):
        wrong = " ".join(reversed(node.words.split()))
        exit_code, output = enrol(run, node, carla, wrong)
        assert (exit_code, "enrolment.words_differ" in output) == (1, True)
        assert node.words not in output
        assert not node.out.exists()
        assert enrol(run, node, carla, node.words)[0] == 0

    def test_a_request_that_was_swapped_on_its_way_does_not_fit_the_words(
        self, run, node, carla, tmp_path, governance_key
    ):
        """The attacker's request names the same unit, with a key of the attacker's own."""
        (tmp_path / "evil").mkdir()
        attacker = Node(tmp_path / "evil", governance_key, node.name)
        exit_code, output = enrol(run, node, carla, node.words, request=attacker.request)
        assert (exit_code, "enrolment.words_differ" in output) == (1, True)
        assert node.name not in run("units", *carla)[1]

    def test_a_unit_that_believes_in_another_governance_has_other_words(self, run, carla, tmp_path):
        deceived = Node(tmp_path, SigningKey.generate().public)
        exit_code, output = enrol(run, deceived, carla, deceived.words)
        assert (exit_code, "enrolment.words_differ" in output) == (1, True)

    def test_a_request_that_was_altered_is_refused(self, run, node, carla):
        other = node.record.model_copy(update={"size_band": 2})
        payload = sign_record(other, node.key, Realm.PRODUCTION).payload
        altered = node.envelope.model_copy(update={"payload": payload})
        node.request.write_bytes(altered.to_bytes())
        exit_code, output = enrol(run, node, carla, node.words)
        assert (exit_code, "signature.invalid" in output) == (1, True)

    def test_a_request_of_a_simulation_is_refused(self, run, node, carla):
        other = sign_record(node.record, node.key, Realm.SIMULATION)
        node.request.write_bytes(other.to_bytes())
        exit_code, output = enrol(run, node, carla, node.words)
        assert (exit_code, "signature.wrong_type" in output) == (1, True)

    @pytest.mark.parametrize("content", [b"", b"{}", b"x" * 10_000_000, None])
    def test_a_file_that_is_no_request_is_refused(self, run, node, carla, content):
        node.request.unlink()
        if content is not None:
            node.request.write_bytes(content)
        exit_code, output = enrol(run, node, carla, node.words)
        assert exit_code == 1
        assert output.startswith("error: ")

    def test_enrolled_again_it_gets_the_same_answer(self, run, node, carla):
        assert enrol(run, node, carla, node.words)[0] == 0
        first = node.out.read_bytes()
        exit_code, output = enrol(run, node, carla, node.words)
        assert (exit_code, "file.exists" in output) == (1, True)
        node.out.unlink()
        assert enrol(run, node, carla, node.words)[0] == 0
        assert node.out.read_bytes() == first


def test_the_list_shows_who_takes_part_and_who_is_out(run, node, carla):
    enrol(run, node, carla, node.words)
    [line] = [line for line in run("units", *carla)[1].splitlines() if node.name in line]
    assert "takes part" in line
    assert run("revoke-node", node.name, "--reason", "stolen", *carla)[0] == 0
    [line] = [line for line in run("units", *carla)[1].splitlines() if node.name in line]
    assert "out" in line


def test_a_revocation_is_said_twice_and_done_once(run, node, carla):
    enrol(run, node, carla, node.words)
    for _ in range(2):
        assert run("revoke-node", node.name, "--reason", "stolen", *carla)[0] == 0
    exit_code, output = run("revoke-node", "nobody", "--reason", "stolen", *carla)
    assert (exit_code, "unit.unknown" in output) == (1, True)
