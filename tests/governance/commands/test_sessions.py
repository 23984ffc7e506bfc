"""Signing in from a distance, over TLS: the session's file stands where an API key's file does."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

PASSWORD = "four plain words in a row"


@pytest.fixture
def dora(run, service, tmp_path):
    """The API key's file of an account with a password."""
    admin = ("--api-key-file", service.home / "admin.key", *service.line)
    key = tmp_path / "dora.key"
    name = f"dora{tmp_path.name[-1]}"
    run("account", name, "auditor", "--out", key, *admin)
    typed = f"\n{PASSWORD}\n{PASSWORD}\n"
    exit_code, output = run("password", "--api-key-file", key, *service.line, typed=typed)
    assert (exit_code, PASSWORD in output) == (0, False), output
    yield name, key
    run("revoke-account", name, "auditor", *admin)


@pytest.fixture
def session(run, service, dora, tmp_path):
    path = tmp_path / "session.json"
    sign_in = ("sign-in", dora[0], "auditor", "--session-file", path, *service.line)
    exit_code, output = run(*sign_in, typed=f"{PASSWORD}\n")
    assert exit_code == 0, output
    assert PASSWORD not in output
    return path


def units(run, service, key):
    return run("units", "--api-key-file", key, *service.line)


def make_old(path):
    """Let the access token of a file have ended, as far as the file says."""
    content = json.loads(path.read_bytes())
    content["access_ends_at"] = datetime(2025, 1, 1, tzinfo=UTC).isoformat()
    path.write_text(json.dumps(content))
    return content


def test_a_session_file_is_for_its_owner_and_opens_the_service(run, service, session):
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    assert units(run, service, session)[0] == 0


def test_an_access_token_that_has_ended_is_followed_by_the_next(run, service, session):
    before = make_old(session)
    assert units(run, service, session)[0] == 0
    after = json.loads(session.read_bytes())
    assert after["refresh_token"] != before["refresh_token"]
    assert stat.S_IMODE(session.stat().st_mode) == 0o600


def test_commands_at_the_same_time_refresh_once(run, service, session):
    make_old(session)
    from governance.commands.options import open_line

    def ask(_):
        ca = service.home / "tls-ca.pem"
        with open_line(service.url, ca, session) as gateway:
            return gateway.list_units()

    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(ask, range(6)))) == 6


def test_after_sign_out_the_file_is_gone_and_a_copy_opens_nothing(run, service, session, tmp_path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(session.read_bytes())
    copy.chmod(0o600)
    assert units(run, service, copy)[0] == 0
    assert run("sign-out", "--session-file", session, *service.line)[0] == 0
    assert not session.exists()
    exit_code, output = units(run, service, copy)
    assert (exit_code, "session.ended" in output) == (1, True)


def test_sign_out_everywhere_ends_the_other_session_as_well(run, service, dora, session, tmp_path):
    other = tmp_path / "other.json"
    sign_in = ("sign-in", dora[0], "auditor", "--session-file", other, *service.line)
    assert run(*sign_in, typed=f"{PASSWORD}\n")[0] == 0
    assert run("sign-out", "--everywhere", "--session-file", session, *service.line)[0] == 0
    exit_code, output = units(run, service, other)
    assert (exit_code, "session.ended" in output) == (1, True)
    assert units(run, service, dora[1])[0] == 0


def test_a_wrong_password_leaves_no_file(run, service, dora, tmp_path):
    path = tmp_path / "none.json"
    sign_in = ("sign-in", dora[0], "auditor", "--session-file", path, *service.line)
    exit_code, output = run(*sign_in, typed="not this one, surely\n")
    assert (exit_code, "auth.invalid" in output, path.exists()) == (1, True, False)


def test_a_file_is_never_overwritten_by_a_sign_in(run, service, dora, session):
    kept = session.read_bytes()
    sign_in = ("sign-in", dora[0], "auditor", "--session-file", session, *service.line)
    exit_code, output = run(*sign_in, typed=f"{PASSWORD}\n")
    assert (exit_code, "file.exists" in output) == (1, True)
    assert session.read_bytes() == kept


def test_a_session_file_that_others_may_read_or_that_is_torn_is_not_used(run, service, session):
    session.chmod(0o644)
    exit_code, output = units(run, service, session)
    assert (exit_code, "key.permissions" in output) == (1, True)
    session.chmod(0o600)
    assert units(run, service, session)[0] == 0
    session.write_text(session.read_text()[:-10])
    exit_code, output = units(run, service, session)
    assert (exit_code, "session.unreadable" in output) == (1, True)


def test_an_operator_of_a_unit_sees_their_unit_only(run, service, tmp_path):
    admin = ("--api-key-file", service.home / "admin.key", *service.line)
    key = tmp_path / "nora.key"
    account = ("account", f"nora{tmp_path.name[-1]}", "unit_operator", "--out", key, *admin)
    exit_code, output = run(*account)
    assert (exit_code, "account.unit_missing" in output) == (1, True)
    assert run(*account, "--unit", "north")[0] == 0
    assert units(run, service, key)[0] == 0
