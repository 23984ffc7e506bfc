"""A unit's own signed events on the way back to it, packed: what a node reads that lacks some.

Guarantees: unpacking gives the very envelopes that were packed; at most the agreed number of bytes
    is ever decompressed.
"""

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from fedcore.errors import InvalidRecordError
from fedcore.opt_out_batches import OptOutBatch, OptOutBatchV2
from fedcore.optouts import OptOutEvent
from fedcore.record import At, Counter, Name, Realm, Record
from fedcore.signing import Envelope, Signature, payload_type

# What one part holds at least before it ends, and at most: its last document may be a whole batch.
PART_BYTES = 8 * 1024 * 1024
MAX_PART_BYTES = PART_BYTES + 2 * 1024 * 1024
MEDIA_TYPE = "application/vnd.fedpact.opt-out-history"
_HEAD = struct.Struct(">BI32s64s")
_TYPES = (OptOutEvent, OptOutBatch, OptOutBatchV2)
# Most is random bytes in base64: of more effort nothing comes but time.
_LEVEL = 1


class HistoryRequest(Record):
    """A node asks for the documents with its unit's events after a sequence. Signed by the node."""

    schema_name: Literal["opt-out-history-request/1"] = Field(
        default="opt-out-history-request/1", alias="schema"
    )
    unit: Name
    after_sequence: Counter
    requested_at: At


def pack(envelopes: Iterable[Envelope], realm: Realm) -> bytes:
    """Return the first of these envelopes, at least one and then as many as a part holds."""
    types = [payload_type(kind, realm) for kind in _TYPES]
    packed = bytearray()
    for envelope in envelopes:
        payload = envelope.payload_bytes
        key = bytes.fromhex(envelope.signer)
        signature = base64.b64decode(envelope.signatures[0].sig)
        kind = types.index(envelope.payload_type)
        packed += _HEAD.pack(kind, len(payload), key, signature) + payload
        if len(packed) >= PART_BYTES:
            break
    return zlib.compress(packed, _LEVEL)


def unpack(data: bytes, realm: Realm) -> Iterator[Envelope]:
    """Yield the envelopes of one part; not to be believed before they are opened.

    Raises: InvalidRecordError `opt_out.history_invalid`.
    """
    try:
        yield from _envelopes(memoryview(_unpacked(data)), realm)
    except (zlib.error, struct.error, ValueError, IndexError) as error:
        raise InvalidRecordError(
            "opt_out.history_invalid", "governance's answer is no list of opt-outs", str(error)
        ) from error


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    packed = unpacker.decompress(data, MAX_PART_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("not one whole part")
    return packed


def _envelopes(packed: memoryview, realm: Realm) -> Iterator[Envelope]:
    while packed:
        kind, size, key, signature = _HEAD.unpack_from(packed)
        payload = bytes(packed[_HEAD.size : _HEAD.size + size])
        if len(payload) != size:
            raise ValueError("cut off")
        yield _envelope(payload_type(_TYPES[kind], realm), payload, key, signature)
        packed = packed[_HEAD.size + size :]


def _envelope(kind: str, payload: bytes, key: bytes, signature: bytes) -> Envelope:
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payload_type=kind,
        signatures=(Signature(keyid=key.hex(), sig=base64.b64encode(signature).decode()),),
    )
