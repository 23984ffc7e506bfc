import contextlib
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.budget import Cap, Reservation
from clients.ledger import Ledger
from clients.ledger_entries import GENESIS, append
from fedcore.bulletins import WitnessedHead
from fedcore.errors import (
    BudgetError,
    ConflictError,
    MismatchError,
    RollbackError,
    TrustError,
)
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from governance.decisions.heads import verify_head_claim

DELTA = 1e-5
BASE = ("north", "customer-number")


def event_of(noise=8.0, steps=4):
    return PrivacyEvent(
        mechanism="gaussian",
        l2_sensitivity=1.0,
        sampling_rate=1.0,
        noise_multiplier=noise,
        steps=steps,
    )


EVENT = event_of()
COST = renyi_epsilon([EVENT], DELTA)


def reservation(**changes):
    terms = {"run_id": "run-1", "permit": "sha256:" + "1" * 64, "event": EVENT, "exchanges": 4}
    return Reservation(**{**terms, "epsilon_granted": COST, **changes})


def opened(path, epsilon=10.0, base=BASE):
    unit, namespace = base
    return closing(Ledger(path, unit, namespace, Cap(epsilon, DELTA)))


@pytest.fixture(scope="session")
def empty(tmp_path_factory, start):
    """A new ledger's file, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    Ledger.create(path, *BASE, start)
    return path


@pytest.fixture
def path(empty, tmp_path):
    return shutil.copy(empty, tmp_path / "ledger.db")


@pytest.fixture
def used(path, order_of, start):
    """A ledger with a run: one order answered and witnessed, one begun and not answered."""
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        ledger.settle(order_of(1), b"reply one", bytes(32), start)
        ledger.begin(order_of(2), reservation(), start)
        ledger.mark_witnessed(ledger.head())
    return path


# Opening


def test_a_new_ledger_has_one_entry_and_no_events(path, start):
    with opened(path) as ledger:
        assert [entry.kind for entry in ledger.entries()] == ["open"]
        assert (ledger.events(), ledger.claim().sequence, ledger.claim().since) == ([], 1, 0)


def test_an_existing_ledger_is_never_started_anew(path, start):
    before = path.read_bytes()
    with pytest.raises(ConflictError) as error:
        Ledger.create(path, *BASE, start)
    assert error.value.code == "ledger.exists"
    assert path.read_bytes() == before


def test_a_missing_ledger_is_not_replaced_by_an_empty_one(tmp_path):
    with pytest.raises(TrustError) as error, opened(tmp_path / "ledger.db"):
        pass
    assert error.value.code == "ledger.missing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("base", [("south", BASE[1]), (BASE[0], "other-rule")])
def test_the_ledger_of_another_base_is_refused(path, base):
    with opened(path):
        pass
    with pytest.raises(TrustError) as error, opened(path, base=base):
        pass
    assert error.value.code == "ledger.other_base"


# Spending


def test_a_run_within_the_cap_is_reserved_whole_before_its_first_order(path, order_of, start):
    with opened(path, COST) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        assert [entry.kind for entry in ledger.entries()] == ["open", "reserve", "order"]
        assert ledger.events() == [EVENT]


def test_a_run_beyond_the_cap_is_refused_and_nothing_is_written(path, order_of, start):
    with opened(path, COST * 0.999) as ledger:
        with pytest.raises(BudgetError) as error:
            ledger.begin(order_of(1), reservation(), start)
        assert error.value.codes == ("budget.exceeded",)
        assert len(ledger.entries()) == 1
    with opened(path, COST) as ledger:
        ledger.begin(order_of(1), reservation(), start)


@pytest.mark.parametrize("share", [0.999, 1])
def test_the_cap_is_over_the_whole_history(path, order_of, start, share):
    second = order_of(1, run_id="run-2"), reservation(run_id="run-2"), start
    both = renyi_epsilon([EVENT, EVENT], DELTA)
    with opened(path, both * share) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        if share == 1:
            ledger.begin(*second)
            assert ledger.events() == [EVENT, EVENT]
            return
        with pytest.raises(BudgetError) as error:
            ledger.begin(*second)
        assert error.value.codes == ("budget.exceeded",)
        assert ledger.events() == [EVENT]


@pytest.mark.parametrize("other", [Cap(10.1, DELTA), Cap(9.9, DELTA), Cap(10.0, DELTA / 2)])
def test_the_first_reservation_fixes_cap_and_delta(path, order_of, start, other):
    """The filter counts at an order that both choose; it proves nothing across two orders."""
    second = order_of(1, run_id="run-2"), reservation(run_id="run-2", epsilon_granted=9.0), start
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        assert ledger.entries()[1].body["cap"] == {"epsilon": 10.0, "delta": DELTA}
    with closing(Ledger(path, *BASE, other)) as ledger:
        with pytest.raises(BudgetError) as error:
            ledger.begin(*second)
        assert error.value.codes == ("ledger.other_cap",)
        assert "cannot change" in error.value.public
        assert len(ledger.entries()) == 3
        ledger.begin(order_of(2), reservation(), start)  # what was reserved stays paid for
    with opened(path) as ledger:
        ledger.begin(*second)


def test_before_the_first_reservation_the_cap_may_still_change(path, order_of, start):
    with opened(path, 5.0), opened(path, 6.0) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        assert ledger.entries()[1].body["cap"]["epsilon"] == 6.0


def test_a_ledger_whose_reservations_name_no_cap_goes_on_and_fixes_it_then(path, order_of, start):
    with opened(path) as ledger:
        old = {**reservation().terms, "kind": "reserve", "at": start.isoformat()}
        append(ledger._connection, old)
        ledger.begin(order_of(1), reservation(), start)
        ledger.begin(order_of(1, run_id="run-2"), reservation(run_id="run-2"), start)
    with opened(path, 9.0) as ledger, pytest.raises(BudgetError) as error:
        ledger.begin(order_of(1, run_id="run-3"), reservation(run_id="run-3"), start)
    assert error.value.codes == ("ledger.other_cap",)


def test_a_run_may_not_cost_more_than_its_permit_grants(path, order_of, start):
    with opened(path) as ledger:
        with pytest.raises(BudgetError) as error:
            ledger.begin(order_of(1), reservation(epsilon_granted=COST * 0.999), start)
        assert error.value.codes == ("budget.permit_exceeded",)
        assert ledger.events() == []
        ledger.begin(order_of(1), reservation(), start)


def test_a_run_has_the_exchanges_that_it_reserved(path, order_of, start):
    with opened(path) as ledger:
        for round_ in (1, 2):
            ledger.begin(order_of(round_), reservation(exchanges=2), start)
        with pytest.raises(BudgetError) as error:
            ledger.begin(order_of(3), reservation(exchanges=2), start)
        assert error.value.codes == ("budget.exchanges_exceeded",)
        ledger.begin(order_of(1, run_id="run-2"), reservation(run_id="run-2"), start)


@pytest.mark.parametrize(
    "other", [{"permit": "sha256:" + "2" * 64}, {"exchanges": 5}, {"event": event_of(0.5)}]
)
def test_a_reserved_run_is_not_paid_for_under_other_terms(path, order_of, start, other):
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        with pytest.raises(MismatchError) as error:
            ledger.begin(order_of(2), reservation(epsilon_granted=1e9, **other), start)
        assert error.value.code == "order.other_permit"
        assert len(ledger.entries()) == 3
        ledger.begin(order_of(2), reservation(), start)


@pytest.mark.parametrize(
    ("begun", "late"), [((2, 1), (1, 1)), ((2, 2), (2, 1)), ((3, 1), (2, 2)), ((1, 1), (1, 1))]
)
def test_an_order_before_one_that_was_begun_is_old(path, order_of, start, begun, late):
    with opened(path) as ledger:
        ledger.begin(order_of(*begun), reservation(), start)
        with pytest.raises(ConflictError) as error:
            ledger.begin(order_of(*late), reservation(), start)
        assert error.value.code == "order.old"
        ledger.begin(order_of(begun[0], begun[1] + 1), reservation(), start)


@hypothesis_settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0.5, 50), st.integers(1, 50)), max_size=12))
def test_whoever_chooses_runs_after_seeing_outputs_never_passes_the_cap(
    empty, tmp_path_factory, order_of, start, wishes
):
    path = shutil.copy(empty, tmp_path_factory.mktemp("chooser") / "ledger.db")
    cap, refused = 3.0, 0
    with opened(path, cap) as ledger:
        for number, (noise, steps) in enumerate(wishes):
            terms = {"run_id": f"run-{number}", "event": event_of(noise, steps)}
            before = ledger.events()
            try:
                ledger.begin(
                    order_of(1, run_id=terms["run_id"]),
                    reservation(epsilon_granted=1e9, **terms),
                    start,
                )
            except BudgetError:
                refused += 1
                assert renyi_epsilon([*before, terms["event"]], DELTA) > cap
                assert ledger.events() == before
        assert len(ledger.events()) == len(wishes) - refused
        assert renyi_epsilon(ledger.events(), DELTA) <= cap


def test_two_processes_cannot_spend_the_same_budget(path, order_of, start):
    script = """
