"""What `fedpact governance init` makes: signing key, TLS certificate, database, code, settings."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedcore.atomic import write_atomically
from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.keyfiles import read_secret, write_secret
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedcore.tls import (
    Credential,
    create_authority,
    hosts_of,
    issue_certificate,
    load_certificate,
    verify_server_credential,
)
from governance.claims import issue_code
from governance.settings import GovernanceSettings
from registry.database import Database

SETTINGS_FILE = "governance.toml"
HERE = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Wishes:
    """What the operator says about a new service; None leaves it to `init`.

    Attributes:
        hosts: names and addresses that others reach it by.
        certificate, key: TLS files of the operator's own; both or none.
    """

    hosts: tuple[str, ...]
    port: int
    realm: Realm
    accepted_versions: tuple[str, ...]
    database_url: str | None
    certificate: Path | None
    key: Path | None


@dataclass(frozen=True)
class Founded:
    """A service that can be served: its settings' file, its public key, and the one-time code."""

    settings: Path
    public_key: str
    code: str


def found(directory: Path, wishes: Wishes, now: datetime) -> Founded:
    """Make a service in a directory.

    Guarantees: keys are readable by the owner only; what an interrupted call has made is kept, and
        the settings are written last, so that the same call can be repeated until they are there.
    Raises: ConflictError `settings.exist`, `account.exists`; FedError of a certificate.
    """
    directory = directory.resolve()
    path = directory / SETTINGS_FILE
    if path.exists():
        raise ConflictError(
            "settings.exist",
            f"{path} exists already: serve it, or choose another directory; `fedpact governance "
            "code` makes a fresh one-time code while there is no account",
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = _settings(directory, wishes, now)
    key = _own_key(settings.signing_key)
    database = Database(settings.database_url)
    try:
        database.migrate()
        code = issue_code(database, now)
    finally:
        database.close()
    write_atomically(path, toml_of(settings).encode())
    return Founded(path, key.public, code)


def renew_certificate(settings: GovernanceSettings, hosts: tuple[str, ...], now: datetime) -> Path:
    """Replace the service's certificate by a fresh one of the authority that `found` has made.

    Guarantees: an interrupted call leaves the old pair, the new one, or two halves that nothing is
        served with (`certificate.other_key`); the same call repairs that.
    Args: `hosts` are the names and addresses to be reached by; none means the ones of before.
    Returns: the certificate's file.
    Raises: ConflictError `certificate.foreign`; FedError of the authority's files.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None or not (certificate.parent / "tls-ca.key").exists():
        raise ConflictError(
            "certificate.foreign",
            "no authority of this service's own lies beside its certificate: have the authority "
            "that issued it issue another",
        )
    names = hosts or hosts_of(load_certificate(certificate.read_bytes()))
    issued = issue_certificate(_authority(certificate.parent, now), names, now)
    fresh = key.with_name(key.name + ".fresh")
    fresh.unlink(missing_ok=True)
    write_secret(fresh, issued.key)
    write_atomically(certificate, issued.certificate)
    fresh.replace(key)
    verify_server_credential(certificate, key, now)
    return certificate


def toml_of(settings: GovernanceSettings) -> str:
    """Return the settings that differ from their defaults, and where and for whom it serves."""
    everything = settings.model_dump(mode="json")
    kept = settings.model_dump(exclude_defaults=True).keys() | {"realm", "host", "port"}
    values = {name: value for name, value in everything.items() if name in kept}
    # JSON's strings, numbers and arrays of them are TOML.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _settings(directory: Path, wishes: Wishes, now: datetime) -> GovernanceSettings:
    certificate, key = _credential(directory, wishes, now)
    return GovernanceSettings(
        database_url=wishes.database_url or f"sqlite:///{directory / 'governance.db'}",
        signing_key=directory / "governance.pem",
        realm=wishes.realm,
        accepted_versions=wishes.accepted_versions,
        host=HERE[-1] if set(wishes.hosts) <= set(HERE) else "0.0.0.0",  # noqa: S104 - others come
        port=wishes.port,
        tls_certificate=certificate,
        tls_key=key,
    )


def _credential(directory: Path, wishes: Wishes, now: datetime) -> tuple[Path, Path]:
    """Return certificate and key: the operator's own, or fresh ones of an authority made here."""
    if wishes.certificate is None and wishes.key is None:
        certificate, key = directory / "tls.crt", directory / "tls.key"
        if not key.exists():
            hosts = tuple(dict.fromkeys((*wishes.hosts, *HERE)))
            issue_certificate(_authority(directory, now), hosts, now).save(certificate, key)
    elif wishes.certificate is None or wishes.key is None:
        raise InvalidRecordError(
            "settings.invalid", "--tls-certificate and --tls-key go together: give both or none"
        )
    else:
        certificate, key = wishes.certificate.resolve(), wishes.key.resolve()
    verify_server_credential(certificate, key, now)
    return certificate, key


def _authority(directory: Path, now: datetime) -> Credential:
    certificate, key = directory / "tls-ca.pem", directory / "tls-ca.key"
    if not key.exists():
        create_authority("fedpact governance", now).save(certificate, key)
    return Credential(certificate.read_bytes(), read_secret(key))


def _own_key(path: Path) -> SigningKey:
    if not path.exists():
        SigningKey.generate().save(path)
    return SigningKey.load(path)
