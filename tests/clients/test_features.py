import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.features import encode
from fedcore.contracts import ContractField
from fedcore.encodings import input_names
from fedcore.errors import MismatchError
from fedcore.plans import Feature, Imputation

BOUNDS = st.floats(-1e300, 1e300)
KINDS = (
    Feature(field="x", encoding="scale"),
    Feature(field="x", encoding="log"),
    Feature(field="x", encoding="edges", edges=(0, 6, 24, 72)),
)


def row(**cells):
    values = {"tenure": 12.0, "charges": 40.0, "plan": "basic", "gender": "male", **cells}
    return pl.DataFrame([values])


def encoded(contract, feature, **cells):
    return encode(row(**cells), (feature,), contract)[0].tolist()


def with_field(contract, **bounds):
    fields = (ContractField(name="x", kind="numeric", **bounds),)
    return contract.model_copy(update={"fields": fields})


@pytest.mark.parametrize(("value", "expected"), [(-10, -1.0), (190, 1.0), (90, 0.0), (40, -0.5)])
def test_scale_maps_the_public_bounds_to_minus_one_and_one(contract, value, expected):
    assert encoded(contract, Feature(field="charges", encoding="scale"), charges=float(value)) == [
        expected
    ]


@pytest.mark.parametrize("value", [-10.0, 0.0, 90.0, 190.0])
def test_log_scales_the_logarithm_above_the_lower_bound(contract, value):
    expected = 2 * math.log(1 + value + 10) / math.log(201) - 1
    found = encoded(contract, Feature(field="charges", encoding="log"), charges=value)
    assert found == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, [0, 0, 0]),
        (3, [0.5, 0, 0]),
        (6, [1, 0, 0]),
        (15, [1, 0.5, 0]),
        (24, [1, 1, 0]),
        (36, [1, 1, 0.25]),
        (72, [1, 1, 1]),
    ],
)
def test_edges_fill_one_interval_after_the_other(contract, value, expected):
    feature = Feature(field="tenure", encoding="edges", edges=(0, 6, 24, 72))
    assert encoded(contract, feature, tenure=float(value)) == expected


def test_beyond_the_outer_edges_nothing_changes_any_more(contract):
    feature = Feature(field="tenure", encoding="edges", edges=(10, 20))
    assert encoded(contract, feature, tenure=0.0) == [0]
    assert encoded(contract, feature, tenure=72.0) == [1]


@pytest.mark.parametrize(
    ("plan", "expected"), [("basic", [0, 0]), ("plus", [1, 0]), ("max", [0, 1])]
)
def test_onehot_leaves_the_first_category_out(contract, plan, expected):
    assert encoded(contract, Feature(field="plan", encoding="onehot"), plan=plan) == expected


@pytest.mark.parametrize(
    ("plan", "expected"), [("basic", [0, 1]), ("plus", [0, 0]), ("max", [1, 0])]
)
def test_onehot_takes_the_plans_levels_in_the_plans_order(contract, plan, expected):
    feature = Feature(field="plan", encoding="onehot", levels=("max", "basic"))
    assert encoded(contract, feature, plan=plan) == expected


def test_columns_stand_in_the_plans_order_one_for_each_input_name(contract, features):
    found = encode(row(), features, contract)
    assert found.shape == (1, len(input_names(features, contract)))
    single = [encode(row(), (feature,), contract) for feature in features]
    assert np.array_equal(found, np.concatenate(single, axis=1))
    assert found.dtype == np.float64
    assert found.flags["C_CONTIGUOUS"]


def test_no_rows_make_a_matrix_without_rows(contract, features):
    assert encode(row().clear(), features, contract).shape == (
        0,
        len(input_names(features, contract)),
    )


@given(st.lists(BOUNDS, min_size=2, max_size=6, unique=True), st.floats(0, 1))
def test_every_number_lies_between_minus_one_and_one(contract, numbers, share):
    edges = tuple(sorted(numbers))
    lower, upper = edges[0], edges[-1]
    bounded = with_field(contract, lower=lower, upper=upper)
    value = min(max(lower + share * (upper - lower), lower), upper)
    frame = pl.DataFrame({"x": [lower, value, upper]})
    kinds = (
        Feature(field="x", encoding="scale"),
        Feature(field="x", encoding="log"),
        Feature(field="x", encoding="edges", edges=edges),
    )
    with np.errstate(over="ignore"):
        found = encode(frame, kinds, bounded)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1


@given(st.permutations(range(6)), st.integers(0, 6))
def test_a_customers_numbers_do_not_depend_on_the_other_rows(contract, features, order, count):
    plans = ["basic", "plus", "max"] * 2
    frame = pl.DataFrame(
        {
            "tenure": [0.0, 3.3, 17.7, 24.0, 55.5, 72.0],
            "charges": [-10.0, 0.1, 1 / 3, 40.0, 99.9, 190.0],
            "plan": plans,
        }
    )
    alone = [encode(frame[place], features, contract).tobytes() for place in range(6)]
    chosen = order[:count]
    together = encode(frame[chosen], features, contract)
    assert [line.tobytes() for line in together] == [alone[place] for place in chosen]


