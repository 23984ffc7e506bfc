"""What `fedpact server init` makes: authority, certificate, keys, secret and settings."""

import json
from collections.abc import Mapping, Sequence
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
from fedserver.engine.secret import create_secret
from fedserver.settings import ServerSettings

SETTINGS_FILE = "server.toml"
OWN_HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Wishes:
    """What the operator says about a new server."""

    hosts: tuple[str, ...]
    governance_url: str
    governance_key: str
    governance_ca: Path | None
    realm: Realm
    model_name: str
    ports: Mapping[str, int]


def provision(directory: Path, wishes: Wishes, now: datetime) -> str:
    """Make a server in a directory and return its public key, 64 hex digits.

    Guarantees: keys are readable by the owner only; what an interrupted call has made is kept, and
        the settings are written last.
    Raises: ConflictError `settings.exist`; InvalidRecordError `settings.invalid`,
        `tls.host_invalid`, `certificate.unreadable`, `key.unreadable`, `key.permissions`.
    """
    directory = directory.resolve()
    path = directory / SETTINGS_FILE
    if path.exists():
        raise ConflictError("settings.exist", f"{path} exists already: start it, or choose another")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy_authority(wishes.governance_ca, directory / "governance-ca.pem")
    _own_certificate(directory, wishes.hosts, now)
    key = _own_key(directory / "server.pem")
    work_dir = directory / "work"
    work_dir.mkdir(mode=0o700, exist_ok=True)
    create_secret(work_dir)
    text = _toml_of(_settings(directory, wishes))
    draft = directory / f"{SETTINGS_FILE}.draft"
    write_atomically(draft, text.encode())
    ServerSettings.load(draft)
    draft.rename(path)
    return key.public


def renew_certificate(settings: ServerSettings, hosts: Sequence[str], now: datetime) -> Path:
    """Replace the server's certificate by a fresh one of the authority that `provision` has made.

    Guarantees: an interrupted call leaves the old pair, the new one, or two halves that no server
        starts with (`certificate.other_key`); the same call repairs that.
    Args: `hosts` are the names and addresses to be reached by; none means the ones of before.
    Returns: the certificate's file.
    Raises: ConflictError `certificate.foreign`; FedError of the authority's files.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None or not (certificate.parent / "ca.key").exists():
        raise ConflictError(
            "certificate.foreign",
            "no authority of this server's own lies beside its certificate: have the authority "
            "that issued it issue another",
        )
    names = hosts or hosts_of(load_certificate(certificate.read_bytes()))
    issued = _issue(certificate.parent, names, now)
    fresh = key.with_name(key.name + ".fresh")
    fresh.unlink(missing_ok=True)
    write_secret(fresh, issued.key)
    write_atomically(certificate, issued.certificate)
    fresh.replace(key)
    verify_server_credential(certificate, key, now)
    return certificate


def _settings(directory: Path, wishes: Wishes) -> dict[str, object]:
    authority = directory / "governance-ca.pem" if wishes.governance_ca else None
    values: dict[str, object] = {
        "realm": wishes.realm.value,
        "work_dir": str(directory / "work"),
        "governance_url": wishes.governance_url,
        "governance_key": wishes.governance_key,
        "governance_ca": str(authority) if authority else None,
        "api_key_file": str(directory / "api.key"),
        "signing_key": str(directory / "server.pem"),
        "model_name": wishes.model_name,
        "tls_certificate": str(directory / "tls.crt"),
        "tls_key": str(directory / "tls.key"),
        "tls_ca": str(directory / "ca.pem"),
        **wishes.ports,
    }
    return {name: value for name, value in values.items() if value is not None}


def _own_certificate(directory: Path, hosts: Sequence[str], now: datetime) -> None:
    authority_key = directory / "ca.key"
    if not authority_key.exists():
        create_authority("fedpact server", now).save(directory / "ca.pem", authority_key)
    if not (directory / "tls.key").exists():
        issued = _issue(directory, hosts, now)
        issued.save(directory / "tls.crt", directory / "tls.key")


def _issue(directory: Path, hosts: Sequence[str], now: datetime) -> Credential:
    """Return a certificate for these hosts and this machine, of the authority in a directory."""
    authority = Credential((directory / "ca.pem").read_bytes(), read_secret(directory / "ca.key"))
    return issue_certificate(authority, tuple(dict.fromkeys((*hosts, *OWN_HOSTS))), now)


def _own_key(path: Path) -> SigningKey:
    if not path.exists():
        SigningKey.generate().save(path)
    return SigningKey.load(path)


def _copy_authority(source: Path | None, target: Path) -> None:
    if source is None:
        return
    try:
        data = source.read_bytes()
        load_certificate(data)
    except (OSError, InvalidRecordError) as error:
        raise InvalidRecordError(
            "certificate.unreadable", f"{source} is no readable PEM certificate", str(error)
        ) from error
    write_atomically(target, data)


def _toml_of(values: Mapping[str, object]) -> str:
    """Return the values as TOML; JSON's strings and numbers are TOML."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
