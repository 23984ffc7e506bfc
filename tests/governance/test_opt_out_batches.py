"""Opt-outs in bulk through the API: batches in, history out, one set whichever way they came."""

import hashlib
import itertools

import pytest

from fedcore.errors import (
    ConflictError,
    ExpiredError,
    FedError,
    NotFoundError,
    RefusedError,
    SignatureError,
)
from fedcore.opt_out_batches import batch_of, entries_of, events_of, open_document, reissue_of
from fedcore.opt_out_history import unpack
from fedcore.opt_out_sets import set_digest_of
from fedcore.optouts import Entry, Said, microseconds, states_of
from registry import optouts
from registry.database import Database

pytestmark = pytest.mark.databases


def hand_over(world, document, unit="north"):
    gateway = world.gateway()
    send = gateway.submit_opt_out if hasattr(document, "act") else gateway.submit_opt_outs
    send(world.sign(document, unit))
    return document


def history(world, after=0, unit="north", **changes):
    request = world.history_request(unit, after_sequence=after, **changes)
    part = world.gateway().fetch_opt_outs(world.sign(request, unit))
    key, realm = world.keys[unit].public, world.settings.realm
    return [open_document(envelope, key, realm) for envelope in unpack(part, realm)]


def entry_of(document, place):
    return list(entries_of(document))[place]


def batch(world, first, *said):
    """A batch of one customer's words."""
    pseudonym = hashlib.sha256(b"customer").hexdigest()
    at = microseconds(world.clock.now)
    return batch_of("north", first, 1, [Entry(pseudonym, word, at, 1) for word in said])


def test_single_events_and_batches_are_one_sequence_and_make_one_set(world):
    handed = [
        hand_over(world, world.opt_out("north", 1)),
        hand_over(world, world.batch("north", 2, 300)),
        hand_over(
            world,
            world.opt_out(
                "north", 302, pseudonym=world.opt_out("north", 5).pseudonym, act="withdrawn"
            ),
        ),
        hand_over(world, world.batch("north", 303)),
    ]
    said = [entry for document in handed for entry in entries_of(document)]
    assert history(world) == handed
    assert history(world, after=5) == handed[1:]
    assert history(world, after=302) == handed[3:]
    first = world.newest_bulletin("north")
    assert (first.last_sequence, first.set_digest) == (305, set_digest_of(states_of(said)))
    late = hand_over(world, world.opt_out("north", 306, ground="art18"))
    second = world.newest_bulletin("north", after_sequence=305)
    assert second.set_digest == set_digest_of(states_of([*said, late.entry]))
    assert world.newest_bulletin("south").set_digest == set_digest_of({})


def test_a_repeated_batch_changes_nothing_and_another_in_its_place_is_refused(world):
    sent = hand_over(world, world.batch("north", 1))
    digest = world.newest_bulletin("north").set_digest
    hand_over(world, sent)
    for first, code in ((5, r"sequence_gap"), (1, r"sequence_known"), (2, r"sequence_known")):
        with pytest.raises(ConflictError, match=rf"opt_out\.{code}"):
            hand_over(world, world.batch("north", first, 4))
    with pytest.raises(ConflictError, match=r"opt_out\.sequence_known"):
        hand_over(world, world.opt_out("north", 1))
    assert world.newest_bulletin("north").set_digest == digest
    hand_over(world, world.batch("north", 4))


def test_a_batch_of_re_issues_is_held_against_what_it_repeats_and_against_the_table(world):
    """As single re-issues are: each lie beside the true one, which is then taken."""
    hand_over(world, world.batch("north", 1, 300))
    hand_over(world, world.opt_out("north", 301))
    first = [entry for one in history(world) for entry in entries_of(one)]
    states = world.newest_bulletin("north").set_digest
    said = []
    for number, old in [(2, first[1]), (301, first[300])]:
        new = old._replace(pseudonym=f"{number:064x}", key_version=2, repeats=number)
        ended = old.said._replace(act="reissued", channel="rotation")
        said += [new, old._replace(said=ended, successor=new.pseudonym, repeats=number)]
    other = said[0].said._replace(purpose="churn-prediction")
    lies = {
        "opt_out.repeat_differs": [
            [said[0]._replace(said=other), *said[1:]],
            [said[0]._replace(repeats=3, received_us=0), *said[1:]],
            [*said[:3], said[3]._replace(said=said[3].said._replace(ground="gpc"))],
        ],
        "opt_out.act_not_open": [[said[1]], [said[0], said[1]._replace(successor="ab" * 32)]],
    }
    for code, each in lies.items():
        for wrong in each:
            with pytest.raises(FedError) as error:
                hand_over(world, reissue_of("north", 302, wrong))
            assert error.value.code == code
    assert world.newest_bulletin("north").set_digest == states
    taken = hand_over(world, reissue_of("north", 302, said))
    hand_over(world, taken)
    assert history(world, after=301) == [taken]
    digest = set_digest_of(states_of([*first, *said]))
    assert world.newest_bulletin("north").set_digest == digest
    with pytest.raises(FedError, match=r"opt_out\.repeat_differs"):
        hand_over(world, reissue_of("north", 306, [said[0]._replace(repeats=302, key_version=3)]))
    status = world.gateway("dpo").fetch_opt_out("north", 302)
    assert (status.newest, status.state) == (2, "excluded")


