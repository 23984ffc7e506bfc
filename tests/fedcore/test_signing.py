import base64
import itertools
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import FedError, InvalidRecordError, SignatureError
from fedcore.keyfiles import write_secret
from fedcore.record import Realm
from fedcore.rounds import Order, Receipt
from fedcore.signing import (
    Envelope,
    SigningKey,
    open_envelope,
    open_known,
    payload_type,
    sign_record,
)


@pytest.fixture(scope="module")
def key(documents):
    return documents.key_of("signer")


@pytest.fixture(scope="module")
def contract(documents):
    return documents.contract_of()


@pytest.fixture(scope="module")
def envelope(contract, key):
    return sign_record(contract, key, Realm.PRODUCTION)


def opened(envelope, record, key, realm=Realm.PRODUCTION):
    return open_envelope(envelope, type(record), key.public, realm)


def code_of(envelope, record, key):
    with pytest.raises(FedError) as caught:
        opened(envelope, record, key)
    return caught.value.code


def with_signature(envelope, **update):
    signature = envelope.signatures[0].model_copy(update=update)
    return envelope.model_copy(update={"signatures": (signature,)})


def test_a_signed_record_comes_back(envelope, contract, key):
    assert opened(envelope, contract, key) == contract
    assert opened(Envelope.from_bytes(envelope.to_bytes()), contract, key) == contract
    assert envelope.digest == contract.digest
    assert envelope.signer == key.public


def test_the_signature_is_dsse_over_ed25519(envelope, contract, key):
    """Made anew from the protocol's text, without our encoder."""
    kind = b"application/vnd.fedpact.contract.v1.production+json"
    payload = contract.to_bytes()
    signed = b"DSSEv1 " + b" ".join(
        [str(len(kind)).encode(), kind, str(len(payload)).encode(), payload]
    )
    plain = json.loads(envelope.to_bytes())
    assert set(plain) == {"payload", "payloadType", "signatures"}
    assert plain["payloadType"].encode() == kind
    assert base64.b64decode(plain["payload"]) == payload
    signature = base64.b64decode(plain["signatures"][0]["sig"])
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public)).verify(signature, signed)


def test_each_schema_and_realm_has_its_own_payload_type():
    types = [payload_type(t, realm) for t in (Order, Receipt) for realm in Realm]
    assert len(set(types)) == 4
    assert types[0] == "application/vnd.fedpact.order.v1.production+json"


def test_an_envelope_opens_for_its_own_type_and_realm_alone(golden_records, key):
    """Every envelope against every verifier."""
    checked = 0
    for record, realm in itertools.product(golden_records, Realm):
        envelope = sign_record(record, key, realm)
        for other, asked in itertools.product(golden_records, Realm):
            checked += 1
            if (type(other), asked) == (type(record), realm):
                assert opened(envelope, record, key, realm) == record
                continue
            with pytest.raises(SignatureError) as caught:
                opened(envelope, other, key, asked)
            assert caught.value.code == "signature.wrong_type"
    assert checked == (2 * len(golden_records)) ** 2
    assert len(golden_records) > 15


def test_another_key_is_refused(envelope, contract, documents):
    assert code_of(envelope, contract, documents.key_of("other")) == "signature.wrong_key"


def test_claiming_another_signer_does_not_help(envelope, contract, documents):
    other = documents.key_of("other")
    claimed = with_signature(envelope, keyid=other.public)
    assert code_of(claimed, contract, other) == "signature.invalid"


def test_changing_the_type_does_not_move_a_document_to_another_realm(envelope, contract, key):
    simulated = payload_type(type(contract), Realm.SIMULATION)
    moved = envelope.model_copy(update={"payload_type": simulated})
    with pytest.raises(SignatureError, match=r"signature\.invalid"):
        opened(moved, contract, key, Realm.SIMULATION)


@given(place=st.data())
def test_any_flipped_bit_of_the_payload_breaks_the_signature(envelope, contract, key, place):
    payload = bytearray(envelope.payload_bytes)
    payload[place.draw(st.integers(0, len(payload) - 1))] ^= 1 << place.draw(st.integers(0, 7))
    changed = envelope.model_copy(update={"payload": base64.b64encode(payload).decode()})
    assert code_of(changed, contract, key) == "signature.invalid"


