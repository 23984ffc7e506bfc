import ipaddress
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from fedcore.errors import FedError
from fedcore.signing import SigningKey
from fedcore.tls import (
    AUTHORITY_LIFETIME,
    CERTIFICATE_LIFETIME,
    Credential,
    create_authority,
    issue_certificate,
    load_certificate,
    verify_server_credential,
)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority():
    return create_authority("fedpact server", NOW)


@pytest.fixture
def files(tmp_path, authority):
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    issue_certificate(authority, ["localhost"], NOW).save(certificate, key)
    return certificate, key


def codes(call, *arguments):
    with pytest.raises(FedError) as caught:
        call(*arguments)
    return caught.value.code


def shake_hands(tmp_path, authority, issued, host):
    """Return what a client that trusts `authority` meets on connecting by the name `host`."""
    issued.save(tmp_path / "s.crt", tmp_path / "s.key")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(tmp_path / "s.crt", tmp_path / "s.key")
    client_side = ssl.create_default_context(cadata=authority.certificate.decode())
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve():
        try:
            server_side.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_side.wrap_socket(ours, server_hostname=host) as line:
            return line.version()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", "federation.example", "127.0.0.1", "::1"])
def test_a_client_that_has_the_authority_trusts_every_host_that_was_named(tmp_path, host):
    authority = create_authority("fedpact server", datetime.now(UTC))
    names = ["federation.example", "localhost", "127.0.0.1", "::1"]
    issued = issue_certificate(authority, names, datetime.now(UTC))
    assert shake_hands(tmp_path, authority, issued, host) == "TLSv1.3"


def test_a_client_trusts_no_other_host_and_no_other_authority(tmp_path):
    now = datetime.now(UTC)
    authority, other = create_authority("fedpact server", now), create_authority("other", now)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    issued = issue_certificate(authority, ["localhost"], now)
    assert "Hostname mismatch" in shake_hands(tmp_path / "1", authority, issued, "example.org")
    assert "issuer" in shake_hands(tmp_path / "2", other, issued, "localhost")


def test_an_authority_signs_certificates_only_and_no_other_authority(authority):
    found = load_certificate(authority.certificate)
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert found.not_valid_after_utc == NOW + AUTHORITY_LIFETIME


def test_a_certificate_serves_tls_and_cannot_sign(authority):
    found = load_certificate(issue_certificate(authority, ["a.example"], NOW).certificate)
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose.dotted_string for purpose in purposes] == ["1.3.6.1.5.5.7.3.1"]
    assert found.not_valid_after_utc == NOW + CERTIFICATE_LIFETIME


def test_an_address_is_named_as_an_address(authority):
    found = load_certificate(issue_certificate(authority, ["10.0.0.7", "a"], NOW).certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.7")]
    assert names.get_values_for_type(x509.DNSName) == ["a"]


def test_no_certificate_outlives_its_authority(authority):
    late = NOW + AUTHORITY_LIFETIME - timedelta(days=3)
    found = load_certificate(issue_certificate(authority, ["a.example"], late).certificate)
    assert found.not_valid_after_utc == NOW + AUTHORITY_LIFETIME


@pytest.mark.parametrize(
    "host", ["", "a b", "-a.example", "https://a.example", "a..b", "a.example:9"]
)
def test_what_is_no_host_is_refused(authority, host):
    assert codes(issue_certificate, authority, [host], NOW) == "tls.host_invalid"


def test_a_certificate_without_a_host_is_refused(authority):
    assert codes(issue_certificate, authority, [], NOW) == "tls.host_invalid"


def test_an_authority_without_its_key_is_refused(authority, tmp_path):
    SigningKey.generate().save(tmp_path / "other.pem")
    for key in (b"", (tmp_path / "other.pem").read_bytes()):
        broken = Credential(authority.certificate, key)
        assert codes(issue_certificate, broken, ["a"], NOW) == "key.unreadable"


def test_a_sound_pair_is_verified_while_it_is_valid(files):
    verify_server_credential(files[0], files[1], NOW)
    verify_server_credential(files[0], files[1], NOW + CERTIFICATE_LIFETIME)
    late, early = NOW + CERTIFICATE_LIFETIME + timedelta(seconds=1), NOW - timedelta(minutes=6)
    assert codes(verify_server_credential, *files, late) == "certificate.expired"
    assert codes(verify_server_credential, *files, early) == "certificate.not_yet_valid"


def test_a_key_that_others_can_read_is_refused_until_they_cannot(files):
    certificate, key = files
    key.chmod(0o640)
    assert codes(verify_server_credential, certificate, key, NOW) == "key.permissions"
    key.chmod(0o600)
    verify_server_credential(certificate, key, NOW)


def test_another_certificates_key_is_refused(files, tmp_path, authority):
    issue_certificate(authority, ["b"], NOW).save(tmp_path / "b.crt", tmp_path / "b.key")
    refused = codes(verify_server_credential, files[0], tmp_path / "b.key", NOW)
    assert refused == "certificate.other_key"


def test_what_is_no_certificate_and_no_key_is_named(files, tmp_path):
    certificate, key = files
    torn = tmp_path / "torn.crt"
    torn.write_bytes(certificate.read_bytes()[:100])
    assert codes(verify_server_credential, torn, key, NOW) == "certificate.unreadable"
    assert codes(verify_server_credential, tmp_path / "no", key, NOW) == "certificate.unreadable"
    key.write_bytes(b"no key")
    assert codes(verify_server_credential, certificate, key, NOW) == "key.unreadable"
    key.unlink()
    assert codes(verify_server_credential, certificate, key, NOW) == "key.unreadable"


def test_a_saved_key_is_never_overwritten(files, authority):
    with pytest.raises(FileExistsError):
        issue_certificate(authority, ["localhost"], NOW).save(*files)
    verify_server_credential(files[0], files[1], NOW)
