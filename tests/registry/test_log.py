"""The log: one place for each document, proofs that hold, entries that hide what they commit to."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.errors import MismatchError, RollbackError
from registry import log
from registry.log import LogView


def document(number):
    return f"sha256:{number:064x}"


def leaves_of(session, count):
    return [merkle.leaf_hash(item.entry.to_bytes()) for item in log.list_entries(session, 0, count)]


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


def test_fifty_writers_at_once_leave_no_gap_and_the_tree_of_a_log_written_alone(database):
    ready = threading.Barrier(50)

    def write(number):
        ready.wait()
        with database.writing() as session:
            return log.append(session, "x", document(number))

    with ThreadPoolExecutor(50) as pool:
        assert sorted(pool.map(write, range(50))) == list(range(50))
    with database.reading() as session:
        root = merkle.root_hash(leaves_of(session, 50)).hex()
        assert log.load_view(session).position() == LogPosition(size=50, root=root)


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


def test_a_log_proves_each_of_its_former_positions_as_the_whole_list_does(database):
    filled(database, 70)
    with database.reading() as session:
        leaves = leaves_of(session, 70)
        for new in range(71):
            view = LogView(session, new)
            root = merkle.root_hash(leaves[:new])
            assert view.position() == LogPosition(size=new, root=root.hex())
            for old in range(new + 1):
                assert hashes(view.consistency(old)) == merkle.consistency_proof(leaves[:new], old)
            for index in range(new):
                assert hashes(view.inclusion(index)) == merkle.inclusion_proof(leaves[:new], index)


def test_a_position_that_the_log_never_had_is_a_rollback(database):
    filled(database, 3)
    with database.reading() as session:
        view = log.load_view(session)
        assert view.position(3).size == 3
        for ask in (view.position, view.consistency):
            with pytest.raises(RollbackError, match=r"log\.rollback"):
                ask(4)


def test_a_subtree_that_was_changed_by_hand_is_caught_by_whoever_looked_before(database):
    """The stored hashes are a short cut, and no authority: a node's check finds the lie."""
    filled(database, 6)
    with database.reading() as session:
        seen = log.load_view(session).position()
    with database.writing() as session:
        for number in range(6, 9):
            log.append(session, "x", document(number))
        statement = "UPDATE log_nodes SET hash = leaf_hash FROM log_entries WHERE position = level"
        session.connection().exec_driver_sql(statement)
    with database.reading() as session:
        view = log.load_view(session)
        now, proof = view.position(), hashes(view.consistency(seen.size))
    roots = bytes.fromhex(seen.root), bytes.fromhex(now.root)
    with pytest.raises(MismatchError, match="continuation"):
        merkle.verify_consistency(seen.size, roots[0], now.size, roots[1], proof)


def test_a_proof_reads_few_rows_of_a_long_log(database, counted):
    filled(database, 200)
    with database.reading() as session, counted() as statements:
        view = log.load_view(session)
        view.position()
        view.inclusion(77)
        view.consistency(100)
    assert len(statements) <= 7


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
