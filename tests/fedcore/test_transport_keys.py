"""The keys of connections: one kind, one way to write them."""

import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from pydantic import TypeAdapter, ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.keyfiles import write_secret
from fedcore.transport_keys import TransportKey, create_transport_key, load_transport_key

KEYS = TypeAdapter(TransportKey)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "transport.key"


@pytest.fixture
def line(path):
    return create_transport_key(path)


def public(key):
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_key_survives_its_file_which_only_its_owner_reads(path, line):
    assert load_transport_key(path) == line == KEYS.validate_python(line)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_has_the_form_that_a_supernode_reads(path, line):
    """flwr.supernode: an OpenSSH private key without password on a curve of NIST."""
    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP384R1)
    assert public(key) == line


def test_two_keys_differ_and_none_is_overwritten(path, line, tmp_path):
    assert create_transport_key(tmp_path / "other.key") != line
    with pytest.raises(FileExistsError):
        create_transport_key(path)
    assert load_transport_key(path) == line


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line + " north@example",
        lambda line: line + "\n",
        lambda line: line[:-8],
        lambda line: line.replace("ecdsa", "ECDSA"),
        lambda line: line.replace(" ", "  "),
        lambda _line: "",
        lambda _line: "ssh-rsa AAAA",
        lambda _line: public(ec.generate_private_key(ec.SECP256R1())),
        lambda _line: public(ed25519.Ed25519PrivateKey.generate()),
        lambda line: line + "A" * 10_000_000,
    ],
)
def test_any_other_line_is_refused(line, change):
    with pytest.raises(ValidationError):
        KEYS.validate_python(change(line))


def pem(key, encryption):
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        pem(ec.generate_private_key(ec.SECP256R1()), NoEncryption()),
        pem(ed25519.Ed25519PrivateKey.generate(), NoEncryption()),
    ],
)
def test_a_file_with_anything_else_is_refused(tmp_path, content):
    write_secret(tmp_path / "wrong.key", content)
    with pytest.raises(InvalidRecordError, match=r"wrong\.key") as caught:
        load_transport_key(tmp_path / "wrong.key")
    assert caught.value.code == "key.unreadable"


def test_a_key_under_a_password_is_refused(tmp_path):
    pytest.importorskip("bcrypt")
    key = ec.generate_private_key(ec.SECP384R1())
    write_secret(tmp_path / "locked.key", pem(key, BestAvailableEncryption(b"word")))
    with pytest.raises(InvalidRecordError, match=r"key\.unreadable"):
        load_transport_key(tmp_path / "locked.key")


def test_a_key_that_others_may_read_is_refused(path, line):
    path.chmod(0o640)
    with pytest.raises(InvalidRecordError, match=r"key\.permissions"):
        load_transport_key(path)
    path.chmod(0o600)
    assert load_transport_key(path) == line
