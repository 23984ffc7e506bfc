"""The default rule: numbers from public facts, the same for everybody who knows them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.defaults import (
    LONGEST_STEP,
    ROUNDS,
    PublicFacts,
    default_algorithm,
    default_clip,
    default_features,
    default_intervals,
)
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError
from fedcore.privacy.calibration import noise_multiplier_for

FACTS = PublicFacts((1536, 768, 1536, 768, 768), 3.0, 1e-5)


def contract_of(*fields):
    return Contract(
        contract_id="customers",
        version=1,
        title="Customers",
        source="The public price list.",
        subject=SubjectRule(column="id", namespace="number", normaliser="trim-upper/1"),
        fields=fields,
        label=Label(name="churn", positive="Yes", negative="No", horizon_days=30),
        purposes=(Purpose(id="retention", text="Keep", basis="legitimate_interests"),),
        retention_days=365,
    )


def numeric(name="tenure", lower=0.0, upper=72.0, **more):
    return ContractField(name=name, kind="numeric", lower=lower, upper=upper, **more)


def test_room_is_customers_over_the_noise_that_all_units_add_in_a_run():
    one_step = noise_multiplier_for(3.0, 1e-5, 1, 1.0)
    assert FACTS.room == pytest.approx(5376 / (one_step * math.sqrt(5)), rel=1e-4)


def test_the_numbers_of_the_demos_federation_are_the_documented_ones():
    clip = default_clip(19)
    found = default_algorithm(FACTS, ROUNDS, clip)
    assert (clip, found.local_learning_rate) == (1.53, 0.526)
    assert (ROUNDS, found.server_momentum, found.average_last) == (120, 0.9, 60)
    assert found.positive_weight is None
    assert default_intervals(FACTS) == 16


def test_fields_become_inputs_by_their_kind_and_edges_divide_the_bounds_evenly():
    plan = ContractField(name="plan", kind="categorical", categories=("a", "b", "c"))
    features = default_features(contract_of(numeric(), plan), FACTS)
    assert [feature.encoding for feature in features] == ["edges", "onehot"]
    assert features[0].edges == tuple(4.5 * place for place in range(17))
    assert len(input_names(features, contract_of(numeric(), plan))) == 16 + 2


def test_a_field_that_may_not_be_an_input_or_may_be_absent_is_none():
    hidden = [numeric("age", sensitivity=kind) for kind in ("sensitive", "special", "forbidden")]
    for number, field in enumerate([*hidden, numeric("calls", availability="may_be_absent")]):
        contract = contract_of(numeric(), field)
        assert [f.field for f in default_features(contract, FACTS)] == ["tenure"], number


@given(st.floats(-1e12, 1e12, allow_subnormal=False), st.floats(1e-3, 1e12, allow_subnormal=False))
@settings(max_examples=50, deadline=None)
def test_edges_rise_within_the_bounds_whatever_these_are(lower, width):
    contract = contract_of(numeric(lower=lower, upper=lower + width))
    features = default_features(contract, FACTS)
    assert (features[0].edges[0], features[0].edges[-1]) == (lower, lower + width)
    assert 1 <= len(input_names(features, contract)) <= 16


def test_more_units_of_the_same_customers_more_privacy_or_fewer_customers_are_less_room():
    more_units = PublicFacts(FACTS.public_sizes + (0,) * 5, 3.0, 1e-5)
    fewer = PublicFacts(FACTS.public_sizes[:3], 3.0, 1e-5)
    assert more_units.room < FACTS.room
    assert fewer.room < FACTS.room
    rooms = [PublicFacts(FACTS.public_sizes, epsilon, 1e-5).room for epsilon in (0.5, 1, 3, 8)]
    assert rooms == sorted(rooms)
    counts = [default_intervals(PublicFacts((size,), 3.0, 1e-5)) for size in (30, 300, 3000)]
    assert counts == [4, 8, 16]


@given(
    st.lists(st.integers(2, 2**40), min_size=1, max_size=50),
    st.integers(1, 10_000),
    st.integers(1, 5000),
)
@settings(max_examples=100, deadline=None)
def test_no_step_is_longer_than_the_rule_allows_and_all_numbers_are_sound(sizes, rounds, inputs):
    facts = PublicFacts(tuple(sizes), 3.0, 1e-5)
    clip = default_clip(inputs)
    found = default_algorithm(facts, rounds, clip)
    step = found.local_learning_rate * clip
    assert 0 < step <= LONGEST_STEP * 1.01
    assert 1 <= found.average_last <= rounds
    assert found == default_algorithm(facts, rounds, clip)


def test_as_many_rounds_as_one_likes_go_equally_far():
    clips = [
        default_algorithm(FACTS, rounds, 1.0).local_learning_rate * rounds for rounds in (40, 200)
    ]
    assert clips[0] == pytest.approx(clips[1], rel=0.01)


def test_an_epsilon_that_no_noise_reaches_is_refused():
    with pytest.raises(InvalidRecordError, match="noise multiplier"):
        default_intervals(PublicFacts((1536,), 1e9, 1e-5))
