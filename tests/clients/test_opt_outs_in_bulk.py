"""Opt-outs in bulk between a node and a real governance: handed over, lost, and taken back."""

import pytest

from clients.intake import import_objections
from clients.rotation import retire_key, rotate_key
from clients.statements import Statement
from fedcore.errors import ConflictError, FedError, MismatchError, RollbackError, SignatureError
from fedcore.opt_out_batches import OptOutBatch, OptOutBatchV2, batch_of, open_document
from fedcore.opt_out_history import pack, unpack
from fedcore.optouts import excluded_from, states_of
from fedcore.record import Realm
from fedcore.signing import SigningKey, open_envelope, sign_record

REALM = Realm.SIMULATION
AT = "2026-03-01T09:00:00Z"


def held(site):
    """A site's events, and whom they keep out of marketing."""
    excluded = excluded_from(states_of(site.opt_outs.entries()), ("marketing",))
    return site.opt_outs.events(), excluded


@pytest.fixture
def handed_over(federation, opened, contract, tmp_path):
    """Events and exclusions of a store from which single ones and a file were handed over."""
    path = tmp_path / "crm.csv"
    lines = [f"C{number},marketing,web,art21_2,{AT}" for number in range(1, 6)]
    path.write_text("\n".join(["identifier,purpose,channel,ground,received_at", *lines]))
    with opened(federation) as site:
        site.opt_out("C7", "marketing", contract, "art18")
        assert import_objections(site, contract, path).added == 5
        site.take_in([Statement("C2", "marketing", "art21_2", act="withdrawn")], contract)
        assert site.opt_outs.count_pending() == 7
        site.synchronise()
        assert site.opt_outs.count_pending() == 0
        return site.opt_outs.events(), excluded_from(
            states_of(site.opt_outs.entries()), ("marketing",)
        )


def test_what_a_rotation_carries_over_travels_in_batches_and_comes_back(
    federation, opened, contract, tmp_path
):
    """A request for each customer would take hours where there are a million."""
    names = [f"C{number}" for number in range(300)]
    path = tmp_path / "crm.csv"
    lines = [f"{name},marketing,web,art21_2,{AT}" for name in names]
    path.write_text("\n".join(["identifier,purpose,channel,ground,received_at", *lines]))
    with opened(federation) as site:
        import_objections(site, contract, path)
        site.take_in([Statement("C2", "marketing", "art21_2", act="withdrawn")], contract)
        rotate_key(site)
        assert site.reissue(names[:200], contract) == 200
        assert site.reissue(names[200:], contract) == 100
        documents = [open_document(e, site.key.public, REALM) for e in site.opt_outs.pending()]
        assert [type(one) for one in documents] == [OptOutBatchV2, OptOutBatchV2]
        assert site.opt_outs.newest_key_version() == 2
        assert site.synchronise().last_sequence == 301 + 601
        retire_key(site, 1)
        found, lost = held(site), site.state.bulletin
    lost.unlink()
    with opened(federation) as again:
        assert again.synchronise().last_sequence == 902
        assert held(again) == found
        assert len(found[1]) == 299  # all but the one who is in again


@pytest.fixture
def emptied(federation, opened, handed_over):
    """The site after its opt-out store was lost."""
    with opened(federation) as site:
        path = site.state.bulletin
    path.unlink()
    with opened(federation) as site:
        assert site.opt_outs.events() == []
        yield site


def test_a_store_that_was_lost_is_taken_back_from_what_the_unit_itself_has_signed(
    federation, opened, handed_over, emptied
):
    assert emptied.synchronise().last_sequence == 7
    assert (
        emptied.opt_outs.events(),
        excluded_from(states_of(emptied.opt_outs.entries()), ("marketing",)),
    ) == handed_over
    with opened(federation) as again:
        assert again.opt_outs.events() == handed_over[0]
        again.opt_outs.verify_fresh(again.runtime.clock)


def lie(site, change):
    """Answer each question for history with other documents than governance would."""
    real, realm = site._gateway.fetch_opt_outs, site.settings.realm
    site._gateway.fetch_opt_outs = lambda request: pack(
        change(list(unpack(real(request), realm))), realm
    )


def stranger_signed(site, documents):
    stranger, realm = SigningKey.generate(), site.settings.realm
    opened = [open_document(found, found.signer, realm) for found in documents]
    return [sign_record(document, stranger, realm) for document in opened]


