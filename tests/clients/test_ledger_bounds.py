"""No bound of any part is passed, whoever chooses plans, caps and processes as they like."""

import math
import shutil
from contextlib import closing
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.budget import (
    WHOLE,
    Bound,
    Cap,
    Reservation,
    Use,
    bounds_for,
    events_under,
    read_reserved,
    use_of,
    use_terms,
    verify_within,
)
from clients.ledger import Ledger
from fedcore.caps import EpsilonCaps
from fedcore.errors import BudgetError
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

DELTA = 1e-5
BASE = ("north", "customer-number")
CAP = Cap(4.0, DELTA)
NOISES = (1.5, 3.0, 6.0, 12.0, 40.0)
CHOICES = st.tuples(
    st.booleans(),  # what the last output seemed to show
    st.sampled_from([("retention", "marketing"), ("billing", "service")]),
    st.sampled_from(["churn/customers", "response/customers"]),
    st.integers(2026, 2027),
    st.sampled_from([0.5, 1.0, 4.0]),  # what the caps are set to, by their usual values
    st.booleans(),  # whether another process goes on
)


def event_of(noise, steps):
    return PrivacyEvent(
        mechanism="gaussian", sampling_rate=1.0, noise_multiplier=noise, steps=steps
    )


def true_delta(events, epsilon):
    """Delta of full-batch Gaussian steps, exactly: Balle and Wang (2018), Theorem 8."""
    mu = math.sqrt(sum(event.steps / event.noise_multiplier**2 for event in events))
    normal = NormalDist()
    high, low = normal.cdf(mu / 2 - epsilon / mu), normal.cdf(-mu / 2 - epsilon / mu)
    return high - math.exp(epsilon) * low


def opened(path, cap=CAP):
    return closing(Ledger(path, *BASE, cap))


def wish_for(run_id, event, use, bounds):
    permit = "sha256:" + "1" * 64
    return Reservation(run_id, permit, event, 4, 1e9, use=use, bounds=bounds)


@pytest.fixture(scope="module")
def empty(tmp_path_factory, start):
    path = tmp_path_factory.mktemp("bounds") / "ledger.db"
    Ledger.create(path, *BASE, start)
    return path


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(CHOICES, min_size=6, max_size=16))
def test_whoever_chooses_plans_after_outputs_passes_no_bound(
    empty, tmp_path_factory, order_of, start, choices
):
    """The chooser takes the least noise that still passes, and presses on after each refusal."""
    path = shutil.copy(empty, tmp_path_factory.mktemp("chooser") / "ledger.db")
    ledger, refused = Ledger(path, *BASE, CAP), 0
    for number, (seen, purposes, line, year, factor, is_other) in enumerate(choices):
        if is_other:
            ledger.close()
            ledger = Ledger(path, *BASE, CAP)
        use, at = Use(purposes, line), start.replace(year=year)
        caps = EpsilonCaps(line=2.5 * factor, year=2.0 * factor, purpose=3.0 * factor)
        for noise in NOISES if seen else NOISES[1:]:
            run_id = f"run-{number}-{noise}"
            bounds = bounds_for(use, year, {}, caps)
            wish = wish_for(run_id, event_of(noise, 4 if seen else 9), use, bounds)
            try:
                ledger.begin(order_of(1, run_id=run_id), wish, at)
                break
            except BudgetError:
                refused += 1
    reserved = ledger.reservations()
    ledger.close()
    assert refused
    held = {bound for one in reserved for bound in one.bounds}
    for bound in (*held, Bound("history", WHOLE, CAP.epsilon)):
        events = events_under(bound, reserved)
        assert renyi_epsilon(events, DELTA) <= bound.epsilon
        assert true_delta(events, bound.epsilon) <= DELTA


@pytest.fixture
def spent(empty, tmp_path, order_of, start, contract, plan):
    """A ledger in which one run has taken nearly all of each bound, its event, and these caps."""
    path = shutil.copy(empty, tmp_path / "ledger.db")
    use, event = use_of(plan, contract), event_of(8.0, 16)
    cost = renyi_epsilon([event], DELTA) * 1.01
    caps = EpsilonCaps(line=cost, year=cost, purpose=cost)
    with opened(path) as ledger:
        wish = wish_for("run-1", event, use, bounds_for(use, start.year, {}, caps))
        ledger.begin(order_of(1), wish, start)
    return path, event, caps


def test_a_new_version_of_the_contract_resets_no_bound(spent, order_of, start, contract, plan):
    path, event, caps = spent
    newer = contract.model_copy(update={"version": 2, "title": "Customers, anew"})
    later = plan.model_copy(update={"contract": newer.digest})
    assert newer.digest != contract.digest
    use = use_of(later, newer)
    with opened(path) as ledger:
        wish = wish_for("run-2", event, use, bounds_for(use, start.year, {}, caps))
        with pytest.raises(BudgetError) as error:
            ledger.begin(order_of(1, run_id="run-2"), wish, start)
        assert set(error.value.codes) == {
            "budget.purpose_exceeded",
            "budget.line_exceeded",
            "budget.year_exceeded",
        }
        assert [one.run_id for one in ledger.reservations()] == ["run-1"]


def test_another_place_and_settings_without_caps_reset_no_bound(
    spent, tmp_path, order_of, start, contract, plan
):
    path, event, _ = spent
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(path, moved / "ledger.db")
    unbound, small = (
        wish_for("run-2", one, use_of(plan, contract), ()) for one in (event, event_of(1000.0, 1))
    )
    with opened(moved / "ledger.db") as ledger, pytest.raises(BudgetError):
        ledger.begin(order_of(1, run_id="run-2"), unbound, start)
    with opened(moved / "ledger.db") as ledger:
        ledger.begin(order_of(1, run_id="run-2"), small, start)


def test_a_run_that_says_nothing_of_itself_counts_to_every_part(spent, start):
    path, event, _ = spent
    with opened(path) as ledger:
        reserved = ledger.reservations()
    body = {
        "run_id": "run-2",
        "event": event.model_dump(mode="json", exclude_none=True),
        "at": start.isoformat(),
        **use_terms(None),
    }
    with pytest.raises(BudgetError) as error:
        verify_within(reserved, read_reserved(body), CAP)
    assert len(error.value.codes) == 3