def test_a_batch_with_one_act_that_is_not_open_leaves_nothing(world):
    objection = Said("marketing", "web", "art21_2")
    withdrawal = objection._replace(act="withdrawn")
    before = world.newest_bulletin("north")
    with pytest.raises(ConflictError, match=r"opt_out\.act_not_open"):
        hand_over(world, batch(world, 1, objection, withdrawal, withdrawal))
    after = world.newest_bulletin("north")
    assert (after.last_sequence, after.set_digest) == (0, before.set_digest)
    sound = hand_over(world, batch(world, 1, objection, withdrawal))
    assert world.newest_bulletin("north").set_digest == set_digest_of(states_of(sound.entries()))


def test_a_batch_counts_only_under_its_own_units_key_and_not_from_the_future(world):
    with pytest.raises(SignatureError, match=r"unit\.other_unit"):
        world.gateway().submit_opt_outs(world.sign(world.batch("north", 1), "south"))
    late = world.clock.now.replace(year=world.clock.now.year + 1)
    with pytest.raises(ExpiredError, match=r"request\.from_future"):
        hand_over(world, world.batch("north", 1, received_at=late))
    hand_over(world, world.batch("north", 1))


def test_a_history_is_shown_to_its_own_unit_while_there_is_more(world):
    with pytest.raises(ConflictError, match=r"opt_out\.history_ended"):
        history(world)
    hand_over(world, world.batch("north", 1))
    with pytest.raises(ConflictError, match=r"opt_out\.history_ended"):
        history(world, after=3)
    with pytest.raises(SignatureError, match=r"unit\.other_unit"):
        world.gateway().fetch_opt_outs(world.sign(world.history_request("north"), "south"))
    with pytest.raises(ExpiredError, match=r"request\.stale"):
        history(world, requested_at=world.clock.now.replace(year=2020))
    assert len(history(world)) == 1


def test_a_node_of_the_version_before_is_told_to_be_upgraded_once_there_are_batches(world):
    hand_over(world, world.opt_out("north", 1))
    assert world.bulletin("north").last_sequence == 1
    hand_over(world, world.batch("north", 2))
    with pytest.raises(RefusedError, match=r"bulletin\.node_outdated"):
        world.bulletin("north", after_sequence=1)
    assert world.bulletin("north", after_sequence=4).events == ()


def test_every_event_is_found_whichever_way_it_came(world):
    handed = [
        hand_over(world, world.opt_out("north", 1)),
        hand_over(world, world.batch("north", 2)),
        hand_over(world, world.opt_out("north", 5)),
        hand_over(world, world.batch("north", 6)),
    ]
    events = [event for document in handed for event in events_of(document)]
    hand_over(world, world.batch("south", 1), unit="south")
    database = Database(world.settings.database_url)
    with database.reading() as session:
        for after, limit in itertools.product(range(9), range(1, 9)):
            found = optouts.list_events(session, "north", after, limit)
            assert [stored.event for stored in found] == events[after : after + limit]
            assert {stored.recorded_at for stored in found} <= {world.clock.now}
        for wanted in itertools.chain(*(itertools.combinations(range(10), n) for n in (0, 1, 2))):
            known = optouts.find_events(session, "north", set(wanted))
            expected = {event.sequence: event for event in events if event.sequence in wanted}
            assert {number: stored.event for number, stored in known.items()} == expected
        assert optouts.first_after(session, "north", 2) == (3, world.clock.now)
        assert optouts.first_after(session, "north", 8) == (None, None)
    database.close()


def test_an_event_of_a_batch_says_how_it_acts_as_a_single_one_does(world):
    """Withdrawn by a later batch, by a single event, or by none; and what is not there is not."""
    said = Said("marketing", "web", "art21_2")
    first = hand_over(world, world.batch("north", 1, 4))
    second = hand_over(world, world.opt_out("north", 5, pseudonym=entry_of(first, 0).pseudonym))
    assert second.pseudonym == entry_of(first, 0).pseudonym
    back = entry_of(first, 1)._replace(said=said._replace(act="withdrawn"))
    hand_over(world, batch_of("north", 6, 1, [back]))
    world.clock.tick(minutes=30)
    world.newest_bulletin("north")
    office = world.gateway("dpo")
    whole = office.list_opt_outs("north")
    assert [office.fetch_opt_out("north", number) for number in range(1, 7)] == list(whole)
    assert [status.newest for status in whole] == [5, 6, 3, 4, 5, 6]
    assert [status.state for status in whole] == [
        *("excluded", "withdrawn", "excluded", "excluded", "excluded", "withdrawn")
    ]
    assert {status.lag_s for status in whole} == {1800}
    with pytest.raises(NotFoundError, match=r"opt_out\.unknown"):
        office.fetch_opt_out("north", 7)
