import itertools
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients import bulletin as bulletin_module
from clients.bulletin import BulletinStore
from fedcore import merkle
from fedcore.bulletins import Bulletin, BulletinV1, LogPosition, WitnessedHead
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
from fedcore.opt_out_batches import batch_of, entries_of, open_document
from fedcore.opt_out_sets import set_digest_of
from fedcore.optouts import Entry, OptOutEvent, Said, excluded_from, states_of
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, sign_record

NODE, STRANGER = SigningKey.generate(), SigningKey.generate()
REALM = Realm.PRODUCTION
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(16)]
VALID = timedelta(minutes=15)


def pseudonym(number):
    return f"{number:064x}"


def excluded(store, purposes):
    """The pseudonyms that an objection keeps out of any of these purposes."""
    return excluded_from(states_of(store.entries()), purposes)


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
    """A bulletin of `known` and further events, after `after` of them."""

    def of(after, events, known=(), size=1, seen=0, **changes):
        opened = (open_document(e, e.signer, REALM) for e in (*known, *events))
        entries = itertools.chain.from_iterable(map(entries_of, opened))
        proof = merkle.consistency_proof(LEAVES[:size], seen)
        values = {
            "unit": "north",
            "nonce": "00" * 32,
            "realm": REALM,
            "epoch": 500,
            "last_sequence": after + len(events),
            "set_digest": set_digest_of(states_of(entries)),
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
    reads = BulletinStore._stored
    numbers = itertools.count(1)

    def reads_between_writes(self, *arguments):
        store.add(opt_out(next(numbers)))
        found = list(reads(self, *arguments))
        store.add(opt_out(next(numbers)))
        return found

    for _ in range(before):
        store.add(opt_out(next(numbers)))
    monkeypatch.setattr(BulletinStore, "_stored", reads_between_writes)
    with opened(path) as other:
        monkeypatch.undo()
        assert len(other.events()) == before + 2


def test_an_opt_out_excludes_before_governance_has_it_and_after_a_restart(path, opt_out):
    with opened(path) as store:
        store.add(opt_out(1))
        assert excluded(store, ("retention",)) == {pseudonym(1)}
    with opened(path) as store:
        assert excluded(store, ("retention",)) == {pseudonym(1)}
        assert store.pending() == [opt_out(1)]


def test_an_opt_out_covers_its_purpose_and_all_below_it(store, opt_out, contract):
    for sequence, purpose in enumerate(("marketing", "retention", "analytics"), start=1):
        store.add(opt_out(sequence, purpose=purpose))

    def out_of(purpose):
        return excluded(store, purpose_line(contract.purposes, purpose))

    assert out_of("retention") == {pseudonym(1), pseudonym(2)}
    assert out_of("marketing") == {pseudonym(1)}
    assert out_of("analytics") == {pseudonym(3)}


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
    refuses(store, code, kind, store.add, opt_out(1, **changes))
    store.add(opt_out(1))
    assert excluded(store, ("retention",)) == {pseudonym(1)}


# Bulletins


def test_a_bulletin_confirms_what_was_pending(store, opt_out, bulletin_of):
    events = [opt_out(1), opt_out(2)]
    store.add(*events)
    assert store.count_pending() == 2
    bulletin = bulletin_of(0, events)
    store.apply(bulletin, ("boot-1", 1000.0))
    assert contents(store)[1:] == (2, bulletin)
    assert (store.pending(), store.count_pending()) == ([], 0)


def test_a_bulletin_of_events_that_the_store_lacks_changes_nothing(store, opt_out, bulletin_of):
    bulletin = bulletin_of(0, [opt_out(1), opt_out(2)])
    store.add(opt_out(1))
    refuses(store, "bulletin.rollback", RollbackError, store.apply, bulletin, ("boot-1", 1000.0))
    store.add(opt_out(2))
    store.apply(bulletin, ("boot-1", 1000.0))


def test_an_opt_out_that_came_in_meanwhile_stays_pending_and_excludes(store, opt_out, bulletin_of):
    store.add(opt_out(1))
    store.add(opt_out(2))
    store.apply(bulletin_of(0, [opt_out(1)]), ("boot-1", 1000.0))
    assert store.pending() == [opt_out(2)]
    assert excluded(store, ("retention",)) == {pseudonym(1), pseudonym(2)}


def test_taking_a_bulletin_twice_is_harmless(store, opt_out, bulletin_of):
    store.add(opt_out(1))
    first = bulletin_of(0, [opt_out(1)])
    again = bulletin_of(1, [], known=[opt_out(1)], size=1, seen=1)
    store.apply(first, ("boot-1", 1000.0))
    for _ in range(2):
        store.apply(again, ("boot-1", 1001.0))
        assert contents(store)[1:] == (1, again)
        assert [event.sequence for event in store.events()] == [1]


@pytest.mark.parametrize("case", ["rollback", "left out", "forked", "forgotten", "invented"])
def test_a_bulletin_that_lies_about_opt_outs_changes_nothing(store, opt_out, bulletin_of, case):
    known = [opt_out(1), opt_out(2)]
    store.add(*known, opt_out(3))
    asked = ("boot-1", 1000.0)
    store.apply(bulletin_of(0, known), asked)
    more = {"known": known, "size": 1, "seen": 1}
    other = opt_out(3, pseudonym=pseudonym(99))
    lie, code = {
        "rollback": (bulletin_of(2, [], **more, last_sequence=1), "bulletin.rollback"),
        "left out": (bulletin_of(2, [], **more, last_sequence=4), "bulletin.rollback"),
        "forked": (bulletin_of(2, [other], **more), "bulletin.set_mismatch"),
        "forgotten": (
            bulletin_of(2, [opt_out(3)], **{**more, "known": known[:1]}),
            "bulletin.set_mismatch",
        ),
        "invented": (
            bulletin_of(2, [opt_out(3)], **{**more, "known": [*known, other]}),
            "bulletin.set_mismatch",
        ),
    }[case]
    kind = RollbackError if code == "bulletin.rollback" else MismatchError
    refuses(store, code, kind, store.apply, lie, asked)
    store.apply(bulletin_of(2, [opt_out(3)], **more), asked)


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


def test_the_next_number_follows_what_is_stored_whoever_brought_it(store, opt_out):
    assert store.next_sequence() == 1
    store.add(opt_out(1))
    assert store.next_sequence() == 2
    store.add(batch(2, 3))
    assert store.next_sequence() == 5


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("older", ["issued_at", "epoch", "both"])
def test_an_older_bulletin_never_takes_the_place_of_a_newer_one(
    path, store, opt_out, bulletin_of, start, older
):
    """Two processes asked; the answer to the first arrives last."""
    asked = ("boot-1", 1000.0)
    store.add(opt_out(1))
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


@hypothesis_settings(max_examples=40)
@given(st.lists(st.sampled_from(["add", "batch", "sync", "lose", "restart"]), max_size=14))
def test_in_any_order_of_acts_nobody_who_objected_is_forgotten(
    tmp_path_factory, opt_out, bulletin_of, acts
):
    """`lose`: the store of a new machine, which takes back what governance has."""
    folder = tmp_path_factory.mktemp("acts")
    path = folder / "bulletin.db"
    taken: list[Envelope] = []
    store, size = BulletinStore(path, "north", NODE.public, REALM), 0
    handed_over = confirmed = 0
    try:
        for act in acts:
            number = store.next_sequence()
            if act in ("add", "batch"):
                taken.append(opt_out(number) if act == "add" else batch(number, 3))
                store.add(taken[-1])
            elif act == "sync":
                last = number - 1
                bulletin = bulletin_of(0, taken, size=size + 1, seen=size, last_sequence=last)
                store.apply(bulletin, ("boot-1", 1000.0))
                size, handed_over, confirmed = size + 1, len(taken), last
            else:
                store.close()
                if act == "lose":
                    path, size = folder / f"{len(list(folder.iterdir()))}.db", 0
                    del taken[handed_over:]
                store = BulletinStore(path, "north", NODE.public, REALM)
                store.add(*(taken if act == "lose" else ()))
            said = range(1, store.next_sequence())
            assert excluded(store, ("retention",)) == {pseudonym(number) for number in said}
            assert len(said) >= confirmed
    finally:
        store.close()


def batch(first, count, key=NODE, **changes):
    """A signed batch of opt-outs of the customers who have the sequence numbers."""
    said = Said(**{"purpose": "retention", "channel": "unit", "ground": "art21_2", **changes})
    entries = [Entry(pseudonym(n), said, n * 1_000_000, 1) for n in range(first, first + count)]
    return sign_record(batch_of("north", first, 1, entries), key, REALM)


def test_a_batch_is_its_events_to_the_store(store, bulletin_of, opt_out, path):
    store.add(opt_out(1), batch(2, 3), opt_out(5))
    assert [event.sequence for event in store.events()] == [1, 2, 3, 4, 5]
    assert [event.sequence for event in store.events(2)] == [3, 4, 5]
    assert [entry.pseudonym for entry in store.entries(3)] == [pseudonym(4), pseudonym(5)]
    store.apply(bulletin_of(0, [opt_out(1), batch(2, 3)], last_sequence=4), ("boot-1", 1000.0))
    assert store.pending() == [opt_out(5)]
    with pytest.raises(ConflictError) as error:
        store.add(batch(6, 1, ground="art21_1", act="upheld"))
    assert error.value.code == "opt_out.act_not_open"
    for wrong in (batch(5, 2), batch(7, 2)):
        refuses(store, "opt_out.sequence_gap", MismatchError, store.add, wrong)
    store.add(batch(6, 4))
    with opened(path) as other:
        assert other.next_sequence() == 10


def test_a_batch_of_another_key_or_unit_is_refused(store):
    with pytest.raises(SignatureError):
        store.add(batch(1, 3, key=STRANGER))
    store.add(batch(1, 3))


def test_a_store_with_a_bulletin_of_the_version_before_goes_on(path, store, opt_out, bulletin_of):
    store.add(opt_out(1))
    now = bulletin_of(0, [opt_out(1)])
    store.apply(now, ("boot-1", 1000.0))
    first = BulletinV1(**now.model_dump(exclude={"schema_name", "group"}), events=(opt_out(1),))
    row = (first.to_bytes(), "boot-1", 1000.0, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE latest SET bulletin = ?, boot_id = ?, boot_s = ?, confirmed = ?, digest = ?",
            (*row, bulletin_module._row_digest(row)),
        )
    with opened(path) as later:
        assert later.latest() == first
        later.apply(bulletin_of(0, [opt_out(1)], size=2, seen=1), ("boot-1", 1001.0))


def test_the_set_of_a_bulletin_is_that_of_all_states(store, opt_out, bulletin_of):
    """A governance that forgets a withdrawal, or invents one, holds another set."""
    events = [opt_out(1), opt_out(2), opt_out(3, pseudonym=pseudonym(1), act="withdrawn")]
    store.add(*events)
    asked = ("boot-1", 1000.0)
    for others in (events[:2], [*events, opt_out(4, pseudonym=pseudonym(2), act="withdrawn")]):
        forged = bulletin_of(0, others, last_sequence=3)
        refuses(store, "bulletin.set_mismatch", MismatchError, store.apply, forged, asked)
    store.apply(bulletin_of(0, events), asked)
    assert excluded(store, ("retention",)) == {pseudonym(2)}


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
        store.add(opt_out(1), batch(2, 2))
        store.apply(bulletin_of(0, [opt_out(1), batch(2, 2)], last_sequence=3), ("boot-1", 1000.0))
        store.add(batch(4, 2), opt_out(6))
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE sequence = 1",
        "DELETE FROM events WHERE sequence > 1",
        "UPDATE events SET sequence = 9 WHERE sequence = 6",
        "DELETE FROM events WHERE sequence = 4",
        "UPDATE events SET envelope = (SELECT envelope FROM events WHERE sequence = 1)",
        "UPDATE events SET envelope = (SELECT envelope FROM events WHERE sequence = 4) "
        "WHERE sequence = 6",
        "UPDATE events SET envelope = x'00' WHERE sequence = 2",
        "UPDATE events SET envelope = 7 WHERE sequence = 2",
        "UPDATE latest SET boot_s = 9e9",
        "UPDATE latest SET boot_id = 'boot-2'",
        "UPDATE latest SET confirmed = 1",
        "UPDATE latest SET confirmed = 6",
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
        assert excluded(store, ("retention",)) == {
            pseudonym(1),
            pseudonym(2),
        }

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

    def test_a_bulletin_confirms_them_under_either_key(self, later, bulletin_of, opt_out):
        store, present = later
        store.add(opt_out(2, key=present))
        store.apply(bulletin_of(0, [opt_out(1), opt_out(2)]), ("boot-1", 1.0))
        assert store.pending() == []
