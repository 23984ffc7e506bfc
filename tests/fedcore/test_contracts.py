import pytest
from pydantic import ValidationError

from fedcore.contracts import (
    Contract,
    ContractField,
    DayRule,
    FieldBasis,
    Purpose,
    RowsRule,
    purpose_line,
)
from fedcore.errors import InvalidRecordError


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


@pytest.mark.parametrize(
    ("kind", "stand_in"),
    [("categorical", "c"), ("categorical", ""), ("numeric", "a")],
)
def test_what_stands_for_an_empty_category_is_one_of_them(kind, stand_in):
    public = {"lower": 0, "upper": 9} if kind == "numeric" else {"categories": ("a", "b")}
    known = ContractField(name="x", kind="categorical", categories=("a", "b"), missing_category="b")
    assert known.missing == "b"
    with pytest.raises(ValidationError):
        ContractField(name="x", kind=kind, missing_category=stand_in, **public)


def test_only_a_special_field_says_what_art_9_allows_it_by():
    both = FieldBasis(basis="consent", condition="explicit_consent")
    plain = FieldBasis(basis="consent")
    assert numeric(sensitivity="special", legal_basis=both).legal_basis == both
    assert numeric(sensitivity="sensitive", legal_basis=plain).legal_basis == plain
    for sensitivity, basis in (("special", plain), ("none", both), ("sensitive", both)):
        with pytest.raises(ValidationError, match="legal_basis"):
            numeric(sensitivity=sensitivity, legal_basis=basis)


def test_what_a_contract_does_not_say_is_in_none_of_its_bytes(contract):
    """So that contracts signed before keep their digests."""
    new = (b"availability", b"missing_category", b"legal_basis", b"table")
    assert not any(name in contract.to_bytes() for name in new)
    with pytest.raises(InvalidRecordError):
        Contract.from_bytes(contract.to_bytes().replace(b'"kind"', b'"availability":null,"kind"'))


def test_a_field_holds_what_could_be_a_sound_cell():
    assert [numeric().holds(value) for value in (0, 72.0, -0.1, 72.1, "3")] == [
        *(True, True, False, False, False)
    ]
    plan = ContractField(name="plan", kind="categorical", categories=("a", "1"))
    assert [plan.holds(value) for value in ("a", "1", "b", 1.0)] == [True, True, False, False]


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


def test_several_rows_are_left_out_of_the_bytes_when_absent_and_the_newest_need_days(contract):
    assert b"rows_per_customer" not in contract.to_bytes()
    newest, drawn = (RowsRule(most=12, rule=rule) for rule in ("newest/1", "drawn/1"))
    plain = Contract(**{**dict(contract), "rows_per_customer": drawn})
    assert Contract.from_bytes(plain.to_bytes()) == plain
    dated = {**dict(contract), "row_day": DayRule(column="seen", rule="iso-day/1")}
    assert Contract(**{**dated, "rows_per_customer": newest}).rows_per_customer == newest
    with pytest.raises(ValidationError, match="newest/1 needs row_day"):
        Contract(**{**dict(contract), "rows_per_customer": newest})
    for most, rule in ((1, "drawn/1"), (65, "drawn/1"), (2.5, "drawn/1"), (2, "first/1")):
        with pytest.raises(ValidationError):
            RowsRule.model_validate({"most": most, "rule": rule})


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
