"""Public states of fields become the inputs that nodes train on."""

import numpy as np
import polars as pl
import pytest

from clients.features import encode
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.encodings import input_names
from fedcore.errors import MismatchError
from fedcore.field_grids import POINTS, field_grids
from fedcore.learning_rules import Algorithm
from fedcore.plans import Feature, Imputation, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms

KINDS = ("gold", "basic", "plus")


def contract_of(*fields):
    return Contract(
        contract_id="c",
        version=1,
        title="t",
        source="s",
        subject=SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
        fields=fields,
        label=Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        purposes=(Purpose(id="churn", text="c", basis="consent"),),
        retention_days=10,
    )


def numeric(name, **changes):
    values = {"name": name, "kind": "numeric", "lower": -10, "upper": 190}
    return ContractField(**{**values, **changes})


def plan_of(contract, features, **changes):
    values = {
        "title": "p",
        "task": "churn",
        "purpose": "churn",
        "contract": contract.digest,
        "features": features,
        "units": (UnitTerms(unit="north", public_n=1536),),
        "minimum_units": 1,
        "model": ModelSpec(kind="logistic"),
        "initial_model": contract.digest,
        "algorithm": Algorithm(local_learning_rate=1.0),
        "rounds": 2,
        "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
    }
    return TrainingPlan(**{**values, **changes})


MIXED = contract_of(
    numeric("charges", missing_value=40.0),
    ContractField(name="kind", kind="categorical", categories=KINDS, missing_category="basic"),
    numeric("calls", availability="may_be_absent"),
)
FEATURES = (
    Feature(field="charges", encoding="log", missing_indicator=True),
    Feature(field="kind", encoding="onehot", levels=("plus", "gold")),
    Feature(field="calls", encoding="scale", absent=Imputation(impute=3.5, indicator=True)),
    Feature(field="charges", encoding="edges", edges=(-10, 0.5, 77, 190)),
)


def state_of(label):
    """The cell that a state stands for: None for an empty one or one that the unit lacks."""
    if label in ("empty cell", "not held at the unit"):
        return None
    return label if label in KINDS else float(label)


def trained_on(grid, label):
    """What a node makes of a row whose field has this state."""
    cells = {"charges": 1.0, "kind": "gold", "calls": 2.0, grid.field: state_of(label)}
    types = {"charges": pl.Float64, "kind": pl.String, "calls": pl.Float64}
    rows = pl.DataFrame([cells], schema=types)
    lacks = frozenset({grid.field}) if label == "not held at the unit" else frozenset()
    return encode(rows, FEATURES, MIXED, lacks)[0, list(grid.columns)]


def test_the_codes_of_every_state_are_those_that_a_node_trains_on():
    for grid in field_grids(plan_of(MIXED, FEATURES), MIXED):
        for label, code in zip(grid.labels, grid.codes, strict=True):
            # A label has six digits.
            assert code == pytest.approx(trained_on(grid, label), abs=1e-4), (grid.field, label)


def test_every_input_is_in_one_grid():
    grids = field_grids(plan_of(MIXED, FEATURES), MIXED)
    columns = sorted(column for grid in grids for column in grid.columns)
    assert columns == list(range(len(input_names(FEATURES, MIXED))))
    assert [grid.field for grid in grids] == ["charges", "kind", "calls"]
    assert [len(grid.columns) for grid in grids] == [5, 2, 2]


def test_states_are_the_bounds_all_edges_categories_and_what_is_marked():
    charges, kind, calls = field_grids(plan_of(MIXED, FEATURES), MIXED)
    assert {"-10", "190", "0.5", "77", "empty cell"} <= set(charges.labels)
    assert len(charges.labels) == POINTS + 2 + 1
    assert kind.labels == KINDS
    assert (len(calls.labels), calls.labels[-1]) == (POINTS + 1, "not held at the unit")
    plain = (FEATURES[1], Feature(field="charges", encoding="scale"))
    [_, unmarked] = field_grids(plan_of(MIXED, plain), MIXED)
    assert len(unmarked.labels) == POINTS


def test_the_ends_of_a_scaled_field_are_minus_one_and_one():
    plan = plan_of(MIXED, (Feature(field="charges", encoding="scale"),))
    [grid] = field_grids(plan, MIXED)
    assert np.allclose(grid.codes[:, 0], np.linspace(-1, 1, POINTS))


def test_a_field_that_the_contract_lacks_is_refused():
    plan = plan_of(MIXED, (Feature(field="shoe_size", encoding="scale"),))
    with pytest.raises(MismatchError, match=r"plan\.field_unknown"):
        field_grids(plan, MIXED)
