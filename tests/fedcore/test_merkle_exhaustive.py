"""Every place of every log of up to 300 entries, against RFC 6962 read word by word."""

import hashlib
from functools import cache

import pytest

from fedcore import merkle
from fedcore.errors import MismatchError
from fedcore.merkle import Node, Peaks, Span

LARGEST = 300
LEAVES = [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(LARGEST)]


class Rfc6962:
    """Section 2.1 as it is written: D[k1:k2] is a pair of numbers, k the greatest power below n."""

    @staticmethod
    def k(n: int) -> int:
        power = 1
        while power * 2 < n:
            power *= 2
        return power

    @staticmethod
    @cache
    def mth(k1: int, k2: int) -> bytes:
        n = k2 - k1
        if n == 0:
            return hashlib.sha256(b"").digest()
        if n == 1:
            return hashlib.sha256(b"\x00" + k1.to_bytes(4, "big")).digest()
        k = Rfc6962.k(n)
        left, right = Rfc6962.mth(k1, k1 + k), Rfc6962.mth(k1 + k, k2)
        return hashlib.sha256(b"\x01" + left + right).digest()

    @staticmethod
    def path(m: int, k1: int, k2: int) -> list[bytes]:
        n = k2 - k1
        if n == 1:
            return []
        k = Rfc6962.k(n)
        if m < k:
            return [*Rfc6962.path(m, k1, k1 + k), Rfc6962.mth(k1 + k, k2)]
        return [*Rfc6962.path(m - k, k1 + k, k2), Rfc6962.mth(k1, k1 + k)]

    @staticmethod
    def subproof(m: int, k1: int, k2: int, b: bool) -> list[bytes]:
        n = k2 - k1
        if m == n:
            return [] if b else [Rfc6962.mth(k1, k2)]
        k = Rfc6962.k(n)
        if m <= k:
            return [*Rfc6962.subproof(m, k1, k1 + k, b), Rfc6962.mth(k1 + k, k2)]
        return [*Rfc6962.subproof(m - k, k1 + k, k2, False), Rfc6962.mth(k1, k1 + k)]


@pytest.fixture(scope="module")
def tree() -> dict[Node, bytes]:
    """All perfect subtrees, kept as the log keeps them: as each leaf arrives."""
    hashes: dict[Node, bytes] = {}
    for index, leaf in enumerate(LEAVES):
        siblings = {node: hashes[node] for node in merkle.left_siblings(index)}
        hashes[Node(0, index)] = leaf
        hashes |= merkle.completed_nodes(index, leaf, siblings)
    return hashes


def flipped(nodes: list[bytes], bit: int) -> list[bytes]:
    number = int.from_bytes(b"".join(nodes), "big") ^ (1 << bit)
    whole = number.to_bytes(32 * len(nodes), "big")
    return [whole[start : start + 32] for start in range(0, len(whole), 32)]


def test_the_root_of_every_size_is_that_of_the_standard(tree: dict[Node, bytes]) -> None:
    peaks = Peaks()
    for size in range(LARGEST + 1):
        expected = Rfc6962.mth(0, size)
        assert merkle.span_root(Span(0, size), tree) == expected
        assert merkle.root_hash(LEAVES[:size]) == expected
        assert (peaks.size, peaks.root()) == (size, expected)
        peaks.append(LEAVES[size % LARGEST])


def test_every_place_of_every_log_is_proved_and_no_flipped_bit_passes(
    tree: dict[Node, bytes],
) -> None:
    """One bit of each proof, leaf and root is flipped, another one at each place of each size."""
    for size in range(1, LARGEST + 1):
        root = Rfc6962.mth(0, size)
        for index in range(size):
            proof = [merkle.span_root(s, tree) for s in merkle.inclusion_spans(index, size)]
            assert proof == Rfc6962.path(index, 0, size)
            merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
            shown = [LEAVES[index], root, *proof]
            leaf, claimed, *forged = flipped(shown, (size * 7919 + index) % (256 * len(shown)))
            with pytest.raises(MismatchError, match=r"log\.inclusion_failed"):
                merkle.verify_inclusion(leaf, index, size, forged, claimed)


def test_every_log_continues_each_of_its_prefixes_and_no_flipped_bit_passes(
    tree: dict[Node, bytes],
) -> None:
    for new in range(1, LARGEST + 1):
        root = Rfc6962.mth(0, new)
        for old in range(1, new):
            before = Rfc6962.mth(0, old)
            proof = [merkle.span_root(s, tree) for s in merkle.consistency_spans(old, new)]
            assert proof == Rfc6962.subproof(old, 0, new, True)
            merkle.verify_consistency(old, before, new, root, proof)
            shown = [before, root, *proof]
            earlier, later, *forged = flipped(shown, (new * 7919 + old) % (256 * len(shown)))
            with pytest.raises(MismatchError, match=r"log\.consistency_failed"):
                merkle.verify_consistency(old, earlier, new, later, forged)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21])
def test_every_single_bit_of_a_small_proof_counts(size: int) -> None:
    root = merkle.root_hash(LEAVES[:size])
    for index in range(size):
        shown = [LEAVES[index], root, *merkle.inclusion_proof(LEAVES[:size], index)]
        for bit in range(256 * len(shown)):
            leaf, claimed, *forged = flipped(shown, bit)
            with pytest.raises(MismatchError):
                merkle.verify_inclusion(leaf, index, size, forged, claimed)


def test_a_log_keeps_fewer_subtrees_than_leaves_and_a_proof_needs_few(
    tree: dict[Node, bytes],
) -> None:
    assert len([node for node in tree if node.level > 0]) < LARGEST
    size = 1_000_003
    for index in (0, 1, 524_288, 999_999, 1_000_002):
        spans = merkle.inclusion_spans(index, size)
        assert sum(len(merkle.nodes_of(span)) for span in spans) <= 2 * size.bit_length()