@pytest.mark.parametrize(
    ("feature", "code"),
    [
        (Feature(field="unknown", encoding="scale"), "plan.field_unknown"),
        (Feature(field="plan", encoding="scale"), "plan.encoding_unfit"),
        (Feature(field="tenure", encoding="onehot"), "plan.encoding_unfit"),
        (Feature(field="plan", encoding="onehot", levels=("gold",)), "plan.encoding_unfit"),
    ],
)
def test_a_feature_that_does_not_fit_the_contract_is_refused(contract, feature, code):
    with pytest.raises(MismatchError) as error:
        encode(row(), (feature,), contract)
    assert error.value.code == code


@pytest.fixture(scope="module")
def loose(contract):
    """The contract, of which tenure and plan may be absent, and plan may be empty."""
    tenure, charges, plan, gender = contract.fields
    absent = {"availability": "may_be_absent"}
    fields = (
        tenure.model_copy(update=absent),
        charges,
        plan.model_copy(update={**absent, "missing_category": "max"}),
        gender,
    )
    return contract.model_copy(update={"fields": fields})


def imputing(**constants):
    """Return features of these fields, with what is imputed where a unit lacks them."""
    kinds: dict[str, Any] = {"tenure": "scale", "plan": "onehot"}
    return tuple(
        Feature(
            field=field,
            encoding=kinds[field],
            absent=Imputation(impute=constant, indicator=True),
        )
        for field, constant in constants.items()
    )


def test_an_absent_field_is_its_constant_and_its_indicator_says_so(loose):
    features = imputing(tenure=36, plan="plus")
    here = encode(row(), features, loose)
    assert here.tolist() == [[2 * 12 / 72 - 1, 0, 0, 0, 0]]
    away = encode(row().drop("tenure", "plan"), features, loose, frozenset({"tenure", "plan"}))
    assert away.tolist() == [[0, 1, 1, 0, 1]]
    assert here.shape[1] == len(input_names(features, loose))


def test_what_the_source_holds_of_a_field_that_the_plan_calls_absent_is_not_looked_at(loose):
    features, absent = imputing(tenure=36), frozenset({"tenure"})
    held = [encode(row(tenure=value), features, loose, absent).tobytes() for value in (0.0, 72.0)]
    assert held[0] == held[1] == encode(row().drop("tenure"), features, loose, absent).tobytes()


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_absent_fields_change_no_shape(loose, rows):
    features = imputing(tenure=36, plan="basic")
    frame = pl.concat([row()] * 3)[:rows]
    assert encode(frame, features, loose).shape == (rows, 5)
    assert encode(frame, features, loose, frozenset({"tenure", "plan"})).shape == (rows, 5)


def test_a_field_that_the_plan_does_not_impute_cannot_be_absent(loose):
    features = (Feature(field="tenure", encoding="scale", absent="leave_out"),)
    assert encode(row(), features, loose).shape == (1, 1)
    with pytest.raises(MismatchError) as error:
        encode(row(), features, loose, frozenset({"tenure"}))
    assert error.value.code == "plan.absence_unsaid"


def test_an_empty_cell_is_what_stands_for_it_and_its_indicator_says_so(loose):
    features = (
        Feature(field="charges", encoding="scale", missing_indicator=True),
        Feature(field="plan", encoding="onehot", absent="leave_out", missing_indicator=True),
    )
    frame = row().with_columns(charges=pl.lit(None, pl.Float64), plan=pl.lit(None, pl.String))
    assert encode(frame, features, loose).tolist() == [[-0.5, 1, 0, 1, 1]]
    assert encode(row(plan="max"), features, loose).tolist() == [[-0.5, 0, 0, 1, 0]]


@given(st.sampled_from(KINDS), st.floats(0, 72), st.booleans(), st.booleans())
def test_imputed_numbers_and_indicators_lie_between_minus_one_and_one(
    contract, kind, constant, lacks, is_empty
):
    bounded = with_field(
        contract, lower=0, upper=72, missing_value=72 - constant, availability="may_be_absent"
    )
    rule = Imputation(impute=constant, indicator=True)
    feature = kind.model_copy(update={"absent": rule, "missing_indicator": True})
    frame = pl.DataFrame({"x": [None if is_empty else constant]}, schema={"x": pl.Float64})
    found = encode(frame, (feature,), bounded, frozenset({"x"} if lacks else ()))
    assert np.abs(found).max() <= 1
    assert found[0, -2:].tolist() == [float(is_empty and not lacks), float(lacks)]


@given(st.permutations(range(4)), st.integers(0, 4), st.sets(st.sampled_from(["tenure", "plan"])))
def test_with_absent_and_empty_cells_too_numbers_do_not_depend_on_the_other_rows(
    loose, order, count, absent
):
    marked = Feature(field="charges", encoding="log", missing_indicator=True)
    features = (*imputing(tenure=36, plan="plus"), marked)
    frame = pl.DataFrame(
        {
            "tenure": [0.0, 3.3, 17.7, 72.0],
            "charges": [-10.0, None, 1 / 3, None],
            "plan": ["basic", None, "max", "plus"],
        }
    )
    lacks = frozenset(absent)
    alone = [encode(frame[place], features, loose, lacks).tobytes() for place in range(4)]
    chosen = order[:count]
    together = encode(frame[chosen], features, loose, lacks)
    assert [line.tobytes() for line in together] == [alone[place] for place in chosen]
