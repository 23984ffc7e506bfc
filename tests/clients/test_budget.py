from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.budget import (
    Bound,
    Cap,
    Groups,
    Reserved,
    bounds_for,
    events_under,
    use_of,
    verify_within,
)
from clients.spending import days_of, outlook_of, parts_of
from fedcore.caps import EpsilonCaps
from fedcore.errors import BudgetError
from fedcore.privacy.accounting import decide_within, filter_share, renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

DELTA = 1e-5
CAP = Cap(8.0, DELTA)
YEAR = Bound("year", "2026", 2.0)
EVENTS = st.tuples(st.floats(2.0, 50.0), st.integers(1, 30), st.sampled_from([1.0, 0.1]))


def event_of(noise, steps=4, rate=1.0):
    return PrivacyEvent(
        mechanism="gaussian", sampling_rate=rate, noise_multiplier=noise, steps=steps
    )


def reserved(event=None, bounds=(), **changes):
    said = {"purposes": ("churn", "service"), "line": "churn/crm", "years": (2026, 2026)}
    values = {"run_id": "run", "event": event or event_of(8.0), "rebuilt": False}
    return Reserved(**{**values, **said, "bounds": tuple(bounds), **changes})


@pytest.mark.parametrize(
    ("bound", "other"),
    [
        (Bound("purpose", "service", 2.0), {"purposes": ("billing",)}),
        (Bound("line", "churn/crm", 2.0), {"line": "response/crm"}),
        (YEAR, {"years": (2025, 2025)}),
    ],
)
def test_what_counts_to_a_part_is_what_says_so_and_what_says_nothing(bound, other):
    silent = {"purposes": None, "line": None, "years": (2024, 2026)}
    unknown = {name: silent[name] for name in other}
    history = [reserved(), reserved(**other), reserved(**unknown)]
    assert events_under(bound, history) == [history[0].event, history[2].event]


def test_policy_and_permit_set_bounds_on_the_parts_of_a_run(plan, contract):
    use = use_of(plan, contract)
    assert (use.purposes, use.line) == (("retention", "marketing"), "churn/customers")
    found = bounds_for(
        use, 2026, {"marketing": 3.0, "analytics": 1.0}, EpsilonCaps(year=2.0), EpsilonCaps(line=5)
    )
    assert set(found) == {
        Bound("purpose", "marketing", 3.0),
        Bound("year", "2026", 2.0),
        Bound("line", "churn/customers", 5.0),
    }


def test_a_bound_can_be_tightened_and_not_widened_within_its_part():
    earlier = reserved(bounds=[Bound("year", "2026", 2.0)])
    both = renyi_epsilon([earlier.event] * 2, DELTA)
    wide, narrow = (reserved(bounds=[Bound("year", "2026", cap)]) for cap in (both * 2, both * 0.9))
    with pytest.raises(BudgetError) as error:
        verify_within([earlier], narrow, CAP)
    assert error.value.codes == ("budget.year_exceeded",)
    tight = reserved(bounds=[Bound("year", "2026", both * 0.9)])
    with pytest.raises(BudgetError):
        verify_within([tight], wide, CAP)
    verify_within([tight], reserved(years=(2027, 2027), bounds=[YEAR]), CAP)


def test_a_refusal_names_each_bound_that_would_be_passed():
    bounds = [Bound("line", "churn/crm", 0.1), Bound("purpose", "service", 0.1), YEAR]
    with pytest.raises(BudgetError) as error:
        verify_within([], reserved(bounds=bounds), Cap(0.5, DELTA))
    assert set(error.value.codes) == {
        "budget.exceeded",
        "budget.line_exceeded",
        "budget.purpose_exceeded",
    }


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(EVENTS, st.sampled_from(["a", "b"]), st.integers(2026, 2027)), max_size=14)
)
def test_whoever_chooses_runs_after_outputs_passes_no_bound_of_any_part(wishes):
    bounds = {
        "a": Bound("purpose", "a", 2.5),
        "b": Bound("line", "b", 1.5),
    }
    history: list[Reserved] = []
    for (noise, steps, rate), part, year in wishes:
        own = [bounds[part], Bound("year", str(year), 2.0)]
        wish = reserved(
            event_of(noise, steps, rate), own, purposes=(part,), line=part, years=(year, year)
        )
        try:
            verify_within(history, wish, Cap(3.0, DELTA))
            history.append(wish)
        except BudgetError as error:
            assert error.codes  # noqa: PT017 - both outcomes are looked at
    every = [*bounds.values(), *(Bound("year", y, 2.0) for y in ("2026", "2027"))]
    for bound in [*every, Bound("history", "all", 3.0)]:
        assert renyi_epsilon(events_under(bound, history), DELTA) <= bound.epsilon


