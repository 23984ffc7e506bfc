import itertools
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.bulletin import BulletinStore
from fedcore import merkle
from fedcore.contracts import purpose_line
from fedcore.errors import (
    ConflictError,
    ExpiredError,
    FedError,
    MismatchError,
    RollbackError,
    SignatureError,
    TrustError,
)
from fedcore.optouts import Bulletin, LogPosition, OptOutEvent, WitnessedHead, set_digest
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, sign_record

NODE, STRANGER = SigningKey.generate(), SigningKey.generate()
REALM = Realm.PRODUCTION
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(16)]
VALID = timedelta(minutes=15)


def pseudonym(number):
    return f"{number:064x}"


@pytest.fixture(scope="session")
def opt_out(start):
    """A signed opt-out by its sequence number."""

    def of(sequence, key=NODE, realm=REALM, **changes):
        values = {
            "unit": "north",
            "sequence": sequence,
            "pseudonym": pseudonym(sequence),
            "key_version": 1,
            "purpose": "retention",
            "channel": "unit",
            "ground": "art21_2",
            "received_at": start,
        }
        return sign_record(OptOutEvent(**{**values, **changes}), key, realm)

    return of


def log_of(size, leaves=LEAVES):
    return LogPosition(size=size, root=merkle.root_hash(leaves[:size]).hex())


@pytest.fixture(scope="session")
def bulletin_of(start):
    """A bulletin that answers a request after `after`, with events up to `last`."""

    def of(after, events, known=(), size=1, seen=0, **changes):
        entries = {
            (event.pseudonym, event.purpose)
            for event in (OptOutEvent.from_bytes(e.payload_bytes) for e in (*known, *events))
        }
        proof = merkle.consistency_proof(LEAVES[:size], seen)
        values = {
            "unit": "north",
            "nonce": "00" * 32,
            "realm": REALM,
            "epoch": 500,
            "events": tuple(events),
            "last_sequence": after + len(events),
            "set_digest": set_digest(frozenset(entries)),
            "revoked_runs": (),
            "log": log_of(size),
            "consistency": tuple(step.hex() for step in proof),
            "witnessed": WitnessedHead(sequence=1, hash="00" * 32),
            "issued_at": start,
            "valid_until": start + VALID,
        }
        return Bulletin(**{**values, **changes})

    return of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bulletin.db"


def opened(path):
    return closing(BulletinStore(path, "north", NODE.public, REALM))


@pytest.fixture
def store(path):
    with opened(path) as found:
        yield found


def contents(store):
    return store.events(), store.confirmed_sequence(), store.latest()


def refuses(store, code, kind, act, *arguments):
    """Expect a refusal that changes nothing."""
    before = contents(store)
    with pytest.raises(kind) as error:
        act(*arguments)
    assert error.value.code == code
    assert contents(store) == before


# Opt-outs


@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_another_process_adds_while_the_store_is_opened_is_no_damage(
    path, store, opt_out, monkeypatch, before
):
    """Opening reads more than once: another process may write before and after any of it."""
    reads = BulletinStore.events
    numbers = itertools.count(1)

    def reads_between_writes(self, *arguments):
        if self is store:
            return reads(self, *arguments)
        store.add(opt_out(next(numbers)))
        found = reads(self, *arguments)
        store.add(opt_out(next(numbers)))
        return found

    for _ in range(before):
        store.add(opt_out(next(numbers)))
    monkeypatch.setattr(BulletinStore, "events", reads_between_writes)
    with opened(path) as other:
        monkeypatch.undo()
        assert len(other.events()) == before + 2


def test_an_opt_out_excludes_before_governance_has_it_and_after_a_restart(path, opt_out):
    with opened(path) as store:
        store.add(opt_out(1))
        assert store.excluded(("retention",)) == {pseudonym(1)}
    with opened(path) as store:
        assert store.excluded(("retention",)) == {pseudonym(1)}
        assert store.pending() == [opt_out(1)]


def test_an_opt_out_covers_its_purpose_and_all_below_it(store, opt_out, contract):
    for sequence, purpose in enumerate(("marketing", "retention", "analytics"), start=1):
        store.add(opt_out(sequence, purpose=purpose))

    def excluded(purpose):
        return store.excluded(purpose_line(contract.purposes, purpose))

    assert excluded("retention") == {pseudonym(1), pseudonym(2)}
    assert excluded("marketing") == {pseudonym(1)}
    assert excluded("analytics") == {pseudonym(3)}