def invented(site, documents):
    """A batch of the same numbers, in which one customer is another."""
    realm = site.settings.realm
    batch = open_envelope(documents[1], OptOutBatch, documents[1].signer, realm)
    entries = list(batch.entries())
    entries[0] = entries[0]._replace(pseudonym="ab" * 32)
    forged = batch_of(batch.unit, batch.first_sequence, batch.key_version, entries)
    payload = sign_record(forged, SigningKey.generate(), realm).payload
    return [documents[0], documents[1].model_copy(update={"payload": payload}), documents[2]]


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        (lambda site, found: found[1:], MismatchError, "opt_out.sequence_gap"),
        (lambda site, found: [found[0], found[2]], MismatchError, "opt_out.sequence_gap"),
        (lambda site, found: [found[1], found[0]], MismatchError, "opt_out.sequence_gap"),
        (lambda site, found: [found[0], found[0]], MismatchError, "opt_out.sequence_gap"),
        (lambda site, found: [], RollbackError, "bulletin.rollback"),
        (stranger_signed, SignatureError, "signature.wrong_key"),
        (invented, SignatureError, "signature.invalid"),
    ],
    ids=["dropped first", "dropped", "reordered", "repeated", "nothing", "foreign", "invented"],
)
def test_a_governance_that_lies_in_the_history_is_caught_and_nothing_becomes_fresh(
    emptied, handed_over, change, kind, code
):
    real = emptied._gateway.fetch_opt_outs
    lie(emptied, lambda found: change(emptied, found))
    with pytest.raises(kind) as error:
        emptied.synchronise()
    assert error.value.code == code
    assert (emptied.opt_outs.events(), emptied.opt_outs.latest()) == ([], None)
    with pytest.raises(FedError, match=r"bulletin\.stale"):
        emptied.opt_outs.verify_fresh(emptied.runtime.clock)
    emptied._gateway.fetch_opt_outs = real
    emptied.synchronise()
    assert emptied.opt_outs.events() == handed_over[0]


def test_a_history_cut_off_at_its_end_is_asked_for_until_it_is_whole(emptied, handed_over):
    """Each part acts when it comes; the bulletin counts when all are there."""
    lie(emptied, lambda found: found[:1])
    emptied.synchronise()
    assert emptied.opt_outs.events() == handed_over[0]


def test_a_batch_that_was_handed_over_before_a_crash_is_handed_over_again(
    federation, opened, handed_over, contract
):
    said = [Statement(f"C{number}", "marketing", "gpc") for number in (1, 3)]
    with opened(federation) as site:
        site.take_in(said, contract)
        (batch,) = site.opt_outs.pending()
        site._gateway.submit_opt_outs(batch)
        assert site.opt_outs.pending() == [batch]
        assert site.synchronise().last_sequence == 9
        assert site.opt_outs.pending() == []
        forged = batch_of("north", 8, 1, list(site.opt_outs.entries(7))[:1])
        other = sign_record(forged, site.key, site.settings.realm)
        with pytest.raises(ConflictError, match=r"opt_out\.sequence_known"):
            site._gateway.submit_opt_outs(other)


def test_what_is_taken_in_over_a_lost_store_acts_and_gives_way(
    federation, opened, contract, handed_over, emptied
):
    """The customer's system goes on sending, the last of what it sent before included."""
    said = [Statement("C8", "marketing", "gpc"), Statement("C9", "marketing", "art21_2")]
    assert emptied.take_in(said, contract) == [1, 2]
    emptied.take_in([Statement("C9", "marketing", "art21_2", act="withdrawn")], contract)
    (known, *_), out = handed_over
    again = Statement("C7", "marketing", "art18", received_at=known.received_at)
    emptied.take_in([again], contract)
    named = {emptied.pseudonymiser(contract).pseudonym(name): name for name in ("C8", "C9")}
    assert {named.get(one) for one in held(emptied)[1]} == {"C8", None}
    assert emptied.synchronise().last_sequence == 10
    with opened(federation) as site:
        events, excluded = held(site)
        assert events[:7] == handed_over[0]
        assert [(e.sequence, named[e.pseudonym], e.act) for e in events[7:]] == [
            (8, "C8", None),
            (9, "C9", None),
            (10, "C9", "withdrawn"),
        ]
        assert excluded == out | {one for one, name in named.items() if name == "C8"}
        assert site.opt_outs.count_pending() == 0
        assert site.synchronise().last_sequence == 10


def test_over_an_older_copy_of_the_store_nothing_is_lost_either(
    federation, opened, contract, handed_over
):
    with opened(federation) as site:
        path = site.state.bulletin
        site.opt_out("C10", "marketing", contract, "gpc")
    copy = path.read_bytes()
    with opened(federation) as site:
        site.opt_out("C11", "marketing", contract, "gpc")
        site.synchronise()
        before = held(site)
    path.write_bytes(copy)
    with opened(federation) as site:
        site.opt_out("C12", "marketing", contract, "gpc")
        assert site.opt_outs.next_sequence() == 10
        assert site.synchronise().last_sequence == 10
        events, excluded = held(site)
        assert events[:9] == before[0]
        assert excluded == before[1] | {site.pseudonymiser(contract).pseudonym("C12")}


def test_nothing_gives_way_to_what_the_unit_has_not_signed(
    federation, contract, handed_over, emptied
):
    emptied.opt_out("C8", "marketing", contract, "gpc")
    kept = held(emptied)
    stranger = SigningKey.generate()
    realm = emptied.settings.realm
    forged = handed_over[0][0].model_copy(update={"act": "withdrawn"})
    lies = {
        "signed by a stranger": [sign_record(forged, stranger, realm)],
        "not the next": [sign_record(handed_over[0][1], emptied.key, realm)],
    }
    for documents in lies.values():
        with pytest.raises((SignatureError, MismatchError)):
            emptied.opt_outs.give_way(documents, emptied.key)
        assert held(emptied) == kept


def test_it_gives_way_to_all_parts_of_the_history(contract, handed_over, emptied):
    emptied.opt_out("C8", "marketing", contract, "gpc")
    lie(emptied, lambda found: found[:1])
    assert emptied.synchronise().last_sequence == 8
    assert emptied.opt_outs.events()[:7] == handed_over[0]
