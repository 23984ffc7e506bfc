"""Canonical JSON (RFC 8785) and digests: the bytes that all parties sign and compare."""

import hashlib
import json
import math
import re
from typing import Any

import rfc8785

from fedcore.errors import InvalidRecordError

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
# For files that this machine has written itself.
MAX_LOCAL_BYTES = 1024 * 1024 * 1024
_MAX_SAFE_INTEGER = 2**53 - 1
# What a float of 2^53 and above looks like, which `parse` would refuse; hits in texts do no harm.
# One pattern for each sign before it: what begins with one certain byte is found faster.
_LONG_INTEGERS = tuple(re.compile(sign + rb"-?\d{16,}[,\]}]") for sign in (rb":", rb"\[", rb","))
_WHOLE_LONG_INTEGER = re.compile(rb"-?\d{16,}")


def encode(value: Any) -> bytes:
    """Return the one canonical UTF-8 encoding of a JSON value.

    Guarantees: equal values have equal bytes; `decode(encode(v)) == v` for JSON values.
    Raises: InvalidRecordError for non-finite numbers, numbers of 2**53 and above (write them as
        strings), keys that are no strings, types that JSON does not have, and too deep a nesting.
    Reference: RFC 8785.
    """
    try:
        data = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRecordError(
            "record.not_canonical",
            "the value has no canonical JSON form (finite numbers, integers below 2^53, text keys)",
            str(error),
        ) from error
    if any(long.search(data) for long in _LONG_INTEGERS) or _WHOLE_LONG_INTEGER.fullmatch(data):
        parse(data, MAX_LOCAL_BYTES)
    return data


def decode(data: bytes, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
    """Return the JSON value of canonical bytes.

    Raises: InvalidRecordError for anything but the canonical encoding of one JSON value: other
        white space, key order or number form, duplicate keys, non-finite numbers, more than
        `max_bytes` (16 MiB for documents of others).
    """
    value = parse(data, max_bytes)
    if encode(value) != data:
        raise InvalidRecordError(
            "record.not_canonical", "the document is not in canonical form (RFC 8785)"
        )
    return value


def parse(data: bytes, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
    """Return the JSON value of bytes that the caller will hold against their canonical form.

    Raises: InvalidRecordError as `decode`, but not for white space, key order or number form.
    """
    if len(data) > max_bytes:
        raise InvalidRecordError(
            "record.too_large", f"the document is larger than {max_bytes} bytes"
        )
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_pairs,
            parse_int=_safe_integer,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidRecordError(
            "record.not_json", "the document is not valid JSON", str(error)
        ) from error


def digest(data: bytes) -> str:
    """Return `sha256:<64 hex digits>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Return the digest of a JSON value's canonical encoding."""
    return digest(encode(value))


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise InvalidRecordError("record.duplicate_key", "the document names one key twice")
    return dict(pairs)


def _safe_integer(text: str) -> int:
    value = int(text) if len(text) <= 17 else math.inf
    if abs(value) > _MAX_SAFE_INTEGER:
        raise ValueError("integer of 2^53 or above")
    return int(value)


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
