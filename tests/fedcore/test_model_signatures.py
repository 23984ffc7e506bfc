"""A model's OpenSSF signature: what it is over, by which key, and that others' tool reads it."""

import json
import subprocess
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from fedcore import canonical
from fedcore.errors import MismatchError
from fedcore.model_signatures import public_model_key, sign_model, verify_model_signature
from fedcore.signing import SigningKey, pre_authentication

STATEMENT = "application/vnd.in-toto+json"
MODEL = b"the bytes of a model"
CLI = Path(sys.executable).with_name("model_signing")


def key_of(byte):
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32))


@pytest.fixture(scope="module")
def key():
    return key_of(1)


@pytest.fixture(scope="module")
def signature(key):
    return sign_model(MODEL, key)


def refused(model, signature, pem):
    with pytest.raises(MismatchError) as caught:
        verify_model_signature(model, signature, pem)
    return caught.value.code == "artifact.signature_invalid"


def test_a_signature_holds_for_its_model_and_key_alone(key, signature):
    pem = public_model_key(key)
    verify_model_signature(MODEL, signature, pem)
    assert refused(MODEL + b" ", signature, pem)
    assert refused(MODEL, signature, public_model_key(key_of(2)))
    assert refused(MODEL, sign_model(MODEL, key_of(2)), pem)


def test_the_key_follows_from_governances_and_says_nothing_of_another_purpose(key):
    again = key_of(1)
    assert public_model_key(again) == public_model_key(key)
    public = load_pem_public_key(public_model_key(key).encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    other = key.derive_p256(b"another purpose").public_key()
    assert other.public_numbers() != public.public_numbers()


def test_equal_models_have_equal_signatures(key, signature):
    assert sign_model(MODEL, key) == signature


def test_the_statement_names_the_file_by_its_digest_whatever_it_is_called(signature):
    statement = json.loads(b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    [resource] = statement["predicate"]["resources"]
    assert resource == {"name": ".", "algorithm": "sha256", "digest": sha256(MODEL).hexdigest()}
    whole = sha256(sha256(MODEL).digest()).hexdigest()
    assert statement["subject"][0]["digest"] == {"sha256": whole}


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_signature_is_refused(key, signature, place, bit):
    changed = bytearray(signature)
    changed[place % len(changed)] ^= 1 << bit
    assert refused(MODEL, bytes(changed), public_model_key(key))


def test_a_key_of_another_curve_is_refused(key, signature):
    """The statement and its form hold; only P-256 is agreed on."""
    other = ec.derive_private_key(7, ec.SECP384R1())
    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    pem = other.public_key().public_bytes(*form).decode()
    value = json.loads(signature)
    payload = b64decode(value["dsseEnvelope"]["payload"])
    signed = other.sign(pre_authentication(STATEMENT, payload), ec.ECDSA(hashes.SHA256()))
    value["dsseEnvelope"]["signatures"][0]["sig"] = b64encode(signed).decode()
    hint = {"publicKey": {"hint": sha256(pem.encode()).hexdigest()}, "tlogEntries": []}
    value["verificationMaterial"] = hint
    assert refused(MODEL, canonical.encode(value), pem)


@pytest.mark.parametrize("pem", ["", "no key", "-----BEGIN PUBLIC KEY-----"])
def test_what_is_no_key_is_refused(signature, pem):
    assert refused(MODEL, signature, pem)


def test_the_command_of_openssf_model_signing_verifies_it(key, signature, tmp_path):
    (tmp_path / "any-name.safetensors").write_bytes(MODEL)
    (tmp_path / "other.safetensors").write_bytes(MODEL + b" ")
    (tmp_path / "model.sig").write_bytes(signature)
    (tmp_path / "model-key.pem").write_text(public_model_key(key), encoding="ascii")
    for name, holds in (("any-name", True), ("other", False)):
        command = [str(CLI), "verify", "key", str(tmp_path / f"{name}.safetensors")]
        command += ["--signature", str(tmp_path / "model.sig")]
        command += ["--public_key", str(tmp_path / "model-key.pem")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode == 0) is holds, done.stdout + done.stderr
