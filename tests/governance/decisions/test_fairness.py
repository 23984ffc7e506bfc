"""Whether an audit has a basis: each refusal beside its repaired twin."""

from pathlib import Path

import pytest

from fedcore.contracts import Contract, ContractField
from fedcore.dpia_record import Dpia
from governance.decisions.fairness import list_reasons_against_audit

GOLDEN = Path(__file__).parents[2] / "golden"
CONTRACT = Contract.from_bytes((GOLDEN / "contract-1.json").read_bytes())
SIGNED = Dpia.from_bytes((GOLDEN / "dpia-2.fairness-audit.json").read_bytes())
LISTED = {"id": "audited", "fields": ("gender", "disability"), "special_category": None}


def dpia(conditions=(None, None), **category):
    """A DPIA that audits gender and disability, listed in one category of its inventory."""
    values = SIGNED.to_json()
    (listed,) = values["inventory"]
    values["inventory"].append({**listed, **LISTED, **category})
    attributes = values["bindings"]["fairness_audit"]["attributes"]
    for attribute, condition in zip(attributes, conditions, strict=True):
        attribute["special_condition"] = condition
    return Dpia.from_json(values)


def codes(record, contract=CONTRACT):
    return [code for code, _ in list_reasons_against_audit(record, contract)]


def with_special_field(name):
    field = ContractField(
        name=name, kind="categorical", categories=("a", "b"), sensitivity="special"
    )
    return CONTRACT.model_copy(update={"fields": (*CONTRACT.fields, field)})


def test_attributes_of_no_special_category_need_no_condition():
    assert codes(dpia()) == []


def test_a_special_category_of_the_inventory_needs_a_condition_of_article_9():
    assert codes(dpia(special_category="health")) == ["fairness.no_basis"] * 2
    assert codes(dpia(("9(2)(a)", None), special_category="health")) == ["fairness.no_basis"]
    assert codes(dpia(("9(2)(a)", "9(2)(j)"), special_category="health")) == []


def test_a_special_field_of_the_contract_needs_a_condition_in_the_dpia():
    contract = with_special_field("disability")
    assert codes(dpia(), contract) == ["fairness.no_basis"]
    assert codes(dpia((None, "9(2)(a)")), contract) == []
    assert codes(dpia(), with_special_field("faith")) == []


def test_what_no_category_of_the_inventory_lists_is_refused_by_name():
    reasons = list_reasons_against_audit(dpia(fields=("gender",)), CONTRACT)
    assert [code for code, _ in reasons] == ["fairness.not_in_inventory"]
    assert "'disability'" in reasons[0][1]
    assert codes(dpia(fields=("gender", "disability"))) == []


def test_all_reasons_are_said_at_once():
    found = codes(dpia(fields=("gender",)), with_special_field("disability"))
    assert found == ["fairness.not_in_inventory", "fairness.no_basis"]


@pytest.mark.parametrize("missing", ["fairness", "fairness_audit"])
def test_a_dpia_that_binds_no_audit_allows_none(missing):
    whole = dpia()
    bindings = whole.bindings.model_copy(update={missing: None})
    assert codes(whole.model_copy(update={"bindings": bindings})) == ["fairness.not_bound"]
    assert codes(whole) == []
