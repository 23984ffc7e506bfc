"""OpenSSF Model Signing: a released model carries a signature that others' tools verify as well.

The signature is a Sigstore bundle over an in-toto statement that names the file's digest, made with
a P-256 key: those tools know no Ed25519. The key follows from governance's own, so that there is
none to keep besides, and governance states it in a `ModelKey` that it signs.

Reference: OpenSSF Model Signing v1.0 (predicate `https://model_signing/signature/v1.0`); in-toto
Statement v1; Sigstore bundle v0.3; DSSE v1; RFC 5869.
"""

import base64
import binascii
import hashlib
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from pydantic import Field

from fedcore import canonical
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.record import At, Realm, Record, Text
from fedcore.signing import SigningKey, pre_authentication

_PURPOSE = b"fedpact OpenSSF model signing, P-256, v1"
_STATEMENT_TYPE = "application/vnd.in-toto+json"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class ModelKey(Record):
    """The public key, as PEM, that governance's signatures on models are verified with.

    Signed by governance's current key, from which it follows.
    """

    schema_name: Literal["model-key/1"] = Field(default="model-key/1", alias="schema")
    realm: Realm
    public_key: Text
    issued_at: At


def public_model_key(key: SigningKey) -> str:
    """Return the public key of a governance key's signatures on models, as PEM."""
    return _pem(key.derive_p256(_PURPOSE).public_key())


def sign_model(artifact: bytes, key: SigningKey) -> bytes:
    """Return the signature of a model as one file, which `model_signing verify key` reads.

    Guarantees: equal models and keys give equal bytes; the file is canonical JSON.
    """
    private = key.derive_p256(_PURPOSE)
    payload = canonical.encode(_statement(artifact))
    signed = pre_authentication(_STATEMENT_TYPE, payload)
    method = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    signature = private.sign(signed, method)
    return canonical.encode(_bundle(payload, signature, _pem(private.public_key())))


def verify_model_signature(artifact: bytes, signature: bytes, public_key: str) -> None:
    """Hold a model's signature against the model and the key.

    Guarantees: the signature's bytes are those that `sign_model` makes, but for the choice of its
        random number.
    Raises: MismatchError `artifact.signature_invalid`.
    """
    try:
        value: Any = canonical.decode(signature)
        raw = base64.b64decode(value["dsseEnvelope"]["signatures"][0]["sig"], validate=True)
        key = load_pem_public_key(public_key.encode())
        payload = canonical.encode(_statement(artifact))
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise _invalid()
        if value != _bundle(payload, raw, _pem(key)):
            raise _invalid()
        key.verify(raw, pre_authentication(_STATEMENT_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    except (
        InvalidRecordError,
        InvalidSignature,
        UnsupportedAlgorithm,
        LookupError,
        TypeError,
        ValueError,
        binascii.Error,
    ) as error:
        raise _invalid() from error


def _statement(artifact: bytes) -> dict[str, Any]:
    """Return what is signed: that a single file, whatever it is called, has this digest."""
    digest = hashlib.sha256(artifact)
    whole = hashlib.sha256(digest.digest()).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model.safetensors", "digest": {"sha256": whole}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [{"name": ".", "algorithm": "sha256", "digest": digest.hexdigest()}],
        },
    }


def _bundle(payload: bytes, signature: bytes, pem: str) -> dict[str, Any]:
    return {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(pem.encode()).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _STATEMENT_TYPE,
            "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
        },
    }


def _pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _invalid() -> MismatchError:
    return MismatchError(
        "artifact.signature_invalid",
        "model.sig is no signature on model.safetensors by the key in model-key.pem",
    )
