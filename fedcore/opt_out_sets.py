"""The digest of a unit's whole set of objections and consents: what two parties compare.

An entry is 64 bytes: the pseudonym, and the SHA-256 of the canonical JSON of purpose, ground and
state. Entries are sorted in 256 buckets by their first byte; the digest is that of the buckets'
digests in order, so that after one event one bucket is worked out anew.

Guarantees: equal sets have equal digests, whatever events led to them and in which order.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedcore import canonical
from fedcore.optouts import Ground, State, States

BUCKETS = 256
_ENTRY_BYTES = 64
_PSEUDONYM_BYTES = 32
_DOMAIN = b"fedpact.opt-out-set/2\x00"

# Pseudonyms in hex, one after the other, by purpose, ground and state.
Classes = Mapping[tuple[str, Ground, State], str]


def set_digest_of(states: States) -> str:
    """Return the digest of all current states of a unit."""
    classes = {
        (purpose, ground, state): "".join(
            pseudonym for pseudonym, reached in group.items() if reached == state
        )
        for (purpose, ground), group in states.items()
        for state in set(group.values())
    }
    return digest_of_buckets(bucket_digests(classes))


def bucket_digests(classes: Classes) -> list[bytes]:
    """Return the digest of each bucket, in order."""
    entries = _sorted_entries(classes)
    ends = np.searchsorted(entries[:, 0], np.arange(BUCKETS), side="right")
    starts = [0, *ends[:-1]]
    return [
        hashlib.sha256(entries[start:end].tobytes()).digest()
        for start, end in zip(starts, ends, strict=True)
    ]


def digest_of_buckets(buckets: Iterable[bytes]) -> str:
    """Return the digest of a set from its buckets' digests."""
    return canonical.digest(_DOMAIN + b"".join(buckets))


def bucket_of(pseudonym: str) -> int:
    """Return the bucket of a pseudonym."""
    return int(pseudonym[:2], 16)


def _sorted_entries(classes: Classes) -> NDArray[np.uint8]:
    """Return all entries in the order of their bytes, shape (n, 64)."""
    # Sorting is stable: what has one pseudonym stays in the order of the tags.
    ordered = sorted((_tag(*kind), digits) for kind, digits in classes.items())
    parts = [np.zeros((0, _ENTRY_BYTES), np.uint8)]
    for tag, digits in ordered:
        pseudonyms = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, _PSEUDONYM_BYTES)
        tags = np.broadcast_to(np.frombuffer(tag, np.uint8), pseudonyms.shape)
        parts.append(np.hstack([pseudonyms, tags]))
    entries = np.vstack(parts)
    words = entries[:, :_PSEUDONYM_BYTES].copy().view(">u8").astype(np.uint64)
    order = np.argsort(words[:, 0], kind="stable")
    alike = np.flatnonzero(np.diff(words[order, 0]) == 0)
    if (words[order[alike]] != words[order[alike + 1]]).any():  # two pseudonyms begin alike
        order = np.lexsort(words.T[::-1])
    return entries[order]


@lru_cache(maxsize=1024)
def _tag(purpose: str, ground: Ground, state: State) -> bytes:
    return hashlib.sha256(canonical.encode([purpose, ground, state])).digest()
