"""A change of pseudonym keys, killed at any point, has happened or has not."""

import json
import signal
import stat
import subprocess
import sys
from contextlib import suppress

import pytest

from clients.keyring import LIST, add_key, key_path, load_ring, remove_key
from clients.pseudonyms import check_of, load_key
from clients.state import create_state
from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.keyfiles import write_secret


@pytest.fixture
def root(tmp_path, start):
    return create_state(tmp_path / "state", "north", "customer-number", start).root


def test_a_new_key_is_the_present_one_and_those_before_it_go_on_counting(root, contract):
    first = load_ring(root)
    assert (first.version, first.has_former) == (1, False)
    assert [add_key(root), add_key(root)] == [2, 3]
    ring = load_ring(root)
    assert list(ring.keys) == [1, 2, 3]
    assert (ring.version, ring.keys[1], len({*ring.keys.values()})) == (3, first.key, 3)
    assert stat.S_IMODE(key_path(root, 3).stat().st_mode) == 0o600
    maker = ring.pseudonymiser(contract.subject)
    old = first.pseudonymiser(contract.subject)
    assert maker.former(" c17 ")[0] == old.pseudonym("C17")
    assert len({maker.pseudonym("C17"), *maker.former("C17")}) == 3
    assert old.former("C17") == ()


def test_software_that_knows_one_key_refuses_a_state_with_several(root):
    """It compares the whole file with the check of `pseudonym.key`."""
    assert check_of(load_key(key_path(root, 1))).encode() == (root / LIST).read_bytes()
    add_key(root)
    assert check_of(load_key(key_path(root, 1))).encode() != (root / LIST).read_bytes()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_listed_key_that_is_missing_or_another_one_is_refused(root, version):
    add_key(root)
    add_key(root)
    path = key_path(root, version)
    kept = path.read_bytes()
    for content, code in ((None, "key.unreadable"), (b"cd" * 32, "key.other")):
        path.unlink(missing_ok=True)
        if content is not None:
            write_secret(path, content)
        with pytest.raises(InvalidRecordError) as error:
            load_ring(root)
        assert (error.value.code, path.name in error.value.public) == (code, True)
    path.unlink()
    write_secret(path, kept)
    assert load_ring(root).version == 3


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'[{"version":1}]', b"\xff", b"[1]", None])
def test_a_list_that_cannot_be_read_is_refused(root, content):
    add_key(root)
    kept = (root / LIST).read_bytes()
    (root / LIST).unlink()
    if content is not None:
        (root / LIST).write_bytes(content)
    with pytest.raises(InvalidRecordError) as error:
        load_ring(root)
    assert error.value.code == ("key.unreadable" if content is None else "key.other")
    (root / LIST).write_bytes(kept)
    assert load_ring(root).version == 2


def test_only_a_former_key_is_removed_and_its_number_is_never_given_again(root):
    with pytest.raises(ConflictError) as error:
        remove_key(root, 1)
    assert error.value.code == "pseudonym.key_present"
    add_key(root)
    remove_key(root, 1)
    assert (list(load_ring(root).keys), key_path(root, 1).exists()) == ([2], False)
    with pytest.raises(ConflictError) as error:
        remove_key(root, 1)
    assert error.value.code == "pseudonym.version_unknown"
    assert add_key(root) == 3


class TestKilled:
    """Before and after the link of the key, the rename of the list and the removal of a key."""

    def kill(self, root, act, call, number, side):
        script = f"""
import os, pathlib, signal
from clients import keyring
left, real = [{number}], {call}
def dying(*arguments, **more):
    if left[0] == 0 and {side!r} == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **more)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return result
{call} = dying
keyring.{act}
"""
        script = script.replace("ROOT", f"pathlib.Path({str(root)!r})")
        return subprocess.run([sys.executable, "-c", script], check=False).returncode

    @pytest.mark.parametrize("side", ["before", "after"])
    @pytest.mark.parametrize(("call", "number"), [("os.link", 0), ("pathlib.Path.replace", 0)])
    def test_a_rotation_has_happened_or_is_done_by_the_same_call(self, root, call, number, side):
        before = load_ring(root).keys
        killed = self.kill(root, "add_key(ROOT)", call, number, side)
        assert killed == -signal.SIGKILL
        listed = (call, side) == ("pathlib.Path.replace", "after")
        found = load_ring(root)
        assert found.keys[1] == before[1]
        assert list(found.keys) == ([1, 2] if listed else [1])
        assert add_key(root) == (3 if listed else 2)
        assert {*before.items()} < {*load_ring(root).keys.items()}
        assert len(json.loads((root / LIST).read_bytes())) == (3 if listed else 2)

    @pytest.mark.parametrize("side", ["before", "after"])
    @pytest.mark.parametrize(("call", "number"), [("pathlib.Path.replace", 0), ("os.unlink", 0)])
    def test_a_removal_has_happened_or_is_done_by_the_same_call(self, root, call, number, side):
        add_key(root)
        kept = load_ring(root).key
        killed = self.kill(root, "remove_key(ROOT, 1)", call, number, side)
        assert killed == -signal.SIGKILL
        assert load_ring(root).key == kept
        with suppress(ConflictError):  # when it has happened to the end
            remove_key(root, 1)
        assert (load_ring(root).keys, key_path(root, 1).exists()) == ({2: kept}, False)
