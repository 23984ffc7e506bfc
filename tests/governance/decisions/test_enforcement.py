"""Since when an opt-out acts: never earlier than receipts and bulletins prove."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.optouts import epoch_of
from governance.decisions.enforcement import (
    Objection,
    Training,
    decide_enforcement,
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
        "recorded_at": AT,
    }
    return Objection(**{**values, **changes})


def training(number, last_sequence, **changes):
    values = {
        "run_id": "run-1",
        "round": number,
        "answered_at": AT + timedelta(minutes=number),
        "purposes": LINE,
        "applied_epoch": epoch_of(AT),
        "last_sequence": last_sequence,
    }
    return Training(**{**values, **changes})


def said(about, *trainings):
    return say_enforcement(about, decide_enforcement(about, trainings)).partition(";")[0]


def test_it_is_excluded_since_the_first_round_under_opt_outs_that_hold_it():
    found = decide_enforcement(objection(), [training(1, 4), training(2, 5), training(3, 6)])
    assert found.since == training(2, 5)
    assert [each.round for each in found.before] == [1]
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


def test_when_the_bulletin_is_gone_its_hour_counts_only_when_it_is_over():
    same_hour = training(1, None)
    assert "not shown" in said(objection(), same_hour)
    assert "since round 1" in said(objection(), training(1, None, applied_epoch=epoch_of(AT) + 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 9))
def test_every_round_from_the_claimed_one_on_is_under_opt_outs_that_hold_it(sequences, sequence):
    rounds = [training(number, last) for number, last in enumerate(sequences, 1)]
    found = decide_enforcement(objection(sequence=sequence), rounds)
    first = len(rounds) if found.since is None else rounds.index(found.since)
    assert all(last >= sequence for last in sequences[first:])
    assert first == 0 or found.since is None or sequences[first - 1] < sequence
    assert bool(found.since) == bool(sequences and sequences[-1] >= sequence)
