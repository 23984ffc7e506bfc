"""May this ledger head be witnessed? It must continue the ledger that was witnessed before."""

import hashlib

from fedcore.bulletins import HeadClaim, WitnessedHead
from fedcore.errors import MismatchError, RollbackError

GENESIS = WitnessedHead(sequence=0, hash="00" * 32)


def verify_head_claim(
    claim: HeadClaim, since: WitnessedHead | None, newest: WitnessedHead
) -> WitnessedHead:
    """Return the claimed head after its chain was recomputed.

    The chain is `hash(i) = sha256(hash(i-1) + body(i))` over raw bytes, from `GENESIS`.

    Guarantees: the chain starts at a head that was witnessed before, passes through the newest one,
        and ends in the claimed hash. A node that missed an answer may start from an older one.
    Args:
        since: the head that was witnessed at `claim.since`, or None.
        newest: the newest witnessed head.
    Raises: MismatchError `ledger.claim_mismatch`; RollbackError `ledger.rollback`.
    """
    if claim.since + len(claim.body_digests) != claim.sequence:
        raise MismatchError("ledger.claim_mismatch", "the claim names too few or too many entries")
    if since is None or claim.sequence < newest.sequence:
        raise _rolled_back()
    running = bytes.fromhex(since.hash)
    passed = {since.sequence: since.hash}
    for sequence, body in enumerate(claim.body_digests, since.sequence + 1):
        running = hashlib.sha256(running + bytes.fromhex(body)).digest()
        passed[sequence] = running.hex()
    if passed.get(newest.sequence) != newest.hash:
        raise _rolled_back()
    if passed[claim.sequence] != claim.hash:
        # From the newest head on, another hash cannot be a rollback: the claim contradicts itself.
        raise _rolled_back() if not claim.body_digests else _contradicts_itself()
    return WitnessedHead(sequence=claim.sequence, hash=claim.hash)


def _contradicts_itself() -> MismatchError:
    return MismatchError("ledger.claim_mismatch", "the entries do not lead to the claimed hash")


def _rolled_back() -> RollbackError:
    return RollbackError(
        "ledger.rollback",
        "the ledger is not the one that was witnessed: restore its newest state or rebuild it",
    )