@given(place=st.integers(0, 63), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_signature_breaks_it(envelope, contract, key, place, bit):
    signature = bytearray(base64.b64decode(envelope.signatures[0].sig))
    signature[place] ^= 1 << bit
    changed = with_signature(envelope, sig=base64.b64encode(signature).decode())
    assert code_of(changed, contract, key) == "signature.invalid"


@given(place=st.data())
def test_any_flipped_bit_of_an_envelope_is_refused(envelope, contract, key, place):
    data = bytearray(envelope.to_bytes())
    data[place.draw(st.integers(0, len(data) - 1))] ^= 1 << place.draw(st.integers(0, 7))
    with pytest.raises(FedError):
        opened(Envelope.from_bytes(bytes(data)), contract, key)


@pytest.mark.parametrize("sig", ["", "AAAA", "A" * 88, "not base64", "é"], ids=range(5))
def test_what_is_no_signature_is_refused(envelope, contract, key, sig):
    assert code_of(with_signature(envelope, sig=sig), contract, key) == "signature.invalid"


def test_one_signature_has_one_form(envelope, contract, key):
    """The last letter of base64 holds bits that decoders ignore."""
    sig = envelope.signatures[0].sig
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    letter = alphabet[alphabet.index(sig[-3]) ^ 1]
    other = sig[:-3] + letter + sig[-2:]
    assert base64.b64decode(other) == base64.b64decode(sig)
    assert code_of(with_signature(envelope, sig=other), contract, key) == "signature.invalid"


def test_one_payload_has_one_form(envelope, contract, key):
    for payload in (envelope.payload + "\n", envelope.payload + "=", envelope.payload[:-1]):
        changed = envelope.model_copy(update={"payload": payload})
        assert code_of(changed, contract, key) == "envelope.invalid"


def test_a_signed_payload_that_is_not_canonical_is_refused(contract, key, monkeypatch):
    spaced = json.dumps(contract.to_json()).encode()
    with monkeypatch.context() as patch:
        patch.setattr(type(contract), "to_bytes", lambda self: spaced)
        envelope = sign_record(contract, key, Realm.PRODUCTION)
    assert code_of(envelope, contract, key) == "record.not_canonical"


def test_an_envelope_has_exactly_one_signature_and_no_other_field(envelope):
    plain = json.loads(envelope.to_bytes())
    for change in (  # type: ignore[var-annotated]
        {"signatures": []},
        {"signatures": plain["signatures"] * 2},
        {"extra": 1},
        {"payload": 1},
    ):
        with pytest.raises(InvalidRecordError, match=r"envelope\.invalid"):
            Envelope.from_json({**plain, **change})
    assert Envelope.from_json(plain) == envelope


def test_a_key_survives_its_file_which_only_the_owner_reads(tmp_path, key):
    path = tmp_path / "key.pem"
    key.save(path)
    assert SigningKey.load(path).public == key.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_file_is_never_overwritten(tmp_path, key):
    path = tmp_path / "key.pem"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        key.save(path)
    assert path.read_text() == "precious"


def test_what_is_no_private_key_is_refused(tmp_path):
    wrong = generate_private_key(SECP256R1())
    pem = wrong.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for number, content in enumerate([b"", b"nothing", pem]):
        path = tmp_path / f"key{number}"
        write_secret(path, content)
        with pytest.raises(InvalidRecordError, match=r"key\.unreadable"):
            SigningKey.load(path)
    with pytest.raises(InvalidRecordError, match=r"key\.unreadable"):
        SigningKey.load(Path(tmp_path / "absent"))


def test_generated_keys_differ():
    assert SigningKey.generate().public != SigningKey.generate().public


def known_code(envelope, record_type, signer, realm):
    with pytest.raises(FedError) as caught:
        open_known(envelope, record_type, signer, realm)
    return caught.value.code


def test_what_was_verified_once_is_remembered_and_whatever_differs_is_refused(
    envelope, contract, key, documents
):
    kind, realm = type(contract), Realm.PRODUCTION
    assert open_known(envelope, kind, key.public, realm) == contract
    again = Envelope.from_bytes(envelope.to_bytes())
    assert open_known(again, kind, key.public, realm) is open_known(
        envelope, kind, key.public, realm
    )
    other = documents.key_of("other").public
    signature, payload = envelope.signatures[0].sig, envelope.payload
    for place in range(0, 80, 7):
        altered = ("A" if signature[place] != "A" else "B").join(
            (signature[:place], signature[place + 1 :])
        )
        changed = with_signature(envelope, sig=altered)
        for _ in range(2):  # a refusal is not remembered as a yes, either
            assert known_code(changed, kind, key.public, realm) == "signature.invalid"
    for place in range(0, len(payload) - 4, 97):
        letter = "A" if payload[place] != "A" else "B"
        changed = envelope.model_copy(
            update={"payload": payload[:place] + letter + payload[place + 1 :]}
        )
        assert known_code(changed, kind, key.public, realm) == "signature.invalid"
    assert known_code(envelope, kind, other, realm) == "signature.wrong_key"
    assert known_code(with_signature(envelope, keyid=other), kind, other, realm) == (
        "signature.invalid"
    )
    assert known_code(envelope, kind, key.public, Realm.SIMULATION) == "signature.wrong_type"
    assert known_code(envelope, Order, key.public, realm) == "signature.wrong_type"
