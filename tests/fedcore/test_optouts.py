"""What each legal ground does: one table, that every party computes the same states from."""

import itertools
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.optouts import (
    EFFECTS,
    Act,
    Ground,
    OptOutEvent,
    State,
    consenting_to,
    excluded_from,
    excludes,
    live_versions,
    next_state,
    states_of,
)

GROUNDS, ACTS, STATES = get_args(Ground), get_args(Act), get_args(State)
AGAIN = {"rejected", "lifted", "withdrawn", "consented"}
HEIR = 2


def standing(states):
    """The (pseudonym, purpose) pairs with an objection that excludes."""
    return frozenset(
        (pseudonym, purpose)
        for (purpose, _), group in states.items()
        for pseudonym, state in group.items()
        if excludes(state)
    )


def event(ground="art21_2", act=None, sequence=1, customer=1, purpose="marketing", **changes):
    values = {
        "unit": "north",
        "sequence": sequence,
        "pseudonym": f"{customer:064x}",
        "key_version": 1,
        "purpose": purpose,
        "channel": "web",
        "ground": ground,
        "received_at": datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
        "act": act,
        "reason": "legal_claims" if act == "rejected" else None,
        "successor": f"{HEIR:064x}" if act == "reissued" else None,
    }
    return OptOutEvent(**{**values, **changes})


def states_after(*events):
    return states_of(found.entry for found in events)


def after(ground, *acts):
    """The state of one objection after these acts; None is the objection itself."""
    states = states_of(event(ground, act).entry for act in acts)
    (group,) = states.values()
    return next(iter(group.values()))


def test_every_ground_has_an_effect_and_every_objection_excludes_at_once():
    assert set(EFFECTS) == set(GROUNDS)
    for ground in GROUNDS:
        assert excludes(after(ground, None)), ground


@pytest.mark.parametrize(
    ("ground", "acts", "state"),
    [
        ("art21_2", [None, "withdrawn"], "withdrawn"),
        ("art21_1", [None], "pending"),
        ("art21_1", [None, "upheld"], "upheld"),
        ("art21_1", [None, "rejected"], "rejected"),
        ("art21_1", [None, "rejected", "upheld"], "upheld"),
        ("art21_1", [None, "rejected", None], "pending"),
        ("art21_1", [None, "upheld", None], "upheld"),
        ("art21_1", [None, "upheld", "withdrawn"], "withdrawn"),
        ("art7_3", ["consented"], "consented"),
        ("art7_3", ["consented", None], "excluded"),
        ("art7_3", [None, "consented"], "consented"),
        ("art17", [None], "erasure_due"),
        ("art17", [None, "erased"], "erased"),
        ("art17", [None, "erased", None], "erased"),
        ("art17", [None, "withdrawn"], "withdrawn"),
        ("art18", [None], "restricted"),
        ("art18", [None, "lifted"], "lifted"),
        ("art18", [None, "withdrawn"], "withdrawn"),
        ("ccpa_120", [None, "withdrawn", None], "excluded"),
        ("gpc", [None, "withdrawn"], "withdrawn"),
    ],
)
def test_a_ground_leads_from_state_to_state(ground, acts, state):
    assert after(ground, *acts) == state
    assert excludes(state) == (state not in AGAIN)


@pytest.mark.parametrize(
    ("ground", "acts"),
    [
        ("art21_2", ["withdrawn"]),
        ("art21_2", [None, "withdrawn", "withdrawn"]),
        ("art21_1", [None, "upheld", "rejected"]),
        ("art21_1", [None, "withdrawn", "upheld"]),
        ("art17", [None, "erased", "withdrawn"]),
        ("art17", ["erased"]),
        ("art18", [None, "lifted", "withdrawn"]),
    ],
)
def test_what_the_table_does_not_name_is_refused(ground, acts):
    with pytest.raises(ConflictError) as error:
        after(ground, *acts)
    assert error.value.code == "opt_out.act_not_open"
    assert after(ground, *acts[:-1] or [None])


def test_a_record_has_no_act_that_its_ground_does_not_have():
    refused = set()
    for ground, act in itertools.product(GROUNDS, ACTS):
        content = event("art21_2").to_json() | {"ground": ground, "act": act}
        content |= {"reason": "compelling_grounds"} if act == "rejected" else {}
        content |= {"successor": f"{HEIR:064x}"} if act == "reissued" else {}
        if act in {"reissued", *EFFECTS[ground].acts}:
            assert OptOutEvent.from_json(content).act == act
        else:
            refused.add((ground, act))
            with pytest.raises(InvalidRecordError):
                OptOutEvent.from_json(content)
    assert {("art21_2", "rejected"), ("art7_3", "withdrawn"), ("gpc", "lifted")} <= refused


