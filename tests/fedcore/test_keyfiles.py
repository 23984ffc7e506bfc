"""Secret files: whole or not there, for their owner only."""

import os
import stat
import subprocess
import sys

import pytest

from fedcore.errors import InvalidRecordError
from fedcore.keyfiles import read_api_key, read_secret, write_secret


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secret.key"


def test_a_secret_comes_back_and_only_its_owner_can_read_it(path):
    write_secret(path, b"secret")
    assert read_secret(path) == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_secret_is_never_overwritten(path):
    write_secret(path, b"precious")
    with pytest.raises(FileExistsError):
        write_secret(path, b"other")
    assert read_secret(path) == b"precious"
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_secret_that_others_could_use_is_refused_until_it_is_closed(path, mode):
    write_secret(path, b"secret")
    path.chmod(mode)
    with pytest.raises(InvalidRecordError, match="chmod 600") as caught:
        read_secret(path)
    assert caught.value.code == "key.permissions"
    path.chmod(0o600)
    assert read_secret(path) == b"secret"


def test_a_missing_secret_is_named(path):
    with pytest.raises(InvalidRecordError, match=r"secret\.key") as caught:
        read_secret(path)
    assert caught.value.code == "key.unreadable"


def test_the_users_mask_does_not_open_a_secret(path):
    before = os.umask(0)
    try:
        write_secret(path, b"secret")
    finally:
        os.umask(before)
    assert read_secret(path) == b"secret"


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_crash_leaves_no_half_secret_and_the_next_try_succeeds(path, call):
    script = f"""
import os, signal
from pathlib import Path
from fedcore.keyfiles import write_secret
os.{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_secret(Path({str(path)!r}), b"half")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert not path.exists()
    write_secret(path, b"whole")
    assert read_secret(path) == b"whole"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is empty"), (b" \n", "is empty"), ("schl\u00fcssel".encode(), "holds no API key")],
)
def test_a_file_without_an_api_key_is_named_before_anybody_is_asked(path, content, told):
    write_secret(path, content)
    with pytest.raises(InvalidRecordError, match=f"{path} {told}: put the account") as caught:
        read_api_key(path)
    assert caught.value.code == "key.unreadable"


def test_an_api_key_comes_without_the_white_space_around_it(path):
    write_secret(path, b" a-key\n")
    assert read_api_key(path) == "a-key"