def test_opt_outs_are_gapless(store, opt_out):
    store.add(opt_out(1))
    for sequence in (1, 3):
        refuses(store, "opt_out.sequence_gap", MismatchError, store.add, opt_out(sequence))
    store.add(opt_out(2))


@pytest.mark.parametrize(
    ("changes", "code", "kind"),
    [
        ({"key": STRANGER}, "signature.wrong_key", SignatureError),
        ({"realm": Realm.SIMULATION}, "signature.wrong_type", SignatureError),
        ({"unit": "south"}, "opt_out.other_unit", MismatchError),
    ],
)
def test_a_foreign_opt_out_is_refused_wherever_it_comes_from(
    store, opt_out, bulletin_of, changes, code, kind
):
    foreign = opt_out(1, **changes)
    refuses(store, code, kind, store.add, foreign)
    refuses(store, code, kind, store.apply, bulletin_of(0, [foreign]), ("boot-1", 1000.0))
    store.apply(bulletin_of(0, [opt_out(1)]), ("boot-1", 1000.0))
    assert store.excluded(("retention",)) == {pseudonym(1)}


# Bulletins


def test_a_bulletin_confirms_what_was_pending_and_restores_what_was_lost(
    path, store, opt_out, bulletin_of, tmp_path
):
    events = [opt_out(1), opt_out(2)]
    for event in events:
        store.add(event)
    bulletin = bulletin_of(0, events)
    store.apply(bulletin, ("boot-1", 1000.0))
    assert contents(store)[1:] == (2, bulletin)
    assert store.pending() == []
    with opened(tmp_path / "reinstalled.db") as other:
        other.apply(bulletin, ("boot-1", 1000.0))
        assert other.events() == store.events()


def test_an_opt_out_that_came_in_meanwhile_stays_pending_and_excludes(store, opt_out, bulletin_of):
    store.add(opt_out(1))
    store.add(opt_out(2))
    store.apply(bulletin_of(0, [opt_out(1)]), ("boot-1", 1000.0))
    assert store.pending() == [opt_out(2)]
    assert store.excluded(("retention",)) == {pseudonym(1), pseudonym(2)}


def test_taking_a_bulletin_twice_is_harmless(store, opt_out, bulletin_of):
    first = bulletin_of(0, [opt_out(1)])
    again = bulletin_of(1, [], known=[opt_out(1)], size=1, seen=1)
    store.apply(first, ("boot-1", 1000.0))
    for _ in range(2):
        store.apply(again, ("boot-1", 1001.0))
        assert contents(store)[1:] == (1, again)
        assert [event.sequence for event in store.events()] == [1]


@pytest.mark.parametrize("case", ["gap", "rollback", "left out", "another", "set", "twice"])
def test_a_bulletin_that_lies_about_opt_outs_changes_nothing(store, opt_out, bulletin_of, case):
    known = [opt_out(1), opt_out(2)]
    store.apply(bulletin_of(0, known), ("boot-1", 1000.0))
    store.add(opt_out(3))
    more = {"known": known, "size": 1, "seen": 1}
    bulletin, code, kind = {
        "gap": (bulletin_of(2, [opt_out(4)], **more), "opt_out.sequence_gap", MismatchError),
        "rollback": (
            bulletin_of(2, [], **more, last_sequence=1),
            "bulletin.rollback",
            RollbackError,
        ),
        "left out": (
            bulletin_of(2, [], **more, last_sequence=3),
            "bulletin.rollback",
            RollbackError,
        ),
        "another": (
            bulletin_of(2, [opt_out(3, pseudonym=pseudonym(99))], **more),
            "opt_out.sequence_gap",
            MismatchError,
        ),
        "set": (
            bulletin_of(2, [opt_out(3)], **{**more, "known": known[:1]}),
            "bulletin.set_mismatch",
            MismatchError,
        ),
        "twice": (bulletin_of(0, known, size=1, seen=1), "opt_out.sequence_gap", MismatchError),
    }[case]
    refuses(store, code, kind, store.apply, bulletin, ("boot-1", 1000.0))
    store.apply(bulletin_of(2, [opt_out(3)], **more), ("boot-1", 1000.0))


