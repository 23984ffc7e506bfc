"""The log: one place for each document, proofs that hold, entries that hide what they commit to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore import merkle
from fedcore.errors import RollbackError
from registry import log
from registry.log import LogView


def document(number):
    return f"sha256:{number:064x}"


def filled(database, count):
    with database.writing() as session:
        return [log.append(session, "x", document(number)) for number in range(count)]


def entry_of(session, number):
    found = log.find_entry(session, document(number))
    assert found is not None
    return found


def hashes(proof):
    return [bytes.fromhex(node) for node in proof]


def test_places_count_from_zero_without_gaps(database):
    assert filled(database, 5) == [0, 1, 2, 3, 4]
    with database.reading() as session:
        assert [item.index for item in log.list_entries(session, 0, 10)] == [0, 1, 2, 3, 4]
        assert [item.index for item in log.list_entries(session, 2, 2)] == [2, 3]


def test_every_entry_is_proved_under_the_root(database):
    filled(database, 7)
    with database.reading() as session:
        view = log.load_view(session)
        for number in range(7):
            found = entry_of(session, number)
            merkle.verify_inclusion(
                merkle.leaf_hash(found.entry.to_bytes()),
                found.index,
                view.size,
                hashes(view.inclusion(found.index)),
                bytes.fromhex(view.position().root),
            )


leaves = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


@given(leaves=leaves, data=st.data())
def test_a_view_proves_each_of_its_former_positions(leaves, data):
    view = LogView(leaves)
    size = data.draw(st.integers(1, view.size))
    old, new = view.position(size), view.position()
    assert old == LogView(leaves[:size]).position()
    merkle.verify_consistency(
        size,
        bytes.fromhex(old.root),
        view.size,
        bytes.fromhex(new.root),
        hashes(view.consistency(size)),
    )


@given(leaves=leaves)
def test_a_position_that_the_log_never_had_is_a_rollback(leaves):
    view = LogView(leaves)
    with pytest.raises(RollbackError, match=r"log\.rollback"):
        view.position(view.size + 1)
    with pytest.raises(RollbackError, match=r"log\.rollback"):
        view.consistency(view.size + 1)


def test_equal_documents_have_unequal_entries_in_two_logs(database, tmp_path):
    """The salt keeps a leaf from being recognised by anyone who can guess the document."""
    filled(database, 1)
    with database.reading() as session:
        entry = entry_of(session, 0).entry
    assert entry.model_copy(update={"salt": "00" * 32}).to_bytes() != entry.to_bytes()
    with database.writing() as session:
        log.append(session, "x", document(1))
        other = entry_of(session, 1).entry
    assert other.salt != entry.salt


def test_an_unlogged_document_has_no_entry(database):
    with database.reading() as session:
        assert log.find_entry(session, document(0)) is None
        assert log.load_view(session).position().size == 0
