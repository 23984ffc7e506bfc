"""Merkle trees of RFC 6962 section 2.1, proofs verified as in RFC 9162.

Leaves and nodes are hashed in separate domains (0x00 and 0x01), so no leaf can pass for a node. All
functions take and return raw SHA-256 digests of 32 bytes; sizes and indices count leaves. A root
does not state its size: what is verified holds for a size and root of one signed checkpoint.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedcore.errors import InvalidRecordError, MismatchError, RollbackError

_HASH_SIZE = 32


class Node(NamedTuple):
    """A perfect subtree: the 2**level leaves from `place` * 2**level on. It never changes again."""

    level: int
    place: int


class Span(NamedTuple):
    """The leaves from `start` up to, not including, `end`, as RFC 6962 splits a tree."""

    start: int
    end: int


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds `data`."""
    return hashlib.sha256(b"\x00" + data).digest()


def root_hash(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over `leaf_hashes` in order; for no leaves the SHA-256 of nothing.

    Raises: InvalidRecordError when a leaf hash is not 32 bytes.
    """
    _require_hashes(leaf_hashes)
    return _subtree_root(leaf_hashes, 0, len(leaf_hashes))


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the siblings from leaf `index` up to the root, lowest first.

    Raises: InvalidRecordError when there is no leaf `index`.
    """
    _require_hashes(leaf_hashes)
    spans = inclusion_spans(index, len(leaf_hashes))
    return [_subtree_root(leaf_hashes, span.start, span.end) for span in spans]


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return the spans whose roots are the inclusion proof of leaf `index`, lowest first.

    Raises: InvalidRecordError when there is no leaf `index`.
    """
    if not 0 <= index < size:
        raise InvalidRecordError("log.index_invalid", f"the log has no leaf {index}")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    return spans[::-1]


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the nodes that show the first `old_size` leaves to be a prefix of all of them.

    Guarantees: empty for `old_size` 0 and for equal sizes.
    Raises: InvalidRecordError when the log is smaller than `old_size`.
    """
    _require_hashes(leaf_hashes)
    spans = consistency_spans(old_size, len(leaf_hashes))
    return [_subtree_root(leaf_hashes, span.start, span.end) for span in spans]


def consistency_spans(old_size: int, size: int) -> list[Span]:
    """Return the spans whose roots are the consistency proof between two sizes, lowest first.

    Raises: InvalidRecordError when the log is smaller than `old_size`.
    """
    if not 0 <= old_size <= size:
        raise InvalidRecordError("log.size_invalid", f"the log never had {old_size} leaves")
    spans: list[Span] = []
    start, end = 0, size
    if old_size in (0, end):
        return spans
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    if start > 0:  # otherwise the verifier holds this very node: it is the old root
        spans.append(Span(start, end))
    return spans[::-1]


def nodes_of(span: Span) -> list[Node]:
    """Return the perfect subtrees that a span consists of, left to right: at most one per level."""
    nodes: list[Node] = []
    start = span.start
    while start < span.end:
        level = (span.end - start).bit_length() - 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


def span_root(span: Span, hashes: Mapping[Node, bytes]) -> bytes:
    """Return the root over a span from the hashes of `nodes_of(span)`; of an empty one as always.

    Reference: RFC 6962 section 2.1; what is right of the largest perfect subtree is hashed first.
    """
    nodes = nodes_of(span)
    if not nodes:
        return hashlib.sha256().digest()
    root = hashes[nodes[-1]]
    for node in reversed(nodes[:-1]):
        root = _node_hash(hashes[node], root)
    return root


def left_siblings(index: int) -> list[Node]:
    """Return the subtrees that leaf `index` completes to larger ones, lowest first."""
    nodes: list[Node] = []
    while index & 1:
        nodes.append(Node(len(nodes), index - 1))
        index >>= 1
    return nodes


def completed_nodes(index: int, leaf: bytes, hashes: Mapping[Node, bytes]) -> dict[Node, bytes]:
    """Return the subtrees above the leaves that leaf `index` completes, with their hashes.

    `hashes` has those of `left_siblings(index)`. Over a whole log there are fewer than leaves.
    """
    completed: dict[Node, bytes] = {}
    for sibling in left_siblings(index):
        leaf = _node_hash(hashes[sibling], leaf)
        completed[Node(sibling.level + 1, sibling.place >> 1)] = leaf
    return completed


class Peaks:
    """A log as it grows: leaves go in, roots come out, and only one hash for each level stays."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes: list[bytes] = []

    def append(self, leaf: bytes) -> list[tuple[Node, bytes]]:
        """Add a leaf hash of 32 bytes, and return the subtrees above it that it completes."""
        completed: list[tuple[Node, bytes]] = []
        place = self.size
        while place & 1:
            leaf = _node_hash(self._hashes.pop(), leaf)
            place >>= 1
            completed.append((Node(len(completed) + 1, place), leaf))
        self._hashes.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        nodes = nodes_of(Span(0, self.size))
        return span_root(Span(0, self.size), dict(zip(nodes, self._hashes, strict=True)))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Verify that `leaf` (a leaf hash) is number `index` of the `size` leaves under `root`.

    Guarantees: passes only for the one proof of that place; a node too many or too few refuses.
    Raises: MismatchError `log.inclusion_failed`; InvalidRecordError for an index outside the
        size or a hash that is not 32 bytes.
    Reference: RFC 9162 section 2.1.3.2.
    """
    _require_hashes([leaf, root, *proof])
    if not 0 <= index < size:
        raise InvalidRecordError("log.index_invalid", f"no leaf {index} in a log of {size}")
    node, place, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise _inclusion_failed()
        if place % 2 or place == last:
            node = _node_hash(sibling, node)
            place, last = _skip_lone_levels(place, last)
        else:
            node = _node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or node != root:
        raise _inclusion_failed()


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify that the log of `new_size` leaves begins with the log of `old_size` leaves.

    Guarantees: passes only for the one proof of these sizes. The empty log begins every log: there
        the proof is empty and `old_root` must be the root of nothing.
    Raises: RollbackError `log.rollback` when the new log is smaller; MismatchError
        `log.consistency_failed`; InvalidRecordError for a negative size or a hash that is not
        32 bytes.
    Reference: RFC 9162 section 2.1.4.2.
    """
    _require_hashes([old_root, new_root, *proof])
    if old_size < 0:
        raise InvalidRecordError("log.size_invalid", "a log cannot have fewer than 0 leaves")
    if new_size < old_size:
        raise RollbackError("log.rollback", "the log is smaller than it was when last seen")
    if old_size in (0, new_size):
        _verify_trivial_consistency(old_size, old_root, new_size, new_root, proof)
        return
    if _roots_of_proof(old_size, new_size, old_root, proof) != (old_root, new_root):
        raise _consistency_failed()


def _verify_trivial_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    empty_is_known = old_size > 0 or old_root == root_hash([])
    same_is_same = old_size < new_size or old_root == new_root
    if proof or not (empty_is_known and same_is_same):
        raise _consistency_failed()


def _roots_of_proof(
    old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the old and the new root that `proof` leads to, for 0 < old_size < new_size."""
    # A complete old tree is a node of the new one; the prover leaves it out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise _consistency_failed()
    place, last = old_size - 1, new_size - 1
    while place % 2:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _consistency_failed()
        if place % 2 or place == last:
            old, new = _node_hash(sibling, old), _node_hash(sibling, new)
            place, last = _skip_lone_levels(place, last)
        else:
            new = _node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise _consistency_failed()
    return old, new


def _skip_lone_levels(place: int, last: int) -> tuple[int, int]:
    """Climb past the levels at which the last node has no sibling and is carried up unchanged."""
    while place and place % 2 == 0:
        place, last = place >> 1, last >> 1
    return place, last


def _subtree_root(leaf_hashes: Sequence[bytes], start: int, end: int) -> bytes:
    if end == start:
        return hashlib.sha256().digest()
    if end - start == 1:
        return leaf_hashes[start]
    middle = start + _split(end - start)
    return _node_hash(
        _subtree_root(leaf_hashes, start, middle), _subtree_root(leaf_hashes, middle, end)
    )


def _split(size: int) -> int:
    """Return the greatest power of two below `size` (at least 2)."""
    return 1 << (size - 1).bit_length() - 1


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _require_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(digest) != _HASH_SIZE for digest in hashes):
        raise InvalidRecordError("log.hash_invalid", "a hash in the log must have 32 bytes")


def _inclusion_failed() -> MismatchError:
    return MismatchError("log.inclusion_failed", "the entry is not at this place in this log")


def _consistency_failed() -> MismatchError:
    return MismatchError("log.consistency_failed", "the log is not a continuation of the one seen")