def test_a_rejection_and_nothing_else_has_a_reason():
    sound = event("art21_1", "rejected").to_json()
    assert OptOutEvent.from_json(sound).reason == "legal_claims"
    for changes in ({"act": "upheld"}, {"reason": "we need the data"}):
        with pytest.raises(InvalidRecordError):
            OptOutEvent.from_json(sound | changes)
    sound.pop("reason")
    with pytest.raises(InvalidRecordError):
        OptOutEvent.from_json(sound)


def test_a_re_issue_and_nothing_else_has_another_pseudonym_to_go_on_under():
    sound = event("art21_1", "reissued").to_json()
    assert OptOutEvent.from_json(sound).heir == (f"{HEIR:064x}", "marketing", "art21_1")
    for changes in ({"act": "upheld"}, {"successor": sound["pseudonym"]}, {"successor": "C2"}):
        with pytest.raises(InvalidRecordError):
            OptOutEvent.from_json(sound | changes)
    sound.pop("successor")
    with pytest.raises(InvalidRecordError):
        OptOutEvent.from_json(sound)


def reachable(ground):
    return {EFFECTS[ground].first, *EFFECTS[ground].steps.values()}


def test_nothing_is_re_issued_before_its_heir_is_in_the_very_same_state():
    """So nobody is in again by a change of keys: governance holds every re-issue against this."""
    for ground in GROUNDS:
        end = event(ground, "reissued")
        for state, heir in itertools.product(reachable(ground), (None, *reachable(ground))):
            if state == heir:
                assert next_state(end, state, heir) == "reissued"
                continue
            with pytest.raises(ConflictError) as error:
                next_state(end, state, heir)
            assert error.value.code == "opt_out.act_not_open"
        for before in (None, "reissued"):
            with pytest.raises(ConflictError):
                next_state(end, before, before)


def test_a_key_is_needed_until_all_that_is_known_under_it_was_re_issued():
    events = [event(), event("gpc", sequence=2), event(customer=HEIR, sequence=3, key_version=2)]
    entries = [each.entry for each in events]
    assert live_versions(entries, states_of(entries)) == {1: 2, 2: 1}
    entries.append(event(act="reissued", sequence=4).entry)
    assert live_versions(entries, states_of(entries)) == {1: 1, 2: 1}
    assert standing(states_of(entries)) == {
        (event(customer=n).pseudonym, "marketing") for n in (1, 2)
    }


def test_an_unknown_ground_or_act_is_refused_as_older_software_refuses_the_newer_ones():
    for changes in ({"ground": "art99"}, {"act": "forgotten"}, {"scope": "group"}):
        with pytest.raises(InvalidRecordError) as error:
            OptOutEvent.from_json(event().to_json() | changes)
        assert error.value.code == "record.invalid"


def test_what_may_follow_any_state_does():
    """Such events are stored without a look at those before."""
    for ground, state in itertools.product(GROUNDS, (None, *STATES)):
        acts = {None, "consented"} & {None, *EFFECTS[ground].acts}
        for act in acts if state in {None, "reissued", *reachable(ground)} else ():
            assert event(ground, act).said.is_always_open
            assert next_state(event(ground, act), state)


def test_one_ground_lifted_does_not_lift_another():
    both = [event("art21_2"), event("art21_1", sequence=2)]
    rejected = event("art21_1", "rejected", sequence=3)
    withdrawn = event("art21_2", "withdrawn", sequence=4)
    pair = (both[0].pseudonym, "marketing")
    assert standing(states_after(*both, rejected)) == {pair}
    assert standing(states_after(*both, rejected, withdrawn)) == frozenset()


@pytest.mark.parametrize("ground", GROUNDS)
def test_erasure_and_restriction_reach_beyond_the_purpose_that_they_name(ground):
    states = states_after(event(ground, purpose="analytics"))
    assert excluded_from(states, ("analytics",)) == {event().pseudonym}
    assert bool(excluded_from(states, ("marketing",))) == (ground in {"art17", "art18"})


def test_a_consent_counts_for_its_very_purpose_until_it_is_withdrawn():
    given_ = event("art7_3", "consented")
    assert consenting_to(states_after(given_), "marketing") == {given_.pseudonym}
    assert consenting_to(states_after(given_), "retention") == frozenset()
    assert consenting_to(states_after(given_, event("art7_3")), "marketing") == frozenset()
    assert standing(states_after(given_)) == frozenset()


@given(st.lists(st.tuples(st.sampled_from(GROUNDS), st.sampled_from((None, *ACTS))), max_size=30))
def test_whoever_is_in_again_has_an_act_that_says_so(steps):
    states, last = {}, {}  # type: ignore[var-annotated]
    for ground, act in steps:
        if act is not None and act not in EFFECTS[ground].acts:
            continue
        said = event(ground, act)
        try:
            states[ground] = next_state(said, states.get(ground))
        except ConflictError:
            continue
        last[ground] = act
    for ground, state in states.items():
        assert (not excludes(state)) == (last[ground] in AGAIN)
