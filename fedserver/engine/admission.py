"""Which nodes may connect: those of units that governance has certified, and no others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from fedcore.errors import ConflictError, InvalidRecordError, MismatchError
from fedcore.gateway import ServerGateway
from fedcore.permits import UnitCertificate
from fedserver.engine.control import UNREGISTERED, Control, Node
from fedserver.keys import fetch_keys
from fedserver.settings import ServerSettings


@dataclass(frozen=True)
class Changes:
    """What is to be done so that exactly the certified nodes may connect.

    `register` is unit and key (PEM).
    """

    register: tuple[tuple[str, bytes], ...]
    unregister: tuple[Node, ...]


def decide_changes(certified: Mapping[str, bytes], nodes: Iterable[Node]) -> Changes:
    """Return what is to be done.

    Args:
        certified: the transport key (PEM) of each unit that may connect.
        nodes: all that the SuperLink knows, those of the past included.
    """
    active = [node for node in nodes if node.status != UNREGISTERED]
    kept = {node.public_key: node.name for node in active}
    wanted = {key: unit for unit, key in certified.items()}
    return Changes(
        register=tuple(
            (unit, key) for unit, key in sorted(certified.items()) if kept.get(key) != unit
        ),
        unregister=tuple(node for node in active if wanted.get(node.public_key) != node.name),
    )


def admit(control: Control, certified: Mapping[str, bytes]) -> Sequence[str]:
    """Do what is to be done, and return a line for each change; none when all was right already.

    A unit whose key cannot be registered is told so in its line and keeps nobody else waiting.
    """
    changes = decide_changes(certified, control.nodes())
    lines = []
    for node in changes.unregister:
        control.unregister_node(node.node_id)
        lines.append(f"unregistered {node.name or node.node_id}: no longer certified with that key")
    for unit, key in changes.register:
        try:
            control.register_node(unit, key)
            lines.append(f"registered {unit}")
        except ConflictError as error:
            lines.append(f"not registered {unit}: {error.public} ({error.code})")
    return lines


def certified_keys(gateway: ServerGateway, settings: ServerSettings) -> Mapping[str, bytes]:
    """Return the transport key (PEM) of each unit that is certified and not revoked.

    Guarantees: governance's word is taken from its signature, not from the line it came by; a unit
        whose certificate names no transport key does not connect over Flower and is left out.
    Raises: SignatureError; MismatchError `certificate.other_unit`; FedError of governance.
    """
    keys = fetch_keys(gateway, settings.governance_key, settings.realm)
    found = {}
    for status in gateway.list_units():
        certificate = keys.open(status.certificate, UnitCertificate, settings.realm)
        if certificate.unit != status.unit:
            raise MismatchError(
                "certificate.other_unit", f"governance shows another unit's as {status.unit}'s"
            )
        if certificate.transport_key is not None and not status.revoked:
            found[certificate.unit] = pem_of(certificate.transport_key)
    return found


def pem_of(line: str) -> bytes:
    """Return an OpenSSH public key as PEM, as Flower keeps it.

    Raises: InvalidRecordError `transport.key_invalid`.
    """
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRecordError(
            "transport.key_invalid", "a certificate's transport key is no OpenSSH key", str(error)
        ) from error
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
