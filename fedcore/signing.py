"""Ed25519 signatures in DSSE envelopes, one payload type per record, version and realm.

Reference: RFC 8032; the DSSE protocol, v1 (pre-authentication encoding).
"""

import base64
import binascii
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self, TypeVar, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import Field, ValidationError

from fedcore import canonical
from fedcore.errors import InvalidRecordError, SignatureError
from fedcore.keyfiles import read_secret, write_secret
from fedcore.record import Part, PublicKey, Realm, Record, first_problem

R = TypeVar("R", bound=Record)
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SigningKey:
    """An Ed25519 private key. Its `public` half, 64 hex digits, is its identity."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: str = key.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the key of a PKCS#8 PEM file.

        Raises: InvalidRecordError `key.unreadable` when the file is missing or holds no Ed25519
            key, `key.permissions` when others than its owner may use it.
        """
        try:
            key = load_pem_private_key(read_secret(path), password=None)
        except (ValueError, TypeError) as error:
            raise InvalidRecordError(
                "key.unreadable", f"{path.name} is no readable private key", str(error)
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidRecordError("key.unreadable", f"{path.name} is not an Ed25519 key")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key as PKCS#8 PEM, readable by the owner only; an existing file is refused."""
        write_secret(
            path, self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature."""
        return self._key.sign(data)

    def derive_p256(self, purpose: bytes) -> ec.EllipticCurvePrivateKey:
        """Return the P-256 key that follows from this key and a purpose, by HKDF-SHA256.

        Guarantees: says nothing about this key, nor about that of another purpose. Reference: RFC
            5869; FIPS 186-5, appendix A.2.1 (64 more bits than the order has).
        """
        derived = HKDF(hashes.SHA256(), 40, None, purpose).derive(self._key.private_bytes_raw())
        scalar = int.from_bytes(derived) % (_P256_ORDER - 1) + 1
        return ec.derive_private_key(scalar, ec.SECP256R1())


class Signature(Part):
    """One signature of an envelope."""

    keyid: PublicKey
    sig: Annotated[str, Field(max_length=100)]


class Envelope(Part):
    """A DSSE envelope with exactly one signature."""

    payload: Annotated[str, Field(max_length=24 * 1024 * 1024)]
    payload_type: Annotated[str, Field(alias="payloadType", max_length=200)]
    signatures: Annotated[tuple[Signature, ...], Field(min_length=1, max_length=1)]

    def to_bytes(self) -> bytes:
        """Return the canonical JSON bytes."""
        return canonical.encode(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the envelope of canonical JSON bytes. Raises: InvalidRecordError."""
        return cls.from_json(canonical.decode(data))

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the envelope of a JSON value. Raises: InvalidRecordError."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InvalidRecordError(
                "envelope.invalid", f"not a DSSE envelope: {first_problem(error)}"
            ) from error

    @property
    def payload_bytes(self) -> bytes:
        """The payload. Not to be believed before `open_envelope`."""
        try:
            data = base64.b64decode(self.payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRecordError("envelope.invalid", "the payload is not base64") from error
        if base64.b64encode(data).decode() != self.payload:
            raise InvalidRecordError("envelope.invalid", "the payload is not canonical base64")
        return data

    @property
    def digest(self) -> str:
        """The digest of the payload bytes: the same as the signed record's digest."""
        return canonical.digest(self.payload_bytes)

    @property
    def signer(self) -> str:
        """The public key that the envelope claims as its signer."""
        return self.signatures[0].keyid


def payload_type(record_type: type[Record], realm: Realm) -> str:
    """Return the one DSSE payload type of a record's schema in a realm."""
    name, version = record_type.schema_id().split("/")
    return f"application/vnd.fedpact.{name}.v{version}.{realm.value}+json"


def sign_record(record: Record, key: SigningKey, realm: Realm) -> Envelope:
    """Return the envelope of a record, signed for one realm."""
    payload = record.to_bytes()
    kind = payload_type(type(record), realm)
    signature = base64.b64encode(key.sign(pre_authentication(kind, payload))).decode()
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payload_type=kind,
        signatures=(Signature(keyid=key.public, sig=signature),),
    )


def open_envelope(envelope: Envelope, record_type: type[R], signer: str, realm: Realm) -> R:
    """Return the record inside, after its signature was verified; nothing is parsed before that.

    Guarantees: type, version, realm and signer are exactly the ones asked for, and the bytes are
        the canonical ones that were signed.
    Raises: SignatureError `signature.wrong_type`, `signature.wrong_key`, `signature.invalid`;
        InvalidRecordError when the signed bytes are no such record.
    """
    expected = payload_type(record_type, realm)
    if envelope.payload_type != expected:
        raise SignatureError(
            "signature.wrong_type", f"expected a document of type {expected}", envelope.payload_type
        )
    if envelope.signer != signer:
        raise SignatureError(
            "signature.wrong_key",
            f"the {record_type.schema_id()} document is not signed by the expected key",
        )
    payload = envelope.payload_bytes
    try:
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(
            signature, pre_authentication(expected, payload)
        )
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            "signature.invalid",
            f"the signature of the {record_type.schema_id()} document is invalid",
        ) from error
    if base64.b64encode(signature).decode() != envelope.signatures[0].sig:
        raise SignatureError("signature.invalid", "the signature is not canonical base64")
    return record_type.from_bytes(payload)


def open_known(envelope: Envelope, record_type: type[R], signer: str, realm: Realm) -> R:
    """Return the record inside, as `open_envelope` does; the very same question is answered once.

    Guarantees: what was verified before is remembered by all that was verified, each byte of
        payload and signature included, so that whatever is altered is verified, and refused.
        Refusals are not remembered.
    Raises: as `open_envelope`.
    """
    return cast("R", _remembered(envelope, record_type, signer, realm))


@lru_cache(maxsize=512)
def _remembered(envelope: Envelope, record_type: type[Record], signer: str, realm: Realm) -> Record:
    return open_envelope(envelope, record_type, signer, realm)


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """Return what a DSSE signature is over: the type and the payload, each with its length."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)
