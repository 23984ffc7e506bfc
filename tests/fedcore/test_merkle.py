"""The Merkle tree against published vectors, every small size, and a lying server."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedcore import merkle
from fedcore.errors import InvalidRecordError, MismatchError, RollbackError

# The reference tree of the Certificate Transparency implementations (merkle_tree_test).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (index, size): proof
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {  # (old size, new size): proof
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def hashes(size: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(size)]


REFERENCE = [merkle.leaf_hash(leaf) for leaf in LEAVES]


def test_roots_are_those_of_the_reference_tree() -> None:
    assert [merkle.root_hash(REFERENCE[:n]).hex() for n in range(1, 9)] == ROOTS


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.root_hash([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference_tree(index: int, size: int) -> None:
    proof = merkle.inclusion_proof(REFERENCE[:size], index)
    assert [node.hex() for node in proof] == INCLUSION[index, size]


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference_tree(old: int, new: int) -> None:
    proof = merkle.consistency_proof(REFERENCE[:new], old)
    assert [node.hex() for node in proof] == CONSISTENCY[old, new]


@pytest.mark.parametrize("size", range(1, 65))
def test_every_leaf_of_every_small_log_is_proved(size: int) -> None:
    leaves = hashes(size)
    root = merkle.root_hash(leaves)
    for index, leaf in enumerate(leaves):
        proof = merkle.inclusion_proof(leaves, index)
        merkle.verify_inclusion(leaf, index, size, proof, root)


@pytest.mark.parametrize("new", range(41))
def test_every_small_log_continues_each_of_its_prefixes(new: int) -> None:
    leaves = hashes(new)
    root = merkle.root_hash(leaves)
    for old in range(new + 1):
        proof = merkle.consistency_proof(leaves, old)
        merkle.verify_consistency(old, merkle.root_hash(leaves[:old]), new, root, proof)


def forgeries(proof: Sequence[bytes], data: st.DataObject) -> list[bytes]:
    """One way in which a server may alter a proof; always different from `proof`."""
    forged = list(proof)
    act = data.draw(st.sampled_from(["flip", "drop", "add", "swap"]))
    place = data.draw(st.integers(0, max(len(forged) - 1, 0)))
    if act == "add" or not forged:
        node = data.draw(st.sampled_from([*hashes(3), bytes(32), *forged]))
        forged.insert(data.draw(st.integers(0, len(forged))), node)
    elif act == "flip":
        position = data.draw(st.integers(0, 255))
        value = int.from_bytes(forged[place], "big") ^ (1 << position)
        forged[place] = value.to_bytes(32, "big")
    elif act == "drop":
        del forged[place]
    else:
        forged[place], forged[-1] = forged[-1], forged[place]
    assume(forged != list(proof))
    return forged


@given(data=st.data(), size=st.integers(1, 70))
def test_a_forged_inclusion_proof_is_refused(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    forged = forgeries(merkle.inclusion_proof(leaves, index), data)
    with pytest.raises(MismatchError) as refusal:
        merkle.verify_inclusion(leaves[index], index, size, forged, merkle.root_hash(leaves))
    assert refusal.value.code == "log.inclusion_failed"


@given(data=st.data(), size=st.integers(2, 70))
def test_a_leaf_is_proved_at_its_own_place_and_under_its_own_root_only(
    data: st.DataObject, size: int
) -> None:
    leaves = hashes(size)
    index, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    assume(index != other)
    proof, root = merkle.inclusion_proof(leaves, index), merkle.root_hash(leaves)
    for leaf, place, claimed in (
        (leaves[index], other, root),
        (leaves[other], index, root),
        (leaves[index], index, merkle.root_hash(leaves[:-1])),
    ):
        with pytest.raises(MismatchError):
            merkle.verify_inclusion(leaf, place, size, proof, claimed)
    merkle.verify_inclusion(leaves[index], index, size, proof, root)


@given(data=st.data(), new=st.integers(1, 70))
def test_a_forged_consistency_proof_is_refused(data: st.DataObject, new: int) -> None:
    leaves = hashes(new)
    old = data.draw(st.integers(0, new))
    forged = forgeries(merkle.consistency_proof(leaves, old), data)
    old_root, root = merkle.root_hash(leaves[:old]), merkle.root_hash(leaves)
    with pytest.raises(MismatchError) as refusal:
        merkle.verify_consistency(old, old_root, new, root, forged)
    assert refusal.value.code == "log.consistency_failed"


@given(data=st.data(), new=st.integers(1, 70))
def test_a_rewritten_log_does_not_continue_the_old_one(data: st.DataObject, new: int) -> None:
    leaves = hashes(new)
    old = data.draw(st.integers(1, new))
    rewritten = list(leaves)
    rewritten[data.draw(st.integers(0, old - 1))] = merkle.leaf_hash(b"rewritten")
    old_root, root = merkle.root_hash(leaves[:old]), merkle.root_hash(rewritten)
    for proof in (merkle.consistency_proof(rewritten, old), merkle.consistency_proof(leaves, old)):
        with pytest.raises(MismatchError):
            merkle.verify_consistency(old, old_root, new, root, proof)


@given(data=st.data(), new=st.integers(2, 70))
def test_a_consistency_proof_holds_for_its_own_old_log_only(data: st.DataObject, new: int) -> None:
    leaves = hashes(new)
    old, other = (data.draw(st.integers(1, new)) for _ in range(2))
    assume(old != other)
    root, proof = merkle.root_hash(leaves), merkle.consistency_proof(leaves, old)
    with pytest.raises(MismatchError):
        merkle.verify_consistency(other, merkle.root_hash(leaves[:old]), new, root, proof)
    merkle.verify_consistency(old, merkle.root_hash(leaves[:old]), new, root, proof)


@given(data=st.data(), size=st.integers(2, 70))
def test_proofs_hold_for_the_size_and_root_of_their_own_checkpoint_only(
    data: st.DataObject, size: int
) -> None:
    leaves = hashes(size)
    other = data.draw(st.integers(1, size - 1))
    index = data.draw(st.integers(0, other - 1))
    other_root, root = merkle.root_hash(leaves[:other]), merkle.root_hash(leaves)
    with pytest.raises(MismatchError):
        merkle.verify_inclusion(
            leaves[index], index, other, merkle.inclusion_proof(leaves, index), other_root
        )
    old_root = merkle.root_hash(leaves[: index + 1])
    proof = merkle.consistency_proof(leaves, index + 1)
    with pytest.raises(MismatchError):
        merkle.verify_consistency(index + 1, old_root, other, other_root, proof)
    shorter = merkle.consistency_proof(leaves[:other], index + 1)
    merkle.verify_consistency(index + 1, old_root, other, other_root, shorter)
    with pytest.raises(MismatchError):
        merkle.verify_consistency(index + 1, old_root, size, root, shorter)


@pytest.mark.parametrize(("size", "claimed"), [(4, 8), (8, 4), (8, 16), (2, 4), (4, 2)])
def test_a_proof_of_the_wrong_height_is_refused_though_it_leads_to_the_root(
    size: int, claimed: int
) -> None:
    leaves = hashes(size)
    root, first = merkle.root_hash(leaves), merkle.leaf_hash(bytes(4))
    inclusion, consistency = (
        merkle.inclusion_proof(leaves, 0),
        merkle.consistency_proof(leaves, 1),
    )
    with pytest.raises(MismatchError):
        merkle.verify_inclusion(first, 0, claimed, inclusion, root)
    with pytest.raises(MismatchError):
        merkle.verify_consistency(1, first, claimed, root, consistency)
    merkle.verify_inclusion(first, 0, size, inclusion, root)
    merkle.verify_consistency(1, first, size, root, consistency)


@pytest.mark.parametrize(("size", "claimed"), [(2, 1), (8, 4), (4, 8)])
def test_the_last_leaf_is_not_proved_by_a_proof_of_the_wrong_height(
    size: int, claimed: int
) -> None:
    leaves = hashes(size)
    root, proof = merkle.root_hash(leaves), merkle.inclusion_proof(leaves, size - 1)
    with pytest.raises(MismatchError):
        merkle.verify_inclusion(leaves[-1], claimed - 1, claimed, proof, root)
    merkle.verify_inclusion(leaves[-1], size - 1, size, proof, root)


def test_a_smaller_log_is_a_rollback() -> None:
    leaves = hashes(5)
    roots = merkle.root_hash(leaves), merkle.root_hash(leaves[:3])
    with pytest.raises(RollbackError) as refusal:
        merkle.verify_consistency(5, roots[0], 3, roots[1], [])
    assert refusal.value.code == "log.rollback"


def test_two_roots_of_one_size_are_a_fork() -> None:
    root = merkle.root_hash(hashes(3))
    with pytest.raises(MismatchError):
        merkle.verify_consistency(3, root, 3, bytes(32), [])
    merkle.verify_consistency(3, root, 3, root, [])


def test_the_empty_log_has_one_root() -> None:
    root = merkle.root_hash(hashes(3))
    with pytest.raises(MismatchError):
        merkle.verify_consistency(0, bytes(32), 3, root, [])
    merkle.verify_consistency(0, merkle.root_hash([]), 3, root, [])


def test_a_leaf_cannot_pass_for_a_node() -> None:
    left, right = hashes(2)
    assert merkle.leaf_hash(left + right) != merkle.root_hash([left, right])


def test_impossible_arguments_are_invalid_records() -> None:
    leaves = hashes(3)
    root = merkle.root_hash(leaves)
    with pytest.raises(InvalidRecordError):
        merkle.inclusion_proof(leaves, 3)
    with pytest.raises(InvalidRecordError):
        merkle.inclusion_proof(leaves, -1)
    with pytest.raises(InvalidRecordError):
        merkle.consistency_proof(leaves, 4)
    with pytest.raises(InvalidRecordError):
        merkle.verify_inclusion(leaves[0], 3, 3, [], root)
    with pytest.raises(InvalidRecordError):
        merkle.verify_inclusion(leaves[0], 0, 3, [b"short"], root)
    with pytest.raises(InvalidRecordError):
        merkle.verify_consistency(-1, root, 3, root, [])
    with pytest.raises(InvalidRecordError):
        merkle.root_hash([b"short"])