def test_the_log_may_only_grow_from_what_was_seen(store, bulletin_of):
    store.apply(bulletin_of(0, [], size=5), ("boot-1", 1000.0))
    forked = [*LEAVES[:3], merkle.leaf_hash(b"another"), *LEAVES[4:]]
    lies = [
        (bulletin_of(0, [], size=8, seen=5, log=log_of(8, forked)), "log.consistency_failed"),
        (bulletin_of(0, [], size=5, seen=5, log=log_of(5, forked)), "log.consistency_failed"),
        (bulletin_of(0, [], size=8, seen=5, consistency=()), "log.consistency_failed"),
        (bulletin_of(0, [], size=4, seen=4), "log.rollback"),
    ]
    for bulletin, code in lies:
        refuses(store, code, TrustError, store.apply, bulletin, ("boot-1", 1000.0))
    store.apply(bulletin_of(0, [], size=8, seen=5), ("boot-1", 1000.0))
    assert store.log_position() == log_of(8)


def steps_of(act, *arguments):
    """Return how many calls and returns an act takes: work, not time."""
    count = itertools.count()
    sys.setprofile(lambda *_: next(count))
    try:
        act(*arguments)
    finally:
        sys.setprofile(None)
    return next(count)


@pytest.mark.parametrize("is_known", [False, True])
def test_the_work_of_a_bulletin_grows_as_its_opt_outs_do(tmp_path, opt_out, bulletin_of, is_known):
    events, steps = [opt_out(number) for number in range(1, 201)], []
    for count in (50, 200):
        with opened(tmp_path / f"{count}.db") as store:
            for event in events[:count] if is_known else ():
                store.add(event)
            bulletin = bulletin_of(0, events[:count])
            steps.append(steps_of(store.apply, bulletin, ("boot-1", 1000.0)))
            assert store.confirmed_sequence() == count
    assert 2 * steps[0] < steps[1] < 6 * steps[0]


def test_a_thousand_opt_outs_come_in_within_seconds(store, opt_out, bulletin_of):
    events = [opt_out(number) for number in range(1, 1001)]
    bulletin = bulletin_of(0, events)
    started = time.process_time()
    store.apply(bulletin, ("boot-1", 1000.0))
    assert time.process_time() - started < 3
    assert store.next_sequence() == 1001


def test_the_next_number_follows_what_is_stored_whoever_brought_it(store, opt_out, bulletin_of):
    assert store.next_sequence() == 1
    store.add(opt_out(1))
    assert store.next_sequence() == 2
    store.apply(bulletin_of(0, [opt_out(1), opt_out(2)]), ("boot-1", 1000.0))
    assert store.next_sequence() == 3


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("older", ["issued_at", "epoch", "both"])
def test_an_older_bulletin_never_takes_the_place_of_a_newer_one(
    path, store, opt_out, bulletin_of, start, older
):
    """Two processes asked; the answer to the first arrives last."""
    asked = ("boot-1", 1000.0)
    store.apply(bulletin_of(0, [opt_out(1)], size=3, epoch=501, issued_at=start + SECOND), asked)
    known = {"known": [opt_out(1)], "size": 5, "seen": 3}
    changes = {
        "issued_at": {"epoch": 501, "issued_at": start},
        "epoch": {"epoch": 500, "issued_at": start + SECOND},
        "both": {"epoch": 500, "issued_at": start},
    }[older]
    with opened(path) as late:
        late_one = bulletin_of(1, [], **known, **changes)
        refuses(late, "bulletin.rollback", RollbackError, late.apply, late_one, asked)
        assert late.log_position() == log_of(3)
        late.apply(bulletin_of(1, [], **known, epoch=501, issued_at=start + SECOND), asked)
    assert store.log_position() == log_of(5)


