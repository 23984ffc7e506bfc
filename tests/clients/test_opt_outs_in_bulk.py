"""Opt-outs in bulk between a node and a real governance: handed over, lost, and taken back."""

import pytest

from clients.intake import import_objections
from clients.statements import Statement
from fedcore.errors import ConflictError, FedError, MismatchError, RollbackError, SignatureError
from fedcore.opt_out_batches import OptOutBatch, batch_of, open_document
from fedcore.opt_out_history import pack, unpack
from fedcore.optouts import excluded_from, states_of
from fedcore.signing import SigningKey, open_envelope, sign_record

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
