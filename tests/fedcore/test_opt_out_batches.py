"""Batches of opt-outs, the history in which they come back, and the digest of the set they make."""

import base64
import copy
import hashlib
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedcore import canonical, opt_out_history
from fedcore.errors import ConflictError, InvalidRecordError, SignatureError
from fedcore.opt_out_batches import (
    MAX_EVENTS,
    OptOutBatch,
    OptOutBatchV2,
    batch_of,
    batches_of,
    documents_of,
    entries_of,
    is_batch,
    open_document,
    reissue_of,
)
from fedcore.opt_out_history import pack, unpack
from fedcore.opt_out_sets import BUCKETS, bucket_digests, digest_of_buckets, set_digest_of
from fedcore.opt_out_states import take
from fedcore.optouts import (
    EFFECTS,
    Entry,
    OptOutEvent,
    Said,
    States,
    advance,
    microseconds,
    moment_of,
    states_of,
)
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

KEY, STRANGER = SigningKey.generate(), SigningKey.generate()
REALM = Realm.SIMULATION
AT = microseconds(datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
OBJECTION = Said("marketing", "web", "art21_2")


def entry(number, said=OBJECTION, received_us=AT):
    return Entry(hashlib.sha256(b"%d" % number).hexdigest(), said, received_us, 1)


def said_strategy():
    pairs = [(g, a) for g, effect in EFFECTS.items() for a in (None, *sorted(effect.acts))]
    return st.builds(
        lambda purpose, channel, pair: Said(
            purpose, channel, pair[0], pair[1], "legal_claims" if pair[1] == "rejected" else None
        ),
        st.sampled_from(["marketing", "retention"]),
        st.sampled_from(["web", "shop"]),
        st.sampled_from(pairs),
    )


ENTRIES = st.lists(
    st.builds(
        entry,
        st.integers(0, 5),
        said_strategy(),
        st.integers(microseconds(datetime.min.replace(tzinfo=UTC)), AT),
    ),
    min_size=1,
    max_size=30,
)


@given(ENTRIES)
def test_a_batch_is_read_as_what_it_was_made_of(entries):
    batch = batch_of("north", 7, 1, entries)
    again = OptOutBatch.from_bytes(batch.to_bytes())
    assert again == batch
    assert list(again.entries()) == entries
    singles = list(again.events())
    assert [OptOutEvent.from_bytes(event.to_bytes()).entry for event in singles] == entries
    assert [event.sequence for event in singles] == list(range(7, again.last_sequence + 1))
    assert again.event(again.last_sequence) == singles[-1]
    assert microseconds(again.newest) == max(entry.received_us for entry in entries)


def recoded(column, change):
    return base64.b64encode(change(base64.b64decode(column))).decode()


FORGED = {
    "a column shorter": lambda j: j | {"places": recoded(j["places"], lambda d: d[:-1])},
    "a time cut": lambda j: j | {"received": recoded(j["received"], lambda d: d[:-1])},
    "no events": lambda j: j | {"places": "", "received": "", "pseudonyms": ""},
    "a place of none": lambda j: j | {"places": recoded(j["places"], lambda _: b"\x00\x01\x02")},
    "another order": lambda j: j | {"places": recoded(j["places"], lambda _: b"\x01\x00\x01")},
    "one unused": lambda j: j | {"places": recoded(j["places"], lambda _: b"\x00\x00\x00")},
    "one twice": lambda j: j | {"said": [j["said"][0], j["said"][0]]},
    "an act of no such ground": lambda j: (
        j | {"said": [j["said"][0], j["said"][1] | {"act": "upheld"}]}
    ),
    "a reason of none": lambda j: (
        j | {"said": [j["said"][0], j["said"][1] | {"reason": "legal_claims"}]}
    ),
    "a time of no year": lambda j: (
        j | {"received": recoded(j["received"], lambda d: b"\x7f" + d[1:])}
    ),
    "no base64": lambda j: j | {"places": "AAA*"},
    "other base64": lambda j: j | {"places": j["places"][:-1] + "B="},
    "another field": lambda j: j | {"scope": "group"},
}


CONSENT = Said("marketing", "web", "art7_3", "consented")
# Few customers and kinds, so that one follows another.
FOLLOWING = st.builds(
    entry,
    st.integers(0, 1),
    st.sampled_from(
        [
            CONSENT,
            CONSENT._replace(act=None),
            Said("marketing", "web", "art21_1"),
            Said("marketing", "web", "art21_1", "upheld"),
        ]
    ),
)


@settings(max_examples=80)
@given(st.lists(st.one_of(st.lists(FOLLOWING, min_size=1, max_size=6), ENTRIES), max_size=8))
@example([[entry(0, CONSENT), entry(0, CONSENT._replace(act=None)), entry(0, CONSENT)]])
def test_a_document_leads_to_the_states_that_its_events_lead_to_one_by_one(batches):
    states, expected = States(), States()
    for entries in batches:
        before = copy.deepcopy(expected)
        try:
            advance(expected, entries)
        except ConflictError:
            with pytest.raises(ConflictError):
                take(states, batch_of("north", 1, 1, entries))
            states, expected = copy.deepcopy(before), before
        else:
            take(states, batch_of("north", 1, 1, entries))
        assert states == expected


@pytest.mark.parametrize("case", FORGED)
def test_a_batch_of_another_form_is_none(case):
    gpc = Said("marketing", "web", "gpc")
    sound = batch_of("north", 1, 1, [entry(1), entry(2, gpc), entry(3, gpc)]).to_json()
    assert OptOutBatch.from_json(sound).last_sequence == 3
    with pytest.raises(InvalidRecordError):
        OptOutBatch.from_json(FORGED[case](sound))


def repeated(number, said=OBJECTION, received_us=AT, ends=False):
    """What a re-issue repeats of event `number`, or how it ends that."""
    if not ends:
        return entry(number, said, received_us)._replace(key_version=2, repeats=number + 1)
    said = said._replace(act="reissued", channel="rotation")
    return entry(-number, said, received_us)._replace(
        successor=entry(number).pseudonym, repeats=number + 1
    )


REPEATED = st.lists(
    st.builds(repeated, st.integers(1, 5), said_strategy(), st.integers(0, AT), st.booleans()),
    min_size=1,
    max_size=30,
)


@given(REPEATED)
def test_a_batch_of_re_issues_is_read_as_what_it_was_made_of(entries):
    batch = reissue_of("north", 7, entries)
    again = OptOutBatchV2.from_bytes(batch.to_bytes())
    assert again == batch
    assert list(entries_of(again)) == entries
    singles = list(again.events())
    assert [OptOutEvent.from_bytes(event.to_bytes()).entry for event in singles] == entries
    assert [event.sequence for event in singles] == list(range(7, again.last_sequence + 1))
    assert microseconds(again.newest) == max(entry.received_us for entry in entries)


FORGED_REISSUES = {
    "a successor less": lambda j: j | {"successors": ""},
    "one too many": lambda j: j | {"successors": recoded(j["successors"], lambda d: d + d)},
    "its own successor": lambda j: j | {"successors": recoded(j["pseudonyms"], lambda d: d[32:64])},
    "repeats nothing": lambda j: j | {"repeats": recoded(j["repeats"], lambda d: bytes(len(d)))},
    "repeats a later one": lambda j: j | {"first_sequence": 2},
    "a repetition less": lambda j: j | {"repeats": recoded(j["repeats"], lambda d: d[:-1])},
    "no key": lambda j: j | {"said": [j["said"][0], j["said"][1] | {"key_version": 0}]},
    "an act of no such ground": lambda j: (
        j | {"said": [j["said"][0] | {"act": "upheld"}, j["said"][1]]}
    ),
    "a column shorter": lambda j: j | {"places": recoded(j["places"], lambda d: d[:-1])},
    "one twice": lambda j: j | {"said": [j["said"][0], j["said"][0]]},
}


@pytest.mark.parametrize("case", FORGED_REISSUES)
def test_a_batch_of_re_issues_of_another_form_is_none(case):
    sound = reissue_of("north", 3, [repeated(1), repeated(1, ends=True)]).to_json()
    assert OptOutBatchV2.from_json(sound).last_sequence == 4
    with pytest.raises(InvalidRecordError):
        OptOutBatchV2.from_json(FORGED_REISSUES[case](sound))


def test_each_event_goes_into_the_document_that_has_room_for_it():
    said = [entry(1), entry(2), repeated(1), repeated(1, ends=True), entry(3), repeated(2)]
    found = list(documents_of("north", 5, said))
    assert [type(one) for one in found] == [OptOutBatch, OptOutBatchV2, OptOutEvent, OptOutEvent]
    assert [each for one in found for each in entries_of(one)] == said
    with pytest.raises(ValueError, match="repeats"):
        list(documents_of("north", 1, said[2:4]))  # nothing repeats what comes after it


def test_any_number_of_events_is_cut_into_batches():
    many = [entry(number) for number in range(MAX_EVENTS + 3)]
    cut = list(batches_of("north", 5, 1, many))
    assert [(b.first_sequence, b.last_sequence) for b in cut] == [(5, 10_004), (10_005, 10_007)]
    talkative = [entry(n, OBJECTION._replace(channel=f"c{n}")) for n in range(300)]
    cut = list(batches_of("north", 1, 1, talkative))
    assert [len(batch.said) for batch in cut] == [256, 44]
    assert [found for batch in cut for found in entries_of(batch)] == talkative
    assert list(batches_of("north", 1, 1, [])) == []
    with pytest.raises(ValueError, match="10000"):
        batch_of("north", 1, 1, many)


def documents():
    single = OptOutEvent(
        unit="north",
        sequence=1,
        pseudonym=entry(1).pseudonym,
        key_version=1,
        received_at=moment_of(AT),
        **OBJECTION._asdict(),
    )
    batch = batch_of("north", 2, 1, [entry(2), entry(3)])
    return [sign_record(single, KEY, REALM), sign_record(batch, KEY, REALM)]


def test_a_document_is_opened_as_what_it_is_under_its_own_key():
    single, batch = documents()
    assert [is_batch(found, REALM) for found in (single, batch)] == [False, True]
    for envelope in (single, batch):
        assert open_document(envelope, KEY.public, REALM).unit == "north"
        with pytest.raises(SignatureError):
            open_document(envelope, STRANGER.public, REALM)
        with pytest.raises(SignatureError):
            open_document(envelope, KEY.public, Realm.PRODUCTION)


# History


def test_what_was_packed_comes_out_to_the_byte():
    assert list(unpack(pack(documents(), REALM), REALM)) == documents()


def test_a_part_ends_when_it_is_full_and_has_one_document_at_least(monkeypatch):
    monkeypatch.setattr(opt_out_history, "PART_BYTES", 1)
    assert list(unpack(pack(documents(), REALM), REALM)) == documents()[:1]


def test_an_answer_that_is_no_history_is_refused():
    sound = pack(documents(), REALM)
    raw = zlib.decompress(sound)
    bomb = zlib.compress(bytes(opt_out_history.MAX_PART_BYTES + 1))
    for wrong in (b"", b"x", sound[:-1], sound + sound, bomb, zlib.compress(b"\x07" + raw[1:])):
        with pytest.raises(InvalidRecordError) as error:
            list(unpack(wrong, REALM))
        assert error.value.code == "opt_out.history_invalid"
    with pytest.raises(InvalidRecordError):
        list(unpack(zlib.compress(raw[:-1]), REALM))


# The set


def plain_digest(states):
    """The same digest, worked out as the page of the reference has it."""
    entries = sorted(
        bytes.fromhex(pseudonym)
        + hashlib.sha256(canonical.encode([purpose, ground, state])).digest()
        for (purpose, ground), group in states.items()
        for pseudonym, state in group.items()
    )
    buckets = [b"".join(e for e in entries if e[0] == first) for first in range(256)]
    joined = b"".join(hashlib.sha256(bucket).digest() for bucket in buckets)
    return canonical.digest(b"fedpact.opt-out-set/2\x00" + joined)


@settings(max_examples=40)
@given(ENTRIES)
def test_the_digest_of_a_set_is_that_of_its_sorted_entries(entries):
    states = {}  # type: ignore[var-annotated]
    for found in entries:
        try:
            moved = states_of([*states.get("said", []), found])
        except ConflictError:
            continue
        states["said"] = [*states.get("said", []), found]
        assert set_digest_of(moved) == plain_digest(moved)


def test_pseudonyms_that_differ_in_any_byte_are_sorted_by_all_of_them():
    pseudonyms = [f"{1 << shift:064x}" for shift in (*range(255, 0, -5), *range(4, 256, 5))]
    states = states_of(Entry(pseudonym, OBJECTION, AT, 1) for pseudonym in pseudonyms)
    assert set_digest_of(states) == plain_digest(states)
    assert set_digest_of({}) == plain_digest({})
    assert digest_of_buckets(bucket_digests({})) == set_digest_of({})
    assert len(bucket_digests({})) == BUCKETS