@hypothesis_settings(max_examples=30)
@given(st.lists(st.sampled_from(["add", "sync", "restart"]), max_size=14))
def test_in_any_order_of_acts_nobody_who_objected_is_forgotten(
    tmp_path_factory, opt_out, bulletin_of, acts
):
    path = tmp_path_factory.mktemp("acts") / "bulletin.db"
    taken: list[Envelope] = []
    store, size = BulletinStore(path, "north", NODE.public, REALM), 0
    try:
        for act in acts:
            if act == "add":
                taken.append(opt_out(len(taken) + 1))
                store.add(taken[-1])
            elif act == "sync":
                after = store.confirmed_sequence()
                store.apply(
                    bulletin_of(after, taken[after:], taken[:after], size=size + 1, seen=size),
                    ("boot-1", 1000.0),
                )
                size += 1
            else:
                store.close()
                store = BulletinStore(path, "north", NODE.public, REALM)
            excluded = store.excluded(("retention",))
            assert excluded == {pseudonym(number + 1) for number in range(len(taken))}
    finally:
        store.close()


def test_the_set_of_a_bulletin_is_that_of_objections_which_stand(store, opt_out, bulletin_of):
    """A governance that forgets a withdrawal, or invents one, holds another set."""
    events = [opt_out(1), opt_out(2), opt_out(3, pseudonym=pseudonym(1), act="withdrawn")]
    digests = {
        names: set_digest(frozenset((pseudonym(name), "retention") for name in names))
        for names in ((1, 2), (2,), ())
    }
    for names in ((1, 2), ()):
        forged = bulletin_of(0, events, set_digest=digests[names])
        asked = ("boot-1", 1000.0)
        refuses(store, "bulletin.set_mismatch", MismatchError, store.apply, forged, asked)
    store.apply(bulletin_of(0, events, set_digest=digests[2,]), ("boot-1", 1000.0))
    assert store.excluded(("retention",)) == {pseudonym(2)}


def test_a_bulletin_with_an_act_that_was_never_open_changes_nothing(store, opt_out, bulletin_of):
    asked = ("boot-1", 1000.0)
    impossible = bulletin_of(0, [opt_out(1, act="withdrawn")], set_digest=set_digest(frozenset()))
    refuses(store, "opt_out.act_not_open", ConflictError, store.apply, impossible, asked)
    store.apply(bulletin_of(0, [opt_out(1)]), asked)


# Freshness


@pytest.fixture
def pulled(store, bulletin_of, clock):
    """A store whose bulletin was asked for now."""
    store.apply(bulletin_of(0, []), clock.boot())
    return store


def stale(store, clock, code="bulletin.stale"):
    with pytest.raises(ExpiredError) as error:
        store.verify_fresh(clock)
    return error.value.code == code


def test_without_a_bulletin_nothing_is_fresh(store, clock):
    assert stale(store, clock)
    assert store.age(clock) is None
    assert store.log_position() is None
    store.verify_wall_time(clock.now())


def test_a_bulletin_is_fresh_until_its_time_has_passed_on_the_boot_clock(pulled, clock):
    clock.tick(VALID.total_seconds() - 0.001)
    assert pulled.verify_fresh(clock) == pulled.latest()
    clock.tick(0.001)
    assert stale(pulled, clock)
    assert pulled.age(clock) == VALID


def test_setting_the_wall_clock_back_makes_nothing_fresh(pulled, clock, start):
    clock.tick(VALID.total_seconds())
    clock.wall = start
    assert stale(pulled, clock)


def test_setting_the_wall_clock_ahead_makes_nothing_stale(pulled, clock, start):
    clock.wall = start + timedelta(days=3)
    assert pulled.verify_fresh(clock)


def test_age_counts_from_when_the_bulletin_was_asked_for_not_from_its_arrival(
    store, bulletin_of, clock
):
    asked = clock.boot()
    clock.tick(600)
    store.apply(bulletin_of(0, []), asked)
    clock.tick(300)
    assert stale(store, clock)


def test_after_a_restart_of_the_machine_the_age_is_not_known(pulled, clock):
    assert pulled.verify_fresh(clock)
    clock.boot_id = "boot-2"
    assert stale(pulled, clock)
    assert pulled.age(clock) is None


def test_a_wall_clock_before_the_greatest_signed_time_is_behind(pulled, clock, start):
    clock.wall = start - timedelta(minutes=2)
    pulled.verify_wall_time(clock.now())
    assert pulled.verify_fresh(clock)
    clock.wall -= timedelta(seconds=1)
    assert stale(pulled, clock, "clock.behind")
    with pytest.raises(ExpiredError) as error:
        pulled.verify_wall_time(clock.now())
    assert error.value.code == "clock.behind"


