import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from fedcore.errors import ConflictError, FedError
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedcore.tls import CERTIFICATE_LIFETIME, create_authority, hosts_of, load_certificate
from fedserver.engine.preparation import verify_ready
from fedserver.engine.provision import (
    OWN_HOSTS,
    SETTINGS_FILE,
    Wishes,
    provision,
    renew_certificate,
)
from fedserver.settings import ServerSettings

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
WISHES = Wishes(
    hosts=("federation.example", "10.0.0.7"),
    governance_url="https://governance.example:8330",
    governance_key="1" * 64,
    governance_ca=None,
    realm=Realm.PRODUCTION,
    model_name="churn",
    ports={"port": 19092},
)


def refused(call, *arguments):
    with pytest.raises(FedError) as caught:
        call(*arguments)
    return caught.value.code


def test_what_init_makes_is_ready_to_start(tmp_path):
    public = provision(tmp_path / "server", WISHES, NOW)
    settings = ServerSettings.load(tmp_path / "server" / SETTINGS_FILE)
    assert SigningKey.load(settings.signing_key).public == public
    assert (settings.port, settings.model_name, settings.realm) == (19092, "churn", "production")
    assert settings.governance_ca is None
    verify_ready(settings, NOW)


def test_a_second_init_is_refused_and_an_interrupted_one_completed(tmp_path):
    public = provision(tmp_path, WISHES, NOW)
    assert refused(provision, tmp_path, WISHES, NOW) == "settings.exist"
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    (tmp_path / SETTINGS_FILE).unlink()
    assert provision(tmp_path, WISHES, NOW) == public
    again = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert again == kept


def test_secrets_are_for_the_owner_only(tmp_path):
    provision(tmp_path / "server", WISHES, NOW)
    secret = {"ca.key", "tls.key", "server.pem", "control-secret"}
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "server").rglob("*")
        if path.name in secret
    }
    assert modes == dict.fromkeys(secret, 0o600)
    assert stat.S_IMODE((tmp_path / "server").stat().st_mode) == 0o700


def test_the_certificate_names_the_hosts_and_this_machine(tmp_path):
    provision(tmp_path, WISHES, NOW)
    found = load_certificate((tmp_path / "tls.crt").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["federation.example", "localhost"]
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.0.0.7", "127.0.0.1"}


def test_governances_authority_is_copied(tmp_path):
    source = tmp_path / "theirs.pem"
    source.write_bytes(create_authority("governance", NOW).certificate)
    provision(tmp_path / "server", replace(WISHES, governance_ca=source), NOW)
    settings = ServerSettings.load(tmp_path / "server" / SETTINGS_FILE)
    assert settings.governance_ca == tmp_path / "server" / "governance-ca.pem"
    assert (tmp_path / "server" / "governance-ca.pem").read_bytes() == source.read_bytes()
    source.write_bytes(b"no certificate")
    broken = replace(WISHES, governance_ca=source)
    assert refused(provision, tmp_path / "other", broken, NOW) == "certificate.unreadable"


def test_settings_that_would_not_load_are_refused_before_they_are_written(tmp_path):
    wrong = replace(WISHES, governance_key="not a key")
    assert refused(provision, tmp_path, wrong, NOW) == "settings.invalid"
    assert not (tmp_path / SETTINGS_FILE).exists()
    provision(tmp_path, WISHES, NOW)


def test_a_host_that_is_none_is_refused(tmp_path):
    wrong = replace(WISHES, hosts=("https://federation.example",))
    assert refused(provision, tmp_path, wrong, NOW) == "tls.host_invalid"
    provision(tmp_path, WISHES, NOW)


def test_a_fresh_certificate_is_of_the_same_authority_and_hosts(tmp_path):
    provision(tmp_path, WISHES, NOW)
    settings = ServerSettings.load(tmp_path / SETTINGS_FILE)
    old = load_certificate((tmp_path / "tls.crt").read_bytes())
    authority = (tmp_path / "ca.pem").read_bytes()
    later = NOW + CERTIFICATE_LIFETIME + timedelta(days=1)
    assert refused(verify_ready, settings, later) == "certificate.expired"
    assert renew_certificate(settings, (), later) == tmp_path / "tls.crt"
    verify_ready(settings, later)
    fresh = load_certificate((tmp_path / "tls.crt").read_bytes())
    fresh.verify_directly_issued_by(load_certificate(authority))
    assert hosts_of(fresh) == hosts_of(old)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert stat.S_IMODE((tmp_path / "tls.key").stat().st_mode) == 0o600
    renew_certificate(settings, ("new.example",), later)
    found = load_certificate((tmp_path / "tls.crt").read_bytes())
    assert set(hosts_of(found)) == {"new.example", *OWN_HOSTS}


def test_two_halves_are_refused_and_repaired_by_the_same_call(tmp_path):
    provision(tmp_path, WISHES, NOW)
    settings = ServerSettings.load(tmp_path / SETTINGS_FILE)
    key = (tmp_path / "tls.key").read_bytes()
    renew_certificate(settings, (), NOW)
    (tmp_path / "tls.key").write_bytes(key)
    (tmp_path / "tls.key.fresh").write_bytes(b"left over")
    assert refused(verify_ready, settings, NOW) == "certificate.other_key"
    renew_certificate(settings, (), NOW)
    verify_ready(settings, NOW)


def test_a_certificate_of_another_authority_is_not_ours_to_renew(tmp_path):
    provision(tmp_path, WISHES, NOW)
    settings = ServerSettings.load(tmp_path / SETTINGS_FILE)
    (tmp_path / "ca.key").unlink()
    assert refused(renew_certificate, settings, (), NOW) == "certificate.foreign"


def test_settings_files_are_never_replaced(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("mine")
    with pytest.raises(ConflictError):
        provision(tmp_path, WISHES, NOW)
    assert (tmp_path / SETTINGS_FILE).read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / SETTINGS_FILE]
