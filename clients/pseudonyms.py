"""Pseudonyms that only the unit can make: HMAC-SHA256 under a key that never leaves it."""

import hashlib
import hmac
import os
from pathlib import Path

from fedcore.contracts import SubjectRule
from fedcore.errors import DataError, InvalidRecordError
from fedcore.keyfiles import read_secret, write_secret

KEY_BYTES = 32
_BLOCK = 64
_DOMAIN = b"fedpact.pseudonym/1"


class Pseudonymiser:
    """Turns customer identifiers into pseudonyms.

    Guarantees: the same identifier under the same key and rule always has the same pseudonym, and
        identifiers that the rule normalises alike have the same one; without the key a pseudonym
        cannot be linked to an identifier by guessing.
    Reference: RFC 2104; parts are length-prefixed, so that no two inputs run together.
    """

    def __init__(
        self, key: bytes, rule: SubjectRule, former: tuple["Pseudonymiser", ...] = ()
    ) -> None:
        """Take a key; `former` are the pseudonymisers of the keys before it that still count.

        Raises: InvalidRecordError `key.too_short`.
        """
        if len(key) < KEY_BYTES:
            raise InvalidRecordError("key.too_short", "a pseudonym key needs 256 bits")
        prefix = _joined(_DOMAIN, rule.namespace.encode(), rule.normaliser.encode())
        self._former = former
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        # HMAC written out, for a million customers at a time: two hashes, and no objects to copy.
        self._inner = bytes(byte ^ 0x36 for byte in block) + prefix
        self._outer = bytes(byte ^ 0x5C for byte in block)

    def pseudonym(self, identifier: str) -> str:
        """Return 64 hex digits.

        Raises: DataError `data.subject_missing` for an empty identifier.
        """
        value = normalise(identifier).encode()
        if not value:
            raise DataError("data.subject_missing", "a customer identifier is empty")
        inner = hashlib.sha256(self._inner + len(value).to_bytes(4, "big") + value).digest()
        return hashlib.sha256(self._outer + inner).hexdigest()

    def former(self, identifier: str) -> tuple[str, ...]:
        """Return the pseudonyms of a customer under the former keys, oldest first.

        Raises: DataError `data.subject_missing` for an empty identifier.
        """
        return tuple(maker.pseudonym(identifier) for maker in self._former)


def normalise(identifier: str) -> str:
    """Return the identifier under rule `trim-upper/1`: outer white space off, upper case."""
    return identifier.strip().upper()


def create_key(path: Path) -> bytes:
    """Write a fresh 256-bit key as hex, readable by the owner only, and return it."""
    key = os.urandom(KEY_BYTES)
    write_secret(path, key.hex().encode())
    return key


def load_key(path: Path) -> bytes:
    """Return the key of a file.

    Raises: InvalidRecordError `key.unreadable`, `key.permissions`. A lost key fails closed: without
        it no opt-out could be matched, so that nothing may be read.
    """
    try:
        return bytes.fromhex(read_secret(path).decode("ascii"))
    except ValueError as error:
        raise InvalidRecordError(
            "key.unreadable",
            f"{path.name} is no readable key; restore it from its backup",
            str(error),
        ) from error


def check_of(key: bytes) -> str:
    """Return a value by which a key can be told from another one, and which tells nothing of it."""
    return hmac.new(key, _joined(_DOMAIN, b"check"), hashlib.sha256).hexdigest()


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
