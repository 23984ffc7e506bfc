"""What became of an objection, at governance: one current state, and the set that follows."""

import hashlib

import pytest
from sqlalchemy import text

from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.optouts import set_digest
from registry.database import Database

pytestmark = pytest.mark.databases

CUSTOMER = hashlib.sha256(b"customer").hexdigest()


def hand_over(world, sequence, **changes):
    event = world.opt_out("north", sequence, pseudonym=CUSTOMER, **changes)
    world.gateway().submit_opt_out(world.sign(event, "north"))
    return event


def in_set(world):
    """Whether the customer is in the set that a bulletin's digest is of."""
    known = {set_digest(frozenset()): False}
    known[set_digest(frozenset({(CUSTOMER, "marketing")}))] = True
    return known[world.bulletin("north").set_digest]


def test_a_withdrawal_comes_back_by_bulletin_and_ends_the_exclusion(world):
    assert not in_set(world)
    hand_over(world, 1)
    assert in_set(world)
    taken_back = hand_over(world, 2, act="withdrawn")
    assert not in_set(world)
    bulletin = world.bulletin("north", after_sequence=1)
    assert [envelope.digest for envelope in bulletin.events] == [taken_back.digest]
    hand_over(world, 2, act="withdrawn")
    hand_over(world, 3)
    assert in_set(world)


def test_an_objection_on_two_grounds_stands_until_both_have_ended(world):
    hand_over(world, 1)
    hand_over(world, 2, ground="art21_1")
    hand_over(world, 3, ground="art21_1", act="rejected", reason="legal_claims")
    assert in_set(world)
    hand_over(world, 4, act="withdrawn")
    assert not in_set(world)


def test_an_act_that_the_table_does_not_allow_is_refused_and_leaves_nothing(world):
    hand_over(world, 1)
    with pytest.raises(ConflictError, match=r"opt_out\.act_not_open"):
        hand_over(world, 2, ground="art21_1", act="upheld")
    assert in_set(world)
    assert world.bulletin("north").last_sequence == 1
    hand_over(world, 2, ground="art21_1")
    hand_over(world, 3, ground="art21_1", act="upheld")


def test_a_consent_is_kept_and_is_no_objection(world):
    hand_over(world, 1, ground="art7_3", act="consented")
    assert not in_set(world)
    hand_over(world, 2, ground="art7_3")
    assert in_set(world)


def test_a_ground_that_this_governance_does_not_know_is_refused(world):
    """As an older one refuses the newer grounds: the node keeps its events until the upgrade."""
    sound = world.opt_out("north", 1)
    for unknown in ({"ground": "art99"}, {"act": "forgotten"}):
        event = world.sign(sound.model_copy(update=unknown), "north")
        with pytest.raises(InvalidRecordError, match=r"record\.invalid"):
            world.gateway().submit_opt_out(event)
    world.gateway().submit_opt_out(world.sign(sound, "north"))


def test_the_database_holds_one_current_state_of_an_objection(world):
    hand_over(world, 1)
    hand_over(world, 2, act="withdrawn")
    database = Database(world.settings.database_url)
    with database.reading() as session:
        rows = session.connection().execute(text("SELECT state, sequence FROM opt_out_states"))
        assert [tuple(row) for row in rows] == [("withdrawn", 2)]
    database.close()