import sys
from datetime import datetime
from pathlib import Path
from clients import ledger as ledgers
from clients.budget import Cap, Reservation
from clients.ledger import Ledger
from fedcore.errors import BudgetError
from fedcore.privacy.events import PrivacyEvent
from fedcore.rounds import Order

path, cap, event, at, *orders = sys.argv[1:]
event = PrivacyEvent.model_validate_json(event)
print("ready", flush=True)
sys.stdin.readline()
for order in map(Order.model_validate_json, orders):
    ledger = Ledger(Path(path), "north", "customer-number", Cap(float(cap), 1e-5))
    wish = Reservation(order.run_id, order.permit, event, 4, 1e9)
    try:
        ledger.begin(order, wish, datetime.fromisoformat(at))
        print("spent")
    except BudgetError:
        pass
    ledger.close()
"""
    common = [sys.executable, "-c", script, str(path), repr(COST), EVENT.model_dump_json()]
    processes = [
        subprocess.Popen(
            [*common, start.isoformat()]
            + [order_of(1, run_id=f"{name}-{i}").model_dump_json(by_alias=True) for i in range(9)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both are up: now they race
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = "".join(process.communicate()[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert said.count("spent") == 1
    with opened(path) as ledger:
        assert len(ledger.events()) == 1


def test_a_ledger_that_is_open_sees_what_another_process_has_spent(path, order_of, start):
    with opened(path, COST) as first, opened(path, COST) as second:
        second.begin(order_of(1), reservation(), start)
        with pytest.raises(BudgetError):
            first.begin(order_of(1, run_id="run-2"), reservation(run_id="run-2"), start)
        assert first.entries() == second.entries()


# One answer for each order


def test_a_repeated_order_gets_the_stored_bytes(used, order_of):
    with opened(used) as ledger:
        assert ledger.stored_reply(order_of(1)) == b"reply one"
        assert ledger.stored_reply(order_of(3)) is None


def test_an_order_that_was_begun_and_not_answered_is_never_answered(used, order_of, start):
    with opened(used) as ledger:
        with pytest.raises(ConflictError) as error:
            ledger.stored_reply(order_of(2))
        assert error.value.code == "order.unanswered"
        assert ledger.stored_reply(order_of(2, 2)) is None
        ledger.begin(order_of(2, 2), reservation(), start)
        ledger.settle(order_of(2, 2), b"second attempt", bytes(32), start)
        assert ledger.stored_reply(order_of(2, 2)) == b"second attempt"


@pytest.mark.parametrize("change", ["model", "plan", "permit"])
def test_another_order_of_the_same_attempt_is_a_replay(used, order_of, digest, change):
    with opened(used) as ledger:
        with pytest.raises(ConflictError) as error:
            ledger.stored_reply(order_of(1, **{change: digest("another")}))
        assert error.value.code == "order.replayed"
        assert ledger.stored_reply(order_of(1)) == b"reply one"


def test_an_answer_is_stored_once(used, order_of, start):
    with opened(used) as ledger:
        with pytest.raises(sqlite3.IntegrityError):
            ledger.settle(order_of(1), b"another reply", bytes(32), start)
        assert ledger.stored_reply(order_of(1)) == b"reply one"


# Witnesses


def test_a_claim_leads_from_the_last_witnessed_head_to_the_newest(used, order_of, start):
    with opened(used) as ledger:
        witnessed = ledger.head()
        ledger.settle(order_of(2), b"reply two", bytes(32), start)
        claim = ledger.claim()
        assert (claim.since, len(claim.body_digests)) == (witnessed.sequence, 1)
        assert verify_head_claim(claim, witnessed, witnessed) == ledger.head()


def test_without_a_witness_a_claim_starts_at_the_beginning(path):
    with opened(path) as ledger:
        assert verify_head_claim(ledger.claim(), GENESIS, GENESIS) == ledger.head()


def test_one_order_may_run_ahead_of_the_witness_and_no_more(used, order_of, start):
    with opened(used) as ledger:
        ledger.verify_one_unwitnessed()
        ledger.settle(order_of(2), b"reply two", bytes(32), start)
        ledger.begin(order_of(3), reservation(), start)
        ledger.verify_one_unwitnessed()
        ledger.begin(order_of(3, 2), reservation(), start)
        with pytest.raises(RollbackError) as error:
            ledger.verify_one_unwitnessed()
        assert error.value.code == "ledger.unwitnessed"
        ledger.mark_witnessed(ledger.head())
        ledger.verify_one_unwitnessed()


def test_a_reservation_never_runs_ahead_of_the_witness(path, order_of, start):
    with opened(path) as ledger:
        ledger.mark_witnessed(ledger.head())
        ledger.begin(order_of(1), reservation(), start)
        with pytest.raises(RollbackError):
            ledger.verify_one_unwitnessed()


# Damage


def edit(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for trigger in ("entries_kept", "entries_fixed"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM entries WHERE sequence > 3", "ledger.rollback"),
        ("DELETE FROM entries WHERE sequence = (SELECT MAX(sequence) FROM entries)", None),
        ("DELETE FROM entries WHERE sequence = 2", "ledger.corrupt"),
        ("DELETE FROM entries", "ledger.corrupt"),
        ("UPDATE entries SET body = CAST(replace(body, '8', '9') AS BLOB)", "ledger.corrupt"),
        ("UPDATE entries SET body = 5 WHERE sequence = 2", "ledger.corrupt"),
        ("UPDATE entries SET body = 9e18 WHERE sequence = 2", "ledger.corrupt"),
        ("UPDATE entries SET hash = 'x' WHERE sequence = 2", "ledger.corrupt"),
        ("UPDATE entries SET sequence = 9 WHERE sequence = 2", "ledger.corrupt"),
        ("UPDATE entries SET sequence = 99 WHERE sequence = 5", "ledger.corrupt"),
        ("UPDATE replies SET reply = 'another'", "ledger.corrupt"),
        ("DELETE FROM replies", "ledger.corrupt"),
        ("INSERT INTO replies VALUES ('sha256:00', 'a gift', '')", "ledger.corrupt"),
        ("UPDATE witness SET hash = '00'", "ledger.corrupt"),
        ("UPDATE witness SET sequence = 1", "ledger.rollback"),
        ("UPDATE witness SET sequence = -1", "ledger.corrupt"),
        ("DROP TABLE entries", "ledger.corrupt"),
        ("DROP TABLE witness", "ledger.corrupt"),
        ("DROP TABLE replies", "ledger.corrupt"),
    ],
)
def test_an_edited_ledger_is_refused(used, statement, code):
    with opened(used):
        pass
    edit(used, statement)
    with pytest.raises(TrustError) as error, opened(used):
        pass
    assert error.value.code == (code or "ledger.rollback")


def test_a_reply_put_under_an_unanswered_order_is_never_sent(used, order_of):
    edit(used, f"INSERT INTO replies VALUES ('{order_of(2).digest}', 'forged', '')")  # noqa: S608
    with pytest.raises(TrustError) as error, opened(used):
        pass
    assert error.value.code == "ledger.corrupt"


def test_a_rewritten_chain_does_not_get_past_its_witness(used, path, tmp_path, order_of, start):
    """Whoever can write the file can write a consistent one; then governance remembers."""
    with opened(used) as ledger:
        newest = ledger.head()
    shorter = tmp_path / "shorter.db"
    Ledger.create(shorter, *BASE, start)
    with opened(shorter) as ledger, pytest.raises(RollbackError):
        verify_head_claim(ledger.claim(), GENESIS, newest)


@pytest.mark.parametrize("statement", ["DELETE FROM entries", "UPDATE entries SET hash = 'x'"])
def test_entries_can_only_be_added(path, statement):
    refused = pytest.raises(sqlite3.IntegrityError, match="append-only")
    with closing(sqlite3.connect(path)) as connection, refused:
        connection.execute(statement)
    with opened(path) as ledger:
        assert len(ledger.entries()) == 1


def test_a_truncated_ledger_is_refused(used, tmp_path):
    whole = used.read_bytes()
    for length in {0, 1, 50, 100, 1000, *range(0, len(whole), 4096), len(whole) - 500}:
        cut = tmp_path / "cut.db"
        cut.write_bytes(whole[:length])
        with pytest.raises(TrustError), opened(cut):
            pass


def powered_off(folder, name):
    """Copy the open ledger as a power cut leaves it, with a journal that is not checkpointed."""
    for end in (".db", ".db-wal"):
        shutil.copy(folder / f"ledger{end}", folder / f"{name}{end}")
    return folder / f"{name}.db"


def entries_or_none(path):
    """Return the entries of a damaged file, or None when it was refused."""
    try:
        with opened(path) as ledger:
            return ledger.entries()
    except TrustError:
        return None


def with_flipped_byte(folder, names, name, place):
    for copied in names:
        shutil.copy(folder / copied, folder / f"flipped-{copied}")
    target = folder / f"flipped-{name}"
    data = bytearray(target.read_bytes())
    data[place] ^= 0xFF
    target.write_bytes(data)
    return folder / f"flipped-{names[0]}"


def test_any_flipped_byte_is_refused_or_changes_nothing(used, tmp_path):
    sound = entries_or_none(used)
    content = used.read_bytes()
    # Free space is most of a page; everything else is looked at, byte by byte where it is short.
    places = [place for place, byte in enumerate(content) if byte][::9] + list(range(0, 100, 3))
    refused = 0
    for place in places:
        found = entries_or_none(with_flipped_byte(tmp_path, ["ledger.db"], "ledger.db", place))
        refused += found is None
        assert found in (None, sound)
    assert refused > len(places) / 3


def test_a_flipped_byte_in_the_journal_is_refused_or_leaves_what_governance_refuses(
    path, tmp_path, order_of, start
):
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        ledger.settle(order_of(1), b"reply one", bytes(32), start)
        ledger.mark_witnessed(ledger.head())
        sound, newest = ledger.entries(), ledger.head()
        cut = powered_off(tmp_path, "cut")
    names = [cut.name, f"{cut.name}-wal"]
    size = (tmp_path / names[1]).stat().st_size
    heads = {entry.sequence: entry.hash for entry in sound} | {0: GENESIS.hash}
    outcomes = set()
    for place in range(0, size, size // 150):
        damaged = with_flipped_byte(tmp_path, names, names[1], place)
        found = entries_or_none(damaged)
        outcomes.add(None if found is None else len(found))
        if found in (None, sound):
            continue
        assert found == sound[: len(found)]
        with opened(damaged) as ledger:
            claim = ledger.claim()
        since = WitnessedHead(sequence=claim.since, hash=heads[claim.since])
        with pytest.raises(RollbackError):
            verify_head_claim(claim, since, newest)
    assert len(outcomes) > 1


def test_an_uncommitted_write_leaves_no_trace_and_a_committed_one_stays(
    path, tmp_path, order_of, start
):
    copies = []
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        copies.append(powered_off(tmp_path, "committed"))
        ledger._connection.execute("BEGIN IMMEDIATE")
        ledger._connection.execute("INSERT INTO entries VALUES (4, x'00', '00')")
        copies.append(powered_off(tmp_path, "uncommitted"))
        ledger._connection.execute("ROLLBACK")
    for copy in copies:
        with opened(copy) as ledger:
            assert [entry.kind for entry in ledger.entries()] == ["open", "reserve", "order"]
            assert ledger.events() == [EVENT]
            with pytest.raises(ConflictError):
                ledger.stored_reply(order_of(1))


@pytest.mark.parametrize("column", ["body", "hash", "sequence"])
@pytest.mark.parametrize(
    "value", ["NULL", "-1", "''", "x'ff'", "1e308", "9223372036854775807", "CAST(x'ff' AS TEXT)"]
)
def test_a_cell_of_any_other_kind_is_refused(used, column, value):
    possible = contextlib.suppress(sqlite3.IntegrityError)  # the file's own rules are a refusal
    with possible:
        edit(used, f"UPDATE entries SET {column} = {value} WHERE sequence = 2")  # noqa: S608
        with pytest.raises(TrustError), opened(used):
            pass


def test_a_refused_file_is_not_kept_open(used, tmp_path):
    edit(used, "DELETE FROM entries WHERE sequence = 2")
    with pytest.raises(TrustError):
        Ledger(used, *BASE, Cap(1.0, DELTA))
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