# Damage


@pytest.fixture
def filled(path, opt_out, bulletin_of):
    with opened(path) as store:
        store.apply(bulletin_of(0, [opt_out(1), opt_out(2)]), ("boot-1", 1000.0))
        store.add(opt_out(3))
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE sequence = 1",
        "DELETE FROM events WHERE sequence > 1",
        "UPDATE events SET sequence = 9 WHERE sequence = 3",
        "UPDATE events SET envelope = (SELECT envelope FROM events WHERE sequence = 1)",
        "UPDATE events SET envelope = x'00' WHERE sequence = 2",
        "UPDATE events SET envelope = 7 WHERE sequence = 2",
        "UPDATE latest SET boot_s = 9e9",
        "UPDATE latest SET boot_id = 'boot-2'",
        "UPDATE latest SET confirmed = 1",
        "UPDATE latest SET confirmed = 3",
        "UPDATE latest SET bulletin = CAST(replace(bulletin, '500', '900') AS BLOB)",
        "UPDATE latest SET bulletin = 7",
        "UPDATE latest SET digest = ''",
    ],
)
def test_an_edited_store_is_refused(filled, statement):
    with opened(filled):
        pass
    with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute(statement)
    with pytest.raises(FedError), opened(filled):
        pass


def test_any_flipped_byte_is_refused_or_changes_nothing(filled, tmp_path):
    def read(path):
        try:
            with opened(path) as store:
                return contents(store), store.age(clock_at("boot-1", 1100.0))
        except FedError:
            return None

    sound, content = read(filled), filled.read_bytes()
    places = [place for place, byte in enumerate(content) if byte][::25] + list(range(0, 100, 5))
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        copy = tmp_path / "copy.db"
        copy.write_bytes(damaged)
        found = read(copy)
        refused += found is None
        assert found in (None, sound)
    assert refused > len(places) / 3


def clock_at(boot_id, boot_s):
    class At:
        def boot(self):
            return boot_id, boot_s

    return At()


@pytest.mark.parametrize("content", [b"no database", bytes(4096)])
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(path, content):
    path.write_bytes(content)
    with pytest.raises(TrustError) as error, opened(path):
        pass
    assert error.value.code == "bulletin.corrupt"
    assert path.read_bytes() == content


def test_another_units_store_is_refused(filled, tmp_path):
    copy = shutil.copy(filled, tmp_path / "copy.db")
    with pytest.raises(TrustError):
        BulletinStore(copy, "south", NODE.public, REALM)
    with pytest.raises(SignatureError):
        BulletinStore(copy, "north", STRANGER.public, REALM)


class TestFormerKeys:
    """A unit changes its keys; what it has signed before stays its own."""

    @pytest.fixture
    def later(self, path, opt_out):
        """A store with an opt-out of an older key, opened under the present one."""
        with opened(path) as store:
            store.add(opt_out(1))
        present = SigningKey.generate()
        with closing(BulletinStore(path, "north", present.public, REALM, (NODE.public,))) as store:
            yield store, present

    def test_an_opt_out_of_a_former_key_goes_on_to_exclude(self, later, opt_out):
        store, present = later
        store.add(opt_out(2, key=present))
        assert store.excluded(("retention",)) == {pseudonym(1), pseudonym(2)}

    def test_a_key_that_never_was_the_units_counts_for_nothing(self, later, path, opt_out):
        store, _ = later
        with pytest.raises(SignatureError):
            store.add(opt_out(2, key=STRANGER))
        with pytest.raises(SignatureError):
            BulletinStore(path, "north", STRANGER.public, REALM)

    def test_pending_opt_outs_go_out_under_the_present_key(self, later, opt_out):
        store, present = later
        store.add(opt_out(2, key=present))
        sent = store.pending_signed_by(present)
        assert [envelope.signer for envelope in sent] == [present.public] * 2
        assert [e.digest for e in sent] == [e.digest for e in store.pending()]

    def test_governance_may_show_them_under_either_key(self, later, bulletin_of, opt_out):
        store, present = later
        store.add(opt_out(2, key=present))
        shown = [opt_out(1, key=present), opt_out(2, key=present)]
        store.apply(bulletin_of(0, shown), ("boot-1", 1.0))
        assert store.pending() == []
        assert len(store.events()) == 2
