"""TLS certificates of a small authority of one's own, and the checks of the files that hold them.

A party that has certificates of its organisation uses those; this is for the others. The authority
signs nothing but the certificates of its own service, and its key may be kept offline afterwards.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcore.atomic import write_atomically
from fedcore.errors import ExpiredError, InvalidRecordError
from fedcore.keyfiles import read_secret, write_secret

AUTHORITY_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=825)
_SKEW = timedelta(minutes=5)
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True)
class Credential:
    """A certificate and its private key, both PEM; the key is EC P-256 in PKCS#8."""

    certificate: bytes
    key: bytes

    def save(self, certificate: Path, key: Path) -> None:
        """Write both files, the key last and readable by the owner only.

        Guarantees: a key that is there has its certificate; one without its key is what an
            interrupted call has left, and is replaced.
        Raises: FileExistsError: a key is never overwritten.
        """
        if key.exists():
            raise FileExistsError(key)
        write_atomically(certificate, self.certificate)
        write_secret(key, self.key)


def create_authority(name: str, now: datetime) -> Credential:
    """Return a fresh authority that may sign certificates of services and no other authority.

    Guarantees: valid for ten years from five minutes before `now`.
    Args: `name` is what people see as the issuer, such as `fedpact server`.
    Reference: RFC 5280 §4.2.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(name + " authority")
    usage = _key_usage(signs_certificates=True)
    certificate = (
        _builder(subject, subject, key.public_key(), (now, AUTHORITY_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return _credential(certificate, key)


def issue_certificate(authority: Credential, hosts: Sequence[str], now: datetime) -> Credential:
    """Return a fresh certificate of a TLS server that answers under all of these hosts.

    Guarantees: valid for 825 days from five minutes before `now`, never beyond its authority; each
        host is a subject alternative name, an IP address as such.
    Raises: InvalidRecordError `tls.host_invalid`, `key.unreadable`, `certificate.unreadable`.
    Reference: RFC 5280 §4.2; RFC 6125 §6.4.
    """
    issuer, issuer_key = load_certificate(authority.certificate), _authority_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_alternative_name(host) for host in hosts]
    if not names:
        raise InvalidRecordError("tls.host_invalid", "name at least one host")
    lifetime = min(CERTIFICATE_LIFETIME, issuer.not_valid_after_utc - now)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _builder(_named(hosts[0]), issuer.subject, key.public_key(), (now, lifetime))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(identifier, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _credential(certificate, key)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is for, in its order."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return tuple(str(name.value) for name in extension.value)


def load_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM text. Raises: InvalidRecordError."""
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except (ValueError, IndexError) as error:
        raise InvalidRecordError(
            "certificate.unreadable", "this is no PEM certificate", str(error)
        ) from error


def verify_server_credential(certificate: Path, key: Path, now: datetime) -> None:
    """Verify that a TLS server can be started on these two files at this time.

    Guarantees: the certificate is valid now, and the key is its own and is readable by its owner
        only.
    Raises: ExpiredError `certificate.expired`, `certificate.not_yet_valid`; InvalidRecordError
        `certificate.unreadable`, `certificate.other_key`, `key.unreadable`, `key.permissions`.
    """
    private = _load_key(key)
    found = _read_certificate(certificate)
    verify_validity(found, certificate.name, now)
    if _public_bytes(found.public_key()) != _public_bytes(private.public_key()):
        raise InvalidRecordError(
            "certificate.other_key", f"{key.name} is not the key of {certificate.name}"
        )


def verify_validity(certificate: x509.Certificate, name: str, now: datetime) -> None:
    """Verify that a certificate is valid at this time.

    Raises: ExpiredError `certificate.expired`, `certificate.not_yet_valid`.
    """
    end, start = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now > end:
        raise ExpiredError(
            "certificate.expired", f"{name} expired on {end:%Y-%m-%d %H:%M} UTC: issue a new one"
        )
    if now < start:
        raise ExpiredError(
            "certificate.not_yet_valid",
            f"{name} is valid from {start:%Y-%m-%d %H:%M} UTC only: check this machine's clock",
        )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return load_certificate(path.read_bytes())
    except (OSError, InvalidRecordError) as error:
        raise InvalidRecordError(
            "certificate.unreadable", f"{path} is no readable PEM certificate", str(error)
        ) from error


def _load_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidRecordError(
            "key.unreadable", f"{path} is no private key without a password (PEM)", str(error)
        ) from error


def _authority_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidRecordError(
            "key.unreadable", "the authority's key is no private key", str(error)
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidRecordError("key.unreadable", "the authority's key is no EC key")
    return key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    validity: tuple[datetime, timedelta],
) -> x509.CertificateBuilder:
    now, lifetime = validity
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _credential(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credential:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Credential(certificate=certificate.public_bytes(Encoding.PEM), key=private)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise InvalidRecordError(
            "tls.host_invalid", f"{host[:80]!r} is no host name and no IP address"
        )
    return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _public_bytes(key: CertificatePublicKeyTypes | PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
