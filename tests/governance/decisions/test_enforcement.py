"""Since when an opt-out acts: never earlier than receipts and bulletins prove."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.decisions.enforcement import (
    History,
    Objection,
    Training,
    say_enforcement,
)

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LINE = ("churn_prediction", "marketing")


def objection(**changes):
    values = {
        "sequence": 5,
        "purpose": "marketing",
        "ground": "art21_2",
        "state": "excluded",
        "received_at": AT,
    }
    return Objection(**{**values, **changes})


def training(number, last_sequence, **changes):
    values = {
        "run_id": "run-1",
        "round": number,
        "answered_at": AT + timedelta(minutes=number),
        "purposes": LINE,
        "last_sequence": last_sequence,
    }
    return Training(**{**values, **changes})


def ask(about, trainings):
    return History(trainings).decide_enforcement(about)


def said(about, *trainings):
    return say_enforcement(about, ask(about, trainings)).partition(";")[0]


def test_it_is_excluded_since_the_first_round_under_opt_outs_that_hold_it():
    found = ask(objection(), [training(1, 4), training(2, 5), training(3, 6)])
    assert found.since == training(2, 5)
    assert found.before == {"run-1": 1}
    text = say_enforcement(objection(), found)
    assert text == (
        "excluded from training since round 2 of run run-1; "
        "scoring outside fedpact is the unit's duty"
    )


def test_a_later_round_under_older_opt_outs_takes_the_claim_back():
    rounds = [training(1, 5), training(2, 4)]
    assert "not shown to be excluded: round 2 of run run-1" in said(objection(), *rounds)
    assert "since round 3" in said(objection(), *rounds, training(3, 5))


def test_without_training_nothing_is_claimed():
    assert said(objection()) == "no training since"
    earlier = training(1, 4, answered_at=AT - timedelta(hours=1))
    assert said(objection(), earlier) == "no training since"
    assert "since round 1" in said(objection(), training(1, 5))


@pytest.mark.parametrize(("ground", "counts"), [("art21_2", False), ("art17", True)])
def test_training_for_another_purpose_shows_nothing_unless_every_purpose_is_meant(ground, counts):
    other = training(1, 5, purposes=("service",))
    assert ("since round 1" in said(objection(ground=ground), other)) == counts


def test_one_who_is_in_again_is_not_said_to_be_out():
    assert said(objection(state="withdrawn"), training(1, 5)) == "excludes nobody now (withdrawn)"


def test_a_round_under_a_bulletin_that_was_not_kept_shows_nothing():
    assert "not shown" in said(objection(sequence=1), training(1, 0))
    assert "since round 1" in said(objection(sequence=1), training(1, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 9))
def test_every_round_from_the_claimed_one_on_is_under_opt_outs_that_hold_it(sequences, sequence):
    rounds = [training(number, last) for number, last in enumerate(sequences, 1)]
    found = ask(objection(sequence=sequence), rounds)
    first = len(rounds) if found.since is None else rounds.index(found.since)
    assert all(last >= sequence for last in sequences[first:])
    assert first == 0 or found.since is None or sequences[first - 1] < sequence
    assert bool(found.since) == bool(sequences and sequences[-1] >= sequence)


def asked_one_by_one(about, trainings):
    """The same, told from the words of the guarantee: each training is looked at by itself."""
    every = about.ground == "art17"
    covered = [each for each in trainings if every or about.purpose in each.purposes]
    late = [each for each in covered if each.last_sequence < about.sequence]
    last = max((covered.index(each) for each in late), default=-1)
    since = covered[last + 1] if last + 1 < len(covered) else None
    not_shown = tuple(each for each in late if each.answered_at >= about.received_at)
    return since, not_shown, dict(Counter(each.run_id for each in late))


ROUNDS = st.tuples(st.integers(0, 6), st.sampled_from(["a", "b"]), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ROUNDS, max_size=8),
    st.lists(st.tuples(st.integers(1, 7), st.booleans(), st.integers(-1, 9)), max_size=4),
)
def test_many_questions_to_one_history_are_answered_as_each_alone(rounds, questions):
    trainings = [
        training(number, last, run_id=run_id, purposes=LINE if fits else ("service",))
        for number, (last, run_id, fits) in enumerate(rounds, 1)
    ]
    history = History(trainings)
    for sequence, every, minutes in questions:
        about = objection(
            sequence=sequence,
            ground="art17" if every else "art21_2",
            state="erased" if every else "excluded",
            received_at=AT + timedelta(minutes=minutes),
        )
        found = history.decide_enforcement(about)
        told = (found.since, found.not_shown, dict(found.before))
        assert told == asked_one_by_one(about, trainings)
