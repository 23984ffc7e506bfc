"""A run that is closed goes on no more, and counts as what was begun of it."""

import shutil
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.budget import Cap, Reservation
from clients.ledger import Ledger
from clients.ledger_entries import Entry, append
from clients.ledger_export import export_ledger, read_export
from clients.reservations import Reservations
from fedcore.errors import BudgetError, RefusedError, TrustError
from fedcore.privacy.accounting import decide_within, renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

DELTA = 1e-5
BASE = ("north", "customer-number")


def event_of(steps):
    return PrivacyEvent(
        mechanism="gaussian",
        l2_sensitivity=1.0,
        sampling_rate=1.0,
        noise_multiplier=8.0,
        steps=steps,
    )


# Four exchanges of two steps each.
EVENT = event_of(8)
COST = renyi_epsilon([EVENT], DELTA)


def reservation(run_id="run-1"):
    return Reservation(run_id, "sha256:" + "1" * 64, EVENT, 4, COST)


def opened(path, epsilon=10.0):
    return closing(Ledger(path, *BASE, Cap(epsilon, DELTA)))


@pytest.fixture(scope="session")
def empty(tmp_path_factory, start):
    path = tmp_path_factory.mktemp("reservations") / "ledger.db"
    Ledger.create(path, *BASE, start)
    return path


@pytest.fixture
def path(empty, tmp_path):
    return shutil.copy(empty, tmp_path / "ledger.db")


def begun(ledger, order_of, start, count=2, run_id="run-1"):
    """Begin exchanges of a run, and answer all but the last of them."""
    orders = [order_of(round_ + 1, run_id=run_id) for round_ in range(count)]
    for order in orders:
        ledger.begin(order, reservation(run_id), start)
        if order is not orders[-1]:
            ledger.settle(order, b"a reply", bytes(32), start)
    return orders


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_closed_run_counts_as_what_was_begun_and_one_exchange_of_those_it_has_reserved(
    path, order_of, start, count
):
    counted = event_of(2 * min(count + 1, 4))
    with opened(path) as ledger:
        begun(ledger, order_of, start, count)
        assert ledger.events() == [EVENT]
        assert ledger.close_runs(["run-1"], "unit", start) == ("run-1",)
        assert ledger.events() == [counted]
    with opened(path) as again:
        assert again.events() == [counted]
        copy = read_export(export_ledger(again))
    assert [one.event for one in copy.reserved] == [counted]
    assert [one.closed for one in copy.reserved] == ["unit"]


def test_no_order_of_a_closed_run_is_begun_settled_or_repeated(path, order_of, start):
    with opened(path) as ledger:
        first, second = begun(ledger, order_of, start)
        assert ledger.stored_reply(first) == b"a reply"
        assert ledger.stored_reply(order_of(3)) is None
        ledger.close_runs(["run-1"], "unit", start)
    with opened(path) as ledger:
        entries = ledger.entries()
        for act in (
            lambda: ledger.stored_reply(first),
            lambda: ledger.stored_reply(order_of(3)),
            lambda: ledger.begin(order_of(3), reservation(), start),
            lambda: ledger.settle(second, b"too late", bytes(32), start),
            lambda: ledger.verify_open("run-1"),
        ):
            with pytest.raises(RefusedError) as error:
                act()
            assert error.value.codes == ("order.run_closed",)
        assert ledger.entries() == entries
        begun(ledger, order_of, start, run_id="run-2")  # any other run goes on


def test_an_order_that_was_begun_before_another_process_closed_its_run_is_not_answered(
    path, order_of, start
):
    with opened(path) as computing, opened(path) as operator:
        (order,) = begun(computing, order_of, start, 1)
        operator.close_runs(["run-1"], "unit", start)
        with pytest.raises(RefusedError) as error:
            computing.settle(order, b"too late", bytes(32), start)
        assert error.value.codes == ("order.run_closed",)
        assert computing.events() == operator.events() == [event_of(4)]


def test_a_run_that_a_revocation_has_closed_is_refused_as_revoked(path, order_of, start):
    with opened(path) as ledger:
        (order,) = begun(ledger, order_of, start, 1)
        ledger.close_runs(["run-1"], "revoked", start)
        with pytest.raises(RefusedError) as error:
            ledger.settle(order, b"too late", bytes(32), start)
        assert error.value.codes == ("permit.revoked",)


