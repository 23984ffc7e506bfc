"""Accounts from a distance, over TLS."""

import stat

import pytest

from fedcore.signing import SigningKey
from fedcore.tls import create_authority
from governance.app import utc_now


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def admin(service):
    return ("--api-key-file", service.home / "admin.key", *service.line)


def units(run, service, key):
    return run("units", "--api-key-file", key, *service.line)


UNREADABLE_URLS = (
    "https://[::1",
    "https://a b:xx",
    "https://a b",
    "https://host:99999",
    "https://host:port",
    "https://",
    "https://a..b",
    "https://host\n",
)


class TestClaim:
    def test_the_api_key_is_for_its_owner_only_and_opens_the_service(self, run, service):
        assert mode(service.home / "admin.key") == 0o600
        assert units(run, service, service.home / "admin.key")[0] == 0

    def test_repeated_it_finishes_what_was_interrupted(self, run, service):
        again = ("--code", service.code, "--name", "ada", "--out", service.home / "admin.key")
        assert run("claim", *again, *service.line)[0] == 0
        assert units(run, service, service.home / "admin.key")[0] == 0

    def test_a_code_used_twice_makes_nobody_else_administrator(self, run, service, tmp_path):
        second = ("claim", "--code", service.code, "--name", "eve", "--out", tmp_path / "eve.key")
        exit_code, output = run(*second, *service.line)
        assert (exit_code, "code.used" in output) == (1, True)
        assert not (tmp_path / "eve.key").exists()

    def test_the_code_is_asked_for_so_that_it_stays_out_of_the_shells_history(
        self, run, service, tmp_path
    ):
        exit_code, output = run(
            "claim", "--out", tmp_path / "eve.key", *service.line, typed="wrong\n"
        )
        assert (exit_code, "code.wrong" in output) == (1, True)

    def test_a_key_whose_claim_may_have_arrived_is_kept(self, run, service, tmp_path):
        nobody = ("--url", "https://127.0.0.1:9", "--ca", service.home / "tls-ca.pem")
        claim = ("claim", "--code", "x", "--out", tmp_path / "eve.key")
        exit_code, output = run(*claim, *nobody)
        assert (exit_code, "governance.unreachable" in output) == (1, True)
        kept = (tmp_path / "eve.key").read_bytes()
        run(*claim, *nobody)
        assert (tmp_path / "eve.key").read_bytes() == kept

    def test_another_file_is_not_taken_for_a_begun_claim(self, run, service, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("precious")
        path.chmod(0o600)
        exit_code, output = run("claim", "--code", "x", "--out", path, *service.line)
        assert (exit_code, "file.exists" in output) == (1, True)
        assert path.read_text() == "precious"


class TestAccount:
    def test_an_account_is_made_revoked_and_made_again(self, run, service, admin, tmp_path):
        first, second = tmp_path / "1.key", tmp_path / "2.key"
        assert run("account", "dora", "auditor", "--out", first, *admin)[0] == 0
        assert mode(first) == 0o600
        assert units(run, service, first)[0] == 0
        assert run("revoke-account", "dora", "auditor", *admin)[0] == 0
        exit_code, output = units(run, service, first)
        assert (exit_code, "auth.revoked" in output) == (1, True)
        assert run("account", "dora", "auditor", "--out", second, *admin)[0] == 0
        assert units(run, service, second)[0] == 0

    def test_who_signs_names_a_key(self, run, admin, tmp_path):
        account = ("account", "otto", "operator", "--out", tmp_path / "otto.key")
        exit_code, output = run(*account, *admin)
        assert (exit_code, "account.key_missing" in output) == (1, True)
        key = SigningKey.generate().public
        assert run(*account, "--public-key", key, *admin)[0] == 0

    def test_a_file_is_never_overwritten_and_nobody_is_made_for_it(self, run, admin, tmp_path):
        (tmp_path / "una.key").write_text("precious")
        account = ("account", "una", "auditor", "--out")
        exit_code, output = run(*account, tmp_path / "una.key", *admin)
        assert (exit_code, "file.exists" in output) == (1, True)
        assert run(*account, tmp_path / "other.key", *admin)[0] == 0

    def test_an_unknown_role_is_wrong_usage(self, run, admin, tmp_path):
        exit_code, _ = run("account", "una", "king", "--out", tmp_path / "una.key", *admin)
        assert exit_code == 2


class TestTheLine:
    """What is wrong with the line is said in a sentence with a way out."""

    def test_another_authority(self, run, service, tmp_path):
        (tmp_path / "ca.pem").write_bytes(create_authority("other", utc_now()).certificate)
        key = ("--api-key-file", service.home / "admin.key")
        for other in (("--ca", tmp_path / "ca.pem"), ()):
            exit_code, output = run("units", "--url", service.url, *other, *key)
            assert (exit_code, "tls.untrusted" in output) == (1, True)

    @pytest.mark.parametrize("url", ["http://governance.example", "ftp://127.0.0.1", "127.0.0.1"])
    def test_secrets_do_not_go_over_a_network_in_the_clear(self, run, service, url):
        key = ("--api-key-file", service.home / "admin.key")
        exit_code, output = run("units", "--url", url, *key)
        assert (exit_code, "url.insecure" in output) == (1, True)

    @pytest.mark.parametrize("url", UNREADABLE_URLS)
    def test_an_address_that_cannot_be_read_is_named(self, run, service, url):
        key = ("--api-key-file", service.home / "admin.key")
        exit_code, output = run("units", "--url", url, *key)
        assert (exit_code, "error: --url: " in output, "(url.invalid)" in output) == (1, True, True)
        assert "write it as https://host:8330" in output

    def test_a_file_that_is_no_authority(self, run, service):
        key = ("--api-key-file", service.home / "admin.key")
        exit_code, output = run("units", "--url", service.url, "--ca", service.settings, *key)
        assert (exit_code, "tls.ca_unreadable" in output) == (1, True)

    def test_a_file_without_an_api_key(self, run, tmp_path):
        empty = tmp_path / "empty.key"
        empty.touch(0o600)
        line = ("--url", "https://127.0.0.1:9", "--api-key-file", empty)
        exit_code, output = run("units", *line)
        assert (exit_code, "(key.unreadable)" in output) == (1, True)
        assert f"{empty} is empty: put the account's API key into it" in " ".join(output.split())

    def test_an_api_key_that_others_may_read(self, run, service, tmp_path):
        copy = tmp_path / "admin.key"
        copy.write_bytes((service.home / "admin.key").read_bytes())
        copy.chmod(0o644)
        exit_code, output = units(run, service, copy)
        assert (exit_code, "key.permissions" in output) == (1, True)
        copy.chmod(0o600)
        assert units(run, service, copy)[0] == 0
