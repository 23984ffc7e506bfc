import json
import signal
import stat
import subprocess
import sys

import pytest

from clients.budget import Cap
from clients.ledger import Ledger
from clients.state import NodeKeys, StateDir, create_state, enrolment
from fedcore.atomic import write_atomically
from fedcore.errors import ConflictError, FedError, InvalidRecordError, TrustError
from fedcore.permits import Enrolment
from fedcore.record import Realm
from fedcore.signing import SigningKey, open_envelope

SECRETS = ("node.pem", "transport.key", "pseudonym.key")


@pytest.fixture
def state(tmp_path, start):
    return create_state(tmp_path / "deep" / "state", "north", "customer-number", start)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_enter_a_state_directory_and_read_its_keys(state):
    assert mode(state.root) == 0o700
    assert {mode(state.root / name) for name in SECRETS} == {0o600}


def test_an_empty_directory_that_was_open_to_others_is_closed(tmp_path, start):
    root = tmp_path / "state"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    create_state(root, "north", "customer-number", start)
    assert mode(root) == 0o700


def test_a_new_state_has_its_own_keys_and_an_empty_ledger(state, tmp_path, start):
    other = create_state(tmp_path / "other", "north", "customer-number", start)
    assert state.node_key().public != other.node_key().public
    assert state.pseudonym_key() != other.pseudonym_key()
    assert len(state.pseudonym_key()) == 32
    ledger = Ledger(state.ledger, "north", "customer-number", Cap(1.0, 1e-5))
    assert ledger.events() == []
    ledger.close()


def test_a_state_is_never_started_anew_over_another(state, start):
    before = {path.name: path.read_bytes() for path in state.root.iterdir()}
    with pytest.raises(ConflictError) as error:
        create_state(state.root, "north", "customer-number", start)
    assert error.value.code == "state.exists"
    assert {path.name: path.read_bytes() for path in state.root.iterdir()} == before


@pytest.mark.parametrize("leftover", ["ledger.db", "node.pem", "checks"])
def test_one_file_of_an_older_state_is_enough_to_refuse(tmp_path, start, leftover):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / leftover).touch()
    with pytest.raises(ConflictError):
        create_state(tmp_path / "state", "north", "customer-number", start)


def test_a_node_is_available_for_the_contract_it_was_checked_against_and_no_other(state, start):
    assert not state.checked("a")
    state.set_checked(available=True, at=start, contract="a")
    assert state.checked("a")
    assert not state.checked("b")
    state.set_checked(available=False, at=start, contract="a")
    assert not state.checked("a")


@pytest.mark.parametrize("available", [True, False])
def test_the_check_of_another_contract_leaves_a_checked_one_as_it_is(
    state, start, digest, available
):
    first, second = digest("version 1"), digest("version 2")
    state.set_checked(available=not available, at=start, contract=first)
    state.set_checked(available=available, at=start, contract=second)
    assert (state.checked(first), state.checked(second)) == (not available, available)


def test_a_check_counts_for_the_contract_that_it_names_wherever_it_lies(state, start):
    state.set_checked(available=True, at=start, contract="a")
    (state.root / "checks" / "a.json").rename(state.root / "checks" / "b.json")
    assert not state.checked("b")
    assert not state.checked("a")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"available": true}', b'{"contract": "a"}', b"\xff"],
)
def test_a_damaged_check_makes_the_node_unavailable(state, start, content):
    state.set_checked(available=True, at=start, contract="a")
    (state.root / "checks" / "a.json").write_bytes(content)
    assert not state.checked("a")


def test_what_is_said_of_a_check_is_its_outcome_only(state, start):
    state.set_checked(available=True, at=start, contract="a")
    value = json.loads((state.root / "checks" / "a.json").read_text())
    assert set(value) == {"available", "at", "contract"}