TERMS = st.fixed_dictionaries(
    {
        "run_id": st.sampled_from(["run-1", "run-2"]),
        "event": st.builds(event_of, st.sampled_from([8.0, 20.0]), st.integers(1, 5)),
        "bounds": st.sampled_from([(), (YEAR,), (Bound("purpose", "churn", 1.0),)]),
        "purposes": st.sampled_from([None, ("churn", "service"), ("billing",)]),
        "line": st.sampled_from([None, "churn/crm"]),
        "years": st.sampled_from([(2025, 2025), (2026, 2026), (2025, 2026)]),
    }
)


def refusals(history, wish):
    try:
        verify_within(history, wish, Cap(1.5, DELTA))
    except BudgetError as error:
        return error.reasons
    return []


@settings(max_examples=40, deadline=None)
@given(st.lists(TERMS, max_size=12), TERMS)
def test_what_is_decided_about_groups_is_decided_about_reservations(history, wish):
    groups, each = Groups(), [reserved(**terms) for terms in history]
    for one in each:
        groups.add(one)
    assert len(groups.reserved()) <= len(each)
    assert refusals(groups.reserved(), reserved(**wish)) == refusals(each, reserved(**wish))
    for bound in (Bound("history", "all", 0.0), *(b for one in each for b in one.bounds)):
        found, true = (events_under(bound, among) for among in (groups.reserved(), each))
        assert renyi_epsilon(found, DELTA) == renyi_epsilon(true, DELTA)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=5), st.floats(0.001, 20.0))
def test_the_filter_says_yes_exactly_when_the_claim_is_within_the_cap(terms, cap):
    events = [event_of(*term) for term in terms]
    is_within = renyi_epsilon(events, DELTA) <= cap
    assert decide_within(events, [], cap, DELTA) == is_within
    assert (filter_share(events, cap, DELTA) <= 1) == is_within


def test_a_plan_that_fits_so_often_is_refused_the_next_time():
    each = event_of(8.0)
    cap = Cap(renyi_epsilon([each] * 5, DELTA), DELTA)
    history, days = [reserved(each)], list(days_of(date(2026, 10, 31), "month"))
    bounds = [Bound("history", "all", cap.epsilon), Bound("year", "2026", cap.epsilon)]
    whole, year = outlook_of(history, reserved(each), bounds, DELTA, days)
    assert (whole.repeats, year.repeats) == (4, 4)
    assert whole.refused_at == date(2027, 2, 28)
    assert year.refused_at == date(2027, 6, 30)  # the new year's cap is a fresh one
    assert whole.after == pytest.approx(renyi_epsilon([each] * 2, DELTA))
    for _ in range(whole.repeats):
        verify_within(history, reserved(each), cap)
        history.append(reserved(each))
    with pytest.raises(BudgetError):
        verify_within(history, reserved(each), cap)


def test_each_part_of_the_history_is_added_up_with_the_least_cap_in_force():
    history = [reserved(bounds=[YEAR]), reserved(purposes=("billing",), years=(2025, 2025))]
    found = {(part.scope, part.of): part for part in parts_of(history, CAP, [Bound(*YEAR[:2], 3)])}
    assert set(found) == {
        ("history", "all"),
        ("purpose", "churn"),
        ("purpose", "service"),
        ("purpose", "billing"),
        ("line", "churn/crm"),
        ("year", "2025"),
        ("year", "2026"),
    }
    assert found["year", "2026"].cap == YEAR.epsilon
    assert found["year", "2025"].cap is None
    assert found["history", "all"].claim > found["year", "2026"].claim > found["year", "2026"].pld
