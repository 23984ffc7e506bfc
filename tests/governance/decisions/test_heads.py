"""Which ledger heads may be witnessed."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.bulletins import HeadClaim, WitnessedHead
from fedcore.errors import MismatchError, RollbackError
from governance.decisions.heads import GENESIS, verify_head_claim

BODIES = tuple(hashlib.sha256(bytes([number])).hexdigest() for number in range(10))


def head(sequence, bodies=BODIES):
    running = bytes(32)
    for body in bodies[:sequence]:
        running = hashlib.sha256(running + bytes.fromhex(body)).digest()
    return WitnessedHead(sequence=sequence, hash=running.hex())


def claim(since, sequence, bodies=BODIES, **changes):
    values = {
        "sequence": sequence,
        "hash": head(sequence, bodies).hash,
        "since": since,
        "body_digests": bodies[since:sequence],
    }
    return HeadClaim(**{**values, **changes})


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_a_true_continuation_is_witnessed_from_any_earlier_head(a, b, c):
    since, newest, sequence = sorted((a, b, c))
    found = verify_head_claim(claim(since, sequence), head(since), head(newest))
    assert found == head(sequence)


def test_repeating_the_witnessed_head_is_fine():
    assert verify_head_claim(claim(4, 4), head(4), head(4)) == head(4)
    assert verify_head_claim(claim(0, 0), GENESIS, GENESIS) == GENESIS


def test_a_head_older_than_the_newest_is_a_rollback():
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        verify_head_claim(claim(2, 3), head(2), head(4))
    assert verify_head_claim(claim(2, 4), head(2), head(4)) == head(4)


def test_a_start_that_was_never_witnessed_is_a_rollback():
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        verify_head_claim(claim(2, 5), None, head(4))


@pytest.mark.parametrize("changed", range(5))
def test_a_chain_that_misses_the_newest_witnessed_head_is_a_rollback(changed):
    other = tuple("ff" * 32 if number == changed else body for number, body in enumerate(BODIES))
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        verify_head_claim(claim(0, 8, other), GENESIS, head(5))


def test_another_hash_for_the_witnessed_sequence_is_a_rollback():
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        verify_head_claim(claim(4, 4, hash="ee" * 32), head(4), head(4))


def test_a_claim_that_contradicts_itself_is_refused():
    with pytest.raises(MismatchError, match=r"ledger\.claim_mismatch"):
        verify_head_claim(claim(4, 6, hash="ee" * 32), head(4), head(4))
    with pytest.raises(MismatchError, match=r"ledger\.claim_mismatch"):
        verify_head_claim(claim(4, 6, body_digests=BODIES[4:7]), head(4), head(4))
