"""`fedpact governance notify`: one pass, and in words what keeps it from being made."""

import pytest

from fedcore.keyfiles import write_secret


@pytest.fixture
def office(run, tmp_path):
    directory = tmp_path / "office"
    assert run("init", "-d", directory)[0] == 0
    return directory


def notify(run, office):
    return run("notify", "-s", office / "governance.toml")


def name_file(office, text):
    path = office / "notices.toml"
    path.write_text(text)
    settings = office / "governance.toml"
    settings.write_text(f'notices = "{path}"\n' + settings.read_text())


def test_a_pass_says_what_it_did(run, office):
    write_secret(office / "hook.key", b"s" * 32)
    hook = f'name = "desk"\nurl = "http://127.0.0.1:9/"\nsecret_file = "{office / "hook.key"}"\n'
    name_file(office, f"[[webhooks]]\n{hook}")
    assert notify(run, office) == (0, "0 new, 0 sent\n")


def test_without_anybody_to_tell_there_is_no_pass(run, office):
    exit_code, output = notify(run, office)
    assert (exit_code, "notice.not_configured" in output) == (1, True), output
    name_file(office, "interval_s = 5\n")
    exit_code, output = notify(run, office)
    assert (exit_code, "notice.not_configured" in output) == (1, True), output


def test_serving_does_not_begin_with_a_file_of_notices_that_is_wrong(run, office):
    name_file(office, 'colour = "red"\n')
    exit_code, output = run("serve", "-s", office / "governance.toml")
    assert (exit_code, "settings.invalid" in output) == (1, True), output
