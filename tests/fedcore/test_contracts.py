import pytest
from pydantic import ValidationError

from fedcore.contracts import Contract, ContractField, DayRule, Purpose, purpose_line


def purpose(name, parent=None):
    return Purpose(id=name, text=name, parent=parent, basis="consent")


def numeric(**fields):
    return ContractField(**{"name": "tenure", "kind": "numeric", "lower": 0, "upper": 72, **fields})


@pytest.fixture
def contract(documents):
    return documents.contract_of()


def test_a_contract_survives_its_bytes(contract):
    assert Contract.from_bytes(contract.to_bytes()) == contract
    assert set(contract.field_by_name) == {"tenure", "plan", "gender"}


@pytest.mark.parametrize(
    "fields",
    [
        {"lower": None},
        {"upper": None},
        {"lower": 72},
        {"lower": 73},
        {"missing_value": -1},
        {"missing_value": 73},
        {"upper": float("inf")},
    ],
    ids=str,
)
def test_a_numeric_field_needs_public_bounds_that_hold_its_missing_value(fields):
    numeric(missing_value=0)
    with pytest.raises(ValidationError):
        numeric(**fields)


@pytest.mark.parametrize("categories", [(), ("a",), ("a", "a")], ids=str)
def test_a_categorical_field_needs_two_distinct_categories(categories):
    ContractField(name="plan", kind="categorical", categories=("a", "b"))
    with pytest.raises(ValidationError):
        ContractField(name="plan", kind="categorical", categories=categories)


@pytest.mark.parametrize("name", ["tenure", "churn", "customer_id"])
def test_no_column_is_named_twice(contract, name):
    with pytest.raises(ValidationError):
        Contract(**{**dict(contract), "fields": (*contract.fields, numeric(name=name))})
    Contract(**{**dict(contract), "fields": (*contract.fields, numeric(name="other"))})


def test_a_day_of_rows_is_left_out_of_the_bytes_when_absent_and_no_other_column(contract):
    assert b"row_day" not in contract.to_bytes()
    dated = Contract(**{**dict(contract), "row_day": DayRule(column="seen", rule="iso-day/1")})
    assert Contract.from_bytes(dated.to_bytes()) == dated
    for column in ("tenure", "churn", "customer_id"):
        with pytest.raises(ValidationError, match="twice"):
            Contract(**{**dict(contract), "row_day": DayRule(column=column, rule="iso-day/1")})
    with pytest.raises(ValidationError):
        DayRule.model_validate({"column": "seen", "rule": "day-first/1"})


def test_the_line_of_a_purpose_is_itself_and_its_ancestors():
    tree = (purpose("a"), purpose("b", "a"), purpose("c", "b"), purpose("d", "a"))
    assert purpose_line(tree, "c") == ("c", "b", "a")
    assert purpose_line(tree, "a") == ("a",)
    assert purpose_line(tree, "d") == ("d", "a")


@pytest.mark.parametrize(
    ("purposes", "problem"),
    [
        ((purpose("a"), purpose("a")), "twice"),
        ((purpose("a", "b"), purpose("b", "a")), "ancestor"),
        ((purpose("a", "a"),), "ancestor"),
        ((purpose("a", "unknown"),), "not in the contract"),
    ],
)
def test_purposes_that_are_no_forest_are_refused(contract, purposes, problem):
    with pytest.raises(ValueError, match=problem):
        purpose_line(purposes, "a")
    with pytest.raises(ValidationError, match=problem):
        Contract(**{**dict(contract), "purposes": purposes})


def test_an_unknown_purpose_has_no_line():
    with pytest.raises(ValueError, match="not in the contract"):
        purpose_line((purpose("a"),), "b")
