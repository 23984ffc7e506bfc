"""What units of a group have signed and sealed, verified once by each process.

Verifying ten thousand group opt-outs takes seconds, and each reading of rows looks at all of them.
"""

from functools import lru_cache

from fedcore.group_opt_outs import GroupOptOut, GroupSetAside, verify_seal
from fedcore.record import Realm
from fedcore.signing import Envelope, open_envelope, payload_type


@lru_cache(maxsize=20_000)
def open_sealed(data: bytes, key: bytes, realm: Realm) -> tuple[str, GroupOptOut | GroupSetAside]:
    """Return who signed an envelope, and what is inside, signed by them and sealed with the key.

    Guarantees: what was verified before is remembered by all that was verified, each byte of the
        envelope and of the key included (ADR 0021); refusals are not remembered. Whose key the
        signer's is, the caller has to see to each time.
    Raises: SignatureError; InvalidRecordError.
    """
    envelope = Envelope.from_bytes(data)
    signer = envelope.signer
    said: GroupOptOut | GroupSetAside
    if envelope.payload_type == payload_type(GroupSetAside, realm):
        said = open_envelope(envelope, GroupSetAside, signer, realm)
    else:
        said = open_envelope(envelope, GroupOptOut, signer, realm)
    verify_seal(said, key)
    return signer, said
