"""Bodies of the routes that prove, and erase, what is in the log."""

from fedcore.bundle import LoggedDocument
from fedcore.record import Digest, Hex256, Part, Text
from fedcore.signing import Envelope


class LogProof(Part):
    """A document's entry with its place and proof, and the signed checkpoint that it leads to."""

    logged: LoggedDocument
    checkpoint: Envelope


class ConsistencyProof(Part):
    """The proof that the log under a signed checkpoint begins with a smaller one."""

    consistency: tuple[Hex256, ...]
    checkpoint: Envelope


class ErasureRequest(Part):
    """Which document is erased, by its digest, and why; the reason stays in the log for ever."""

    document: Digest
    reason: Text
