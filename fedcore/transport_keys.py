"""Keys by which a unit's connection is known to the federation server: EC P-384 in OpenSSH's forms.

They open a connection and nothing else: whatever a node states is signed by its Ed25519 node key.
"""

from pathlib import Path
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from pydantic import AfterValidator, StringConstraints

from fedcore.errors import InvalidRecordError
from fedcore.keyfiles import read_secret, write_secret

_CURVE = ec.SECP384R1()


def _verified(line: str) -> str:
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("must be an OpenSSH public key") from error
    is_of_curve = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVE.name
    if not is_of_curve:
        raise ValueError("must be a key of the curve P-384")
    if key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() != line:
        raise ValueError("must be the key type and the key, without a comment")
    return line


TransportKey = Annotated[str, StringConstraints(max_length=300), AfterValidator(_verified)]


def create_transport_key(path: Path) -> str:
    """Write a fresh private key, readable by its owner only, and return its public line.

    Raises: FileExistsError: a key is never overwritten.
    """
    key = ec.generate_private_key(_CURVE)
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return _line_of(key.public_key())


def load_transport_key(path: Path) -> str:
    """Return the public line of a private key file, `ecdsa-sha2-nistp384 <base64>`.

    Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
    """
    try:
        key = load_ssh_private_key(read_secret(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRecordError(
            "key.unreadable",
            f"{path.name} is no OpenSSH private key without a password",
            str(error),
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != _CURVE.name:
        raise InvalidRecordError("key.unreadable", f"{path.name} is no key of the curve P-384")
    return _line_of(key.public_key())


def _line_of(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