def test_an_atomic_write_leaves_no_draft_and_a_stale_draft_harms_nothing(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old")
    (tmp_path / "deep" / "file.new").write_bytes(b"half a dra")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_lost_node_key_is_named(state):
    (state.root / "node.pem").unlink()
    with pytest.raises(InvalidRecordError) as error:
        StateDir(state.root).node_key()
    assert error.value.code == "key.unreadable"


def test_an_enrolment_is_signed_by_the_node_for_one_realm(start):
    key = SigningKey.generate()
    signed = enrolment(
        NodeKeys(key, None), "north", "North Ltd", (1024, "numbers"), start, Realm.SIMULATION
    )
    record = open_envelope(signed, Enrolment, key.public, Realm.SIMULATION)
    assert (record.node_key, record.size_band) == (key.public, 1024)


@pytest.mark.parametrize("band", [3, 1000, 1023])
def test_only_a_band_of_a_power_of_two_is_enrolled(start, band):
    with pytest.raises(InvalidRecordError) as error:
        enrolment(
            NodeKeys(SigningKey.generate(), None),
            "north",
            "N",
            (band, "n"),
            start,
            Realm.PRODUCTION,
        )
    assert error.value.code == "settings.invalid"


@pytest.mark.parametrize("name", SECRETS)
def test_a_key_that_others_could_read_is_refused(state, name):
    opening = {
        "node.pem": state.node_key,
        "transport.key": state.transport_public,
        "pseudonym.key": state.pseudonym_key,
    }[name]
    (state.root / name).chmod(0o640)
    with pytest.raises(InvalidRecordError) as error:
        opening()
    assert error.value.code == "key.permissions"
    (state.root / name).chmod(0o600)
    opening()


def test_a_new_state_has_its_own_transport_key(state, tmp_path, start):
    other = create_state(tmp_path / "other", "north", "customer-number", start)
    assert state.transport_public() != other.transport_public()
    assert state.keys().transport == state.transport_public()


def test_a_missing_transport_key_is_named_and_stops_nothing_else(state):
    """As in a state that version 0.1 has made."""
    state.transport_key.unlink()
    with pytest.raises(InvalidRecordError) as error:
        state.keys()
    assert error.value.code == "key.transport_missing"
    assert state.node_key().public


def test_former_keys_are_kept_in_order_and_once(state):
    assert state.former_keys() == ()
    for key in ("aa" * 32, "bb" * 32, "aa" * 32):
        state.add_former_key(key)
    assert state.former_keys() == ("aa" * 32, "bb" * 32)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'["a"]', b"null", b"\xff"])
def test_a_damaged_list_of_former_keys_is_refused(state, content):
    state.add_former_key("aa" * 32)
    (state.root / "former-keys.json").write_bytes(content)
    with pytest.raises(TrustError) as error:
        state.former_keys()
    assert error.value.code == "key.history_corrupt"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("unfinished", "state.unfinished"),
        ("next/answer.json", "rotation.unfinished"),
        ("left.json", "unit.left"),
    ],
)
def test_a_unit_that_is_not_made_between_keys_or_out_signs_nothing(state, name, code):
    (state.root / name).parent.mkdir(exist_ok=True)
    (state.root / name).touch()
    with pytest.raises(FedError) as error:
        state.node_key()
    assert error.value.code == code
    (state.root / name).unlink()
    state.node_key()


class TestInterruptedFounding:
    """Killed at any write, the state is of no use until it is made anew."""

    # Three secrets are linked into place, the check of one is renamed, and the mark removed last.
    STEPS = (
        ("os.link", 0),
        ("os.link", 1),
        ("os.link", 2),
        ("pathlib.Path.replace", 0),
        ("pathlib.Path.unlink", -1),
    )

    def kill(self, root, call, number):
        script = f"""
import os, pathlib, signal
from datetime import UTC, datetime
from clients.state import create_state
left, real = [{number}], {call}
def dying(*arguments, **more):
    if left[0] == 0 or str(arguments[0]).endswith("unfinished"):
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*arguments, **more)
{call} = dying
create_state(pathlib.Path({str(root)!r}), "north", "customer-number", datetime.now(UTC))
"""
        return subprocess.run([sys.executable, "-c", script], check=False).returncode

    @pytest.mark.parametrize(("call", "number"), STEPS)
    def test_it_can_be_repeated(self, tmp_path, start, call, number):
        root = tmp_path / "state"
        assert self.kill(root, call, number) == -signal.SIGKILL
        with pytest.raises(ConflictError, match=r"state\.unfinished"):
            StateDir(root).node_key()
        state = create_state(root, "north", "customer-number", start)
        assert (state.keys().signing.public, state.former_keys()) == (state.node_key().public, ())
        assert len(state.pseudonym_key()) == 32
        with pytest.raises(ConflictError, match=r"state\.exists"):
            create_state(root, "north", "customer-number", start)

    def test_a_finished_state_is_never_cleared(self, state, start):
        kept = state.node_key().public
        with pytest.raises(ConflictError):
            create_state(state.root, "north", "customer-number", start)
        assert state.node_key().public == kept
