"""Governance's keys over time: what follows from a key, and what never does."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import FedError, InvalidRecordError, MismatchError, SignatureError
from fedcore.handovers import (
    GovernanceKeys,
    KeyHandover,
    follow_handovers,
    open_handover,
    sign_handover,
    verify_extends,
)
from fedcore.permits import Revocation
from fedcore.record import Realm
from fedcore.signing import sign_record

PRODUCTION = Realm.PRODUCTION
NAMES = ("first", "second", "third", "fourth")


@pytest.fixture(scope="module")
def keys(documents):
    return [documents.key_of(name) for name in NAMES]


@pytest.fixture(scope="module")
def stranger(documents):
    return documents.key_of("stranger")


@pytest.fixture(scope="module")
def handed(documents):
    """A hand-over between two keys, signed by both, some minutes after the start."""

    def of(old, new, minutes, realm=PRODUCTION):
        return sign_handover(old, new, realm, "regular", documents.at(minutes))

    return of


@pytest.fixture(scope="module")
def chain(keys, handed):
    """Three hand-overs between four keys, at minutes 10, 20 and 30."""
    pairs = enumerate(itertools.pairwise(keys), 1)
    return [handed(old, new, 10 * number) for number, (old, new) in pairs]


@pytest.fixture(scope="module")
def signed(documents):
    """A document that says when it was signed."""

    def of(key, minutes, realm=PRODUCTION):
        record = Revocation(
            run_id="run-1",
            permit=documents.digest("permit"),
            reason="x",
            revoked_at=documents.at(minutes),
        )
        return sign_record(record, key, realm)

    return of


def code_of(act, *arguments):
    with pytest.raises(FedError) as caught:
        act(*arguments)
    return caught.value.code


def test_without_hand_overs_there_is_the_one_key(keys):
    found = follow_handovers(keys[0].public, [], PRODUCTION)
    assert found == GovernanceKeys.of(keys[0].public)
    assert (found.current, found.knows(keys[1].public)) == (keys[0].public, False)


@pytest.mark.parametrize("pinned", range(4))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_all_keys_follow_from_any_of_them_in_whatever_order_they_are_told(
    keys, chain, documents, pinned, order
):
    shuffled = [chain[place] for place in order]
    found = follow_handovers(keys[pinned].public, shuffled, PRODUCTION)
    assert [held.key for held in found.held] == [key.public for key in keys]
    retired = [held.retired_at for held in found.held]
    assert retired == [documents.at(10), documents.at(20), documents.at(30), None]
    assert found.handovers == tuple(chain)
    assert found.current == keys[-1].public


def test_hand_overs_of_strangers_lead_nowhere(keys, chain, handed, stranger, documents):
    elsewhere = handed(stranger, documents.key_of("a friend of theirs"), 5)
    found = follow_handovers(keys[0].public, [*chain, elsewhere], PRODUCTION)
    assert found == follow_handovers(keys[0].public, chain, PRODUCTION)
    assert follow_handovers(keys[0].public, [elsewhere], PRODUCTION).current == keys[0].public


def test_one_key_has_one_successor_and_one_predecessor(keys, chain, handed, stranger):
    pinned = keys[0].public
    for other in (handed(keys[0], stranger, 10), handed(keys[0], keys[1], 11)):
        assert code_of(follow_handovers, pinned, [*chain, other], PRODUCTION) == "handover.forked"
    usurper = handed(stranger, keys[1], 10)
    assert code_of(follow_handovers, pinned, [*chain, usurper], PRODUCTION) == "handover.forked"
    assert follow_handovers(pinned, [*chain, chain[0]], PRODUCTION).handovers == tuple(chain)


def test_a_circle_and_a_hand_over_before_its_time_are_refused(keys, chain, handed):
    back = handed(keys[-1], keys[0], 40)
    assert code_of(follow_handovers, keys[1].public, [*chain, back], PRODUCTION) == (
        "handover.invalid"
    )
    early = [chain[0], handed(keys[1], keys[2], 9)]
    assert code_of(follow_handovers, keys[0].public, early, PRODUCTION) == "handover.invalid"


def test_a_key_does_not_hand_over_to_itself(chain):
    plain = KeyHandover.from_bytes(chain[0].payload_bytes).to_json()
    KeyHandover.from_json(plain)
    itself = plain | {"new_key": plain["old_key"]}
    assert code_of(KeyHandover.from_json, itself) == "record.invalid"


def changed(envelope, key, **update):
    handover = KeyHandover.from_bytes(envelope.payload_bytes).model_copy(update=update)
    return sign_record(handover, key, PRODUCTION)


def test_a_hand_over_needs_both_signatures_over_the_same_words(keys, chain, handed, stranger):
    first, second, third = keys[:3]
    open_handover(chain[0], PRODUCTION)
    to_third = open_handover(handed(first, third, 10), PRODUCTION)
    lies = {
        "signed by a stranger": changed(chain[0], stranger),
        "signed by the new key": changed(chain[0], second),
        "another new key": changed(chain[0], first, new_key=stranger.public),
        "an acceptance of another": changed(chain[0], first, acceptance=to_third.acceptance),
        "another old key": changed(chain[0], first, old_key=stranger.public),
        "another time": changed(chain[0], first, issued_at=to_third.issued_at + timedelta(1)),
        "another realm inside": changed(chain[0], first, realm=Realm.SIMULATION),
        "no acceptance": changed(chain[0], first, acceptance=chain[0]),
    }
    for name, lie in lies.items():
        with pytest.raises((SignatureError, MismatchError, InvalidRecordError)):
            open_handover(lie, PRODUCTION)
        assert code_of(follow_handovers, first.public, [lie], PRODUCTION), name
    assert code_of(open_handover, chain[0], Realm.SIMULATION) == "signature.wrong_type"


class TestDocuments:
    @pytest.fixture
    def found(self, keys, chain):
        return follow_handovers(keys[0].public, chain[:1], PRODUCTION)

    def test_a_key_speaks_for_its_own_time(self, found, keys, signed, documents):
        for envelope in (signed(keys[0], 10), signed(keys[0], 3), signed(keys[1], 99)):
            assert found.open(envelope, Revocation, PRODUCTION).run_id == "run-1"

    def test_a_retired_key_signs_nothing_later(self, found, keys, signed):
        late = signed(keys[0], 11)
        assert code_of(found.open, late, Revocation, PRODUCTION) == "signature.key_retired"
        alone = GovernanceKeys.of(keys[0].public)
        assert alone.open(late, Revocation, PRODUCTION).run_id == "run-1"

    def test_where_only_the_current_key_counts_a_retired_one_does_not(self, found, keys, signed):
        early = signed(keys[0], 3)
        assert code_of(found.open_current, early, Revocation, PRODUCTION) == (
            "signature.key_retired"
        )
        assert found.open_current(signed(keys[1], 3), Revocation, PRODUCTION)

    def test_a_stranger_a_later_key_and_the_other_realm_are_nothing(
        self, found, keys, signed, stranger
    ):
        for act in (found.open, found.open_current):
            for key in (stranger, keys[2]):
                assert code_of(act, signed(key, 3), Revocation, PRODUCTION) == "signature.wrong_key"
            other = signed(keys[1], 3, Realm.SIMULATION)
            assert code_of(act, other, Revocation, PRODUCTION) == "signature.wrong_type"

    def test_a_contract_states_no_time_and_counts_for_as_long_as_it_is_named(
        self, found, keys, documents
    ):
        contract = documents.contract_of()
        envelope = sign_record(contract, keys[0], PRODUCTION)
        assert found.open(envelope, type(contract), PRODUCTION) == contract


class TestMemory:
    @given(known=st.integers(0, 3), offered=st.integers(0, 3))
    def test_what_was_seen_may_only_grow(self, chain, known, offered):
        if known <= offered:
            verify_extends(chain[:known], chain[:offered], PRODUCTION)
        else:
            assert code_of(verify_extends, chain[:known], chain[:offered], PRODUCTION) == (
                "handover.rollback"
            )

    def test_another_successor_than_the_one_seen_is_a_fork(self, chain, keys, handed, stranger):
        for other in (handed(keys[1], stranger, 20), handed(keys[1], keys[2], 21)):
            offered = [chain[0], other]
            assert code_of(verify_extends, chain[:2], offered, PRODUCTION) == "handover.forked"
        verify_extends(chain[:1], [chain[0], handed(keys[1], stranger, 20)], PRODUCTION)
