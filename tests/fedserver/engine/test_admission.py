from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import ConflictError, InvalidRecordError, MismatchError, SignatureError
from fedcore.handovers import sign_handover
from fedcore.membership import UnitStatus
from fedcore.permits import UnitCertificate
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedserver.engine.admission import Changes, admit, certified_keys, decide_changes, pem_of
from fedserver.engine.control import UNREGISTERED, Node
from fedserver.settings import ServerSettings

KEY = ec.generate_private_key(ec.SECP384R1()).public_key()
LINE = KEY.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
GOVERNANCE = SigningKey.generate()


class SuperLink:
    """Keeps nodes as Flower does: a key is taken once and never again."""

    def __init__(self, nodes=()):
        self._nodes = {node.node_id: node for node in nodes}

    def nodes(self):
        return list(self._nodes.values())

    def register_node(self, name, public_key):
        if any(node.public_key == public_key for node in self._nodes.values()):
            raise ConflictError("transport.used_before", "rotate")
        number = len(self._nodes) + 1
        self._nodes[number] = Node(number, name, public_key, "registered")
        return number

    def unregister_node(self, node_id):
        node = self._nodes[node_id]
        self._nodes[node_id] = Node(node_id, node.name, node.public_key, UNREGISTERED)


class Governance:
    def __init__(self, *statuses, handovers=()):
        self._statuses = statuses
        self._handovers = handovers

    def list_units(self):
        return self._statuses

    def fetch_handovers(self):
        return self._handovers


def governance(*statuses, handovers=()) -> Any:
    return Governance(*statuses, handovers=handovers)


def active(superlink):
    return {n.name: n.public_key for n in superlink.nodes() if n.status != UNREGISTERED}


def certificate(unit, line=LINE, key=GOVERNANCE, realm=Realm.PRODUCTION):
    made = UnitCertificate(
        unit=unit,
        node_key="1" * 64,
        size_band=64,
        enrolment="sha256:" + "0" * 64,
        issued_at=datetime(2026, 3, 2, tzinfo=UTC),
        transport_key=line,
    )
    return sign_record(made, key, realm)


def listed(unit, envelope=None, revoked=False):
    return UnitStatus(unit=unit, certificate=envelope or certificate(unit), revoked=revoked)


@pytest.fixture
def settings(tmp_path):
    return ServerSettings(
        work_dir=tmp_path,
        governance_url="https://governance.example",
        governance_key=GOVERNANCE.public,
        api_key_file=tmp_path / "api.key",
        signing_key=tmp_path / "server.pem",
        model_name="churn",
    )


def test_certified_units_connect_and_a_second_time_changes_nothing():
    superlink: Any = SuperLink()
    certified = {"north": b"n", "south": b"s"}
    assert admit(superlink, certified) == ["registered north", "registered south"]
    assert active(superlink) == certified
    assert admit(superlink, certified) == []


def test_a_revoked_unit_connects_no_more():
    superlink: Any = SuperLink()
    admit(superlink, {"north": b"n", "south": b"s"})
    (line,) = admit(superlink, {"south": b"s"})
    assert line.startswith("unregistered north")
    assert active(superlink) == {"south": b"s"}


def test_a_rotated_key_takes_the_place_of_the_old_one():
    superlink: Any = SuperLink()
    admit(superlink, {"north": b"n"})
    lines = admit(superlink, {"north": b"n2"})
    assert [line.split(":")[0] for line in lines] == ["unregistered north", "registered north"]
    assert active(superlink) == {"north": b"n2"}


def test_a_unit_whose_key_cannot_be_used_keeps_nobody_waiting():
    superlink: Any = SuperLink()
    admit(superlink, {"north": b"n"})
    admit(superlink, {})
    lines = admit(superlink, {"north": b"n", "south": b"s"})
    assert "transport.used_before" in lines[0]
    assert lines[1] == "registered south"


def test_a_node_under_a_strange_name_is_no_node_of_the_unit():
    assert decide_changes({"north": b"n"}, [Node(1, "south", b"n", "online")]) == Changes(
        register=(("north", b"n"),), unregister=(Node(1, "south", b"n", "online"),)
    )


def one_key_each(keys):
    units = st.dictionaries(st.sampled_from("abcd"), keys)
    return units.filter(lambda found: len(set(found.values())) == len(found))


@given(
    before=one_key_each(st.binary(max_size=2)),
    fresh=one_key_each(st.binary(min_size=3, max_size=4)),
    kept=st.sets(st.sampled_from("abcd")),
)
def test_exactly_the_certified_nodes_are_left(before, fresh, kept):
    superlink: Any = SuperLink(
        Node(number, unit, key, "online") for number, (unit, key) in enumerate(before.items(), 1)
    )
    certified = fresh | {unit: before[unit] for unit in kept & set(before)}
    admit(superlink, certified)
    assert active(superlink) == certified
    assert admit(superlink, certified) == []


def test_the_keys_are_those_of_the_certificates_as_flower_keeps_them(settings):
    gateway = governance(listed("north"), listed("south", revoked=True))
    assert certified_keys(gateway, settings) == {"north": public_key_to_bytes(KEY)}


def test_a_unit_without_a_transport_key_does_not_connect(settings):
    assert certified_keys(governance(listed("north", certificate("north", None))), settings) == {}


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        (certificate("north", key=SigningKey.generate()), SignatureError),
        (certificate("north", realm=Realm.SIMULATION), SignatureError),
        (certificate("south"), MismatchError),
    ],
)
def test_what_governance_has_not_signed_for_that_unit_is_not_believed(settings, envelope, error):
    with pytest.raises(error):
        certified_keys(governance(listed("north", envelope)), settings)


def test_certificates_of_both_keys_count_after_a_hand_over(settings):
    successor = SigningKey.generate()
    handover = sign_handover(
        GOVERNANCE, successor, Realm.PRODUCTION, "Yearly.", datetime(2026, 3, 3, tzinfo=UTC)
    )
    statuses = (listed("north"), listed("south", certificate("south", key=successor)))
    found = certified_keys(governance(*statuses, handovers=(handover,)), settings)
    assert set(found) == {"north", "south"}
    with pytest.raises(SignatureError):
        certified_keys(governance(*statuses), settings)


def test_what_is_no_key_is_refused():
    with pytest.raises(InvalidRecordError) as caught:
        pem_of("no key")
    assert caught.value.code == "transport.key_invalid"
