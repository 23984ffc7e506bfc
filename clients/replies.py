"""A train reply as the bytes that the ledger keeps."""

import base64

from fedcore import canonical
from fedcore.signing import Envelope
from fedcore.wire import TrainReply


def encode_reply(reply: TrainReply) -> bytes:
    """Return the bytes of a reply; `decode_reply` gives the same reply again."""
    receipt = reply.receipt.model_dump(mode="json", by_alias=True)
    update = base64.b64encode(reply.update).decode()
    return canonical.encode({"receipt": receipt, "update": update})


def decode_reply(data: bytes) -> TrainReply:
    """Return the reply of stored bytes, which the ledger has verified against its chain."""
    value = canonical.decode(data, canonical.MAX_LOCAL_BYTES)
    return TrainReply(
        receipt=Envelope.from_json(value["receipt"]), update=base64.b64decode(value["update"])
    )