def test_what_a_closed_run_has_not_begun_is_free_for_another_one(path, order_of, start):
    both = renyi_epsilon([event_of(4), EVENT], DELTA)
    with opened(path, both) as ledger:
        begun(ledger, order_of, start, 1)
        with pytest.raises(BudgetError) as error:
            ledger.begin(order_of(1, run_id="run-2"), reservation("run-2"), start)
        assert error.value.codes == ("budget.exceeded",)
        ledger.close_runs(["run-1"], "ended", start)
        ledger.begin(order_of(1, run_id="run-2"), reservation("run-2"), start)
        assert ledger.events() == [event_of(4), EVENT]
    with opened(path, both) as ledger, pytest.raises(BudgetError):
        ledger.begin(order_of(1, run_id="run-3"), reservation("run-3"), start)


def test_only_what_is_open_here_is_closed_and_only_once(path, order_of, start):
    with opened(path) as ledger, opened(path) as other:
        begun(ledger, order_of, start)
        assert ledger.close_runs(["run-2"], "ended", start) == ()
        assert other.close_runs(["run-1", "run-2"], "ended", start) == ("run-1",)
        entries = other.entries()
        assert ledger.close_runs(["run-1"], "unit", start) == ()
        assert ledger.entries() == entries
        assert entries[-1].body["why"] == "ended"


def test_two_who_close_one_run_at_once_write_one_closing(path, order_of, start):
    with opened(path) as ledger, opened(path) as other:
        begun(ledger, order_of, start)

        def named():  # by when it is named, this one has looked, and the other closes it
            other.close_runs(["run-1"], "ended", start)
            yield "run-1"

        assert ledger.close_runs(named(), "unit", start) == ()
        assert [entry.kind for entry in ledger.entries()].count("close") == 1
        assert ledger.reservations()[0].closed == "ended"


def test_a_run_of_a_lost_ledger_is_never_closed(tmp_path, start):
    at = start.isoformat()
    body = {"kind": "reserve", **reservation().terms, "at": at}
    path = tmp_path / "ledger.db"
    rebuilt = {**body, "rebuilt": {"since": at, "until": at}}
    Ledger.create(path, *BASE, start, reserved=[rebuilt])
    with opened(path) as ledger:
        assert ledger.close_runs(["run-1"], "unit", start) == ()
        assert ledger.events() == [EVENT]
        append(ledger._connection, closing_entry(exchanges=0))
        with pytest.raises(TrustError) as error:
            ledger.reservations()
        assert error.value.code == "ledger.corrupt"


def closing_entry(**changes):
    body = {"kind": "close", "run_id": "run-1", "exchanges": 2, "why": "unit"}
    return {**body, "at": "2026-03-02T09:00:00+00:00", **changes}


LATER = {"kind": "order", "run_id": "run-1", "round": 9, "attempt": 1, "order": "later"}


@pytest.mark.parametrize(
    "bodies",
    [
        (closing_entry(), LATER),
        (closing_entry(), closing_entry()),
        (closing_entry(exchanges=1),),
        (closing_entry(exchanges=3),),
        (closing_entry(run_id="run-2"),),
    ],
    ids=["an order after it", "twice", "fewer", "more", "of another run"],
)
def test_a_closing_that_does_not_follow_is_damage_in_the_file_and_in_its_copy(
    path, order_of, start, bodies
):
    with opened(path) as ledger:
        begun(ledger, order_of, start)
        for body in bodies:
            append(ledger._connection, body)
        for read in (ledger.reservations, lambda: read_export(export_ledger(ledger))):
            with pytest.raises(TrustError) as error:
                read()
            assert error.value.code == "ledger.corrupt"


STEPS = st.lists(
    st.tuples(st.sampled_from(["order", "close"]), st.integers(0, 3)), min_size=1, max_size=30
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_no_chooser_of_ends_has_more_begun_than_the_filter_lets_pass(steps):
    """Runs of the same four exchanges are reserved, gone on with and closed in any order."""
    cap, noted, spent, sequence = COST * 1.2, Reservations(), 0, 0

    def note(kind, **body):
        nonlocal sequence
        sequence += 1
        noted.note(Entry(sequence=sequence, hash="", kind=kind, body=body))

    for kind, number in steps:
        run_id = f"run-{number}"
        run, done = noted.find(run_id), noted.begun(run_id)
        if kind == "close" and noted.is_open(run_id):
            note("close", run_id=run_id, exchanges=done, why="unit")
        elif kind == "order" and (run is None or run.closed is None) and done < 4:
            counted = [one.event for one in noted.groups.reserved()]
            if run is None and not decide_within(counted, [EVENT], cap, DELTA):
                continue
            if run is None:
                terms = reservation(run_id).terms
                note("reserve", **terms, at="2026-03-02T09:00:00+00:00")
            note("order", run_id=run_id, round=done + 1, attempt=1, order="some")
            spent += 2
        listed = sum(one.event.steps for one in noted.listed())
        assert spent <= listed == sum(one.event.steps for one in noted.groups.reserved())
        assert renyi_epsilon([event_of(listed)], DELTA) <= cap if listed else not spent
