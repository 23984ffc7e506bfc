"""Columns of fixed width, as documents with many events have them."""

import base64
import binascii
import struct
from collections.abc import Iterator, Sequence

PSEUDONYM_BYTES = 32
TIME_BYTES = 8
_HEX = 2 * PSEUDONYM_BYTES


def pseudonyms_in(name: str, column: str) -> Iterator[str]:
    """Yield the pseudonyms of a column, in hex. Raises: ValueError."""
    digits = decoded(name, column).hex()
    return (digits[at : at + _HEX] for at in range(0, len(digits), _HEX))


def times_in(column: bytes) -> tuple[int, ...]:
    """Return the numbers of a column of eight bytes each: of all the first byte, and so on."""
    length, rows = len(column) // TIME_BYTES, bytearray(len(column))
    for byte in range(TIME_BYTES):
        rows[byte::TIME_BYTES] = column[byte * length : (byte + 1) * length]
    return struct.unpack(f">{length}q", rows)


def time_column(times: Sequence[int]) -> bytes:
    """Return the column of these numbers, as `times_in` reads it."""
    rows = struct.pack(f">{len(times)}q", *times)
    return b"".join(rows[byte::TIME_BYTES] for byte in range(TIME_BYTES))


def encoded(column: bytes) -> str:
    """Return a column as the text that a document has."""
    return base64.b64encode(column).decode()


def decoded(name: str, column: str) -> bytes:
    """Return a column from its text. Raises: ValueError that names it, for any other form."""
    try:
        data = base64.b64decode(column, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name}: not base64") from error
    if encoded(data) != column:
        raise ValueError(f"{name}: not canonical base64")
    return data
