import stat

import pytest

from fedcore.errors import InvalidRecordError
from fedserver.engine.secret import create_secret, executor_secret, load_secret


def refused(work_dir):
    with pytest.raises(InvalidRecordError) as caught:
        load_secret(work_dir)
    return caught.value.code


def test_the_secret_is_made_once_for_its_owner_only(tmp_path):
    create_secret(tmp_path)
    first = load_secret(tmp_path)
    create_secret(tmp_path)
    assert load_secret(tmp_path) == first
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(first)) == 32


def test_two_servers_have_two_secrets(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        create_secret(tmp_path / name)
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


def test_a_secret_that_others_can_read_is_refused_until_they_cannot(tmp_path):
    create_secret(tmp_path)
    path = tmp_path / "control-secret"
    path.chmod(0o644)
    assert refused(tmp_path) == "key.permissions"
    with pytest.raises(InvalidRecordError):
        create_secret(tmp_path)
    path.chmod(0o600)
    assert load_secret(tmp_path)


def test_a_missing_or_damaged_secret_is_named(tmp_path):
    assert refused(tmp_path) == "key.unreadable"
    create_secret(tmp_path)
    (tmp_path / "control-secret").write_text("short")
    assert refused(tmp_path) == "key.unreadable"


def test_the_right_to_take_tasks_is_another_secret(tmp_path):
    create_secret(tmp_path)
    secret = load_secret(tmp_path)
    assert executor_secret(secret) == executor_secret(secret)
    assert executor_secret(secret).hex() != secret
