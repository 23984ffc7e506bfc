"""What a draft lacks: each rule beside its repaired twin, a complete record."""

import ast
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import CRITERIA, LegalEntity
from fedcore.fairness_terms import METRICS, SEGMENT_METRIC
from governance.decisions import completeness
from governance.decisions.completeness import list_lacks
from governance.languages import load_lacks
from simulations.paperwork import make_dpia, make_plan
from simulations.scenario import load_scenario

SCENARIO = load_scenario("telco")
CONTRACT = SCENARIO.contract
COMPLETE = make_dpia(make_plan(SCENARIO), CONTRACT, 3.0, datetime(2026, 1, 1, tzinfo=UTC))
OPTIONAL = {"language", "effective_from", "actions", "attachments", "unmapped"}
IDENTITY = {"schema", "dpia_id", "version", "title", "bindings", "valid_until"}
Edit = Callable[[dict[str, Any]], object]


def edited(change: Edit, base: Dpia = COMPLETE) -> Dpia:
    """Return the record after a change of its plain form."""
    values = base.to_json()
    change(values)
    return Dpia.from_json(values)


def paths(dpia: Dpia, contract: Contract | None = CONTRACT) -> list[str]:
    return [lack.path for lack in list_lacks(dpia, contract)]


def test_the_dpia_of_a_simulation_lacks_nothing():
    assert list_lacks(COMPLETE, CONTRACT) == ()


@pytest.mark.parametrize("section", sorted(set(COMPLETE.to_json()) - IDENTITY - OPTIONAL))
def test_a_section_that_is_not_written_is_named_with_its_article(section):
    def remove(values):
        values.pop(section)
        if section == "measures":
            values.pop("risks")
        if section == "assets":
            values.pop("life_cycle")

    lacks = [lack for lack in list_lacks(edited(remove), CONTRACT) if lack.path == section]
    assert lacks
    extra = Dpia.model_fields[section].json_schema_extra
    assert isinstance(extra, dict)
    assert lacks[0].article == extra["asked_by"]
    assert lacks[0].text == f"{section} ({extra['asked_by']}): {lacks[0].sentence}"


def test_every_section_is_optional_or_asked_for():
    asked = {lack.path for lack in list_lacks(bare(), CONTRACT)}
    fields = {field.alias or name for name, field in Dpia.model_fields.items()}
    assert fields - asked == IDENTITY | OPTIONAL


def bare() -> Dpia:
    return Dpia(
        dpia_id="d",
        version=1,
        title="t",
        bindings=COMPLETE.bindings,
        valid_until=COMPLETE.valid_until,
    )


def test_no_processors_and_no_transfers_are_answers():
    assert COMPLETE.processors == ()
    assert COMPLETE.transfers == ()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_all_nine_criteria_are_answered(criterion):
    def remove(values):
        criteria = values["screening"]["criteria"]
        values["screening"]["criteria"] = [c for c in criteria if c["id"] != criterion]

    assert paths(edited(remove)) == [f"screening.criteria.{criterion}"]


def item(values: dict[str, Any], section: str, name: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in values[section] if one[name] == value)
    return found


def without(values: dict[str, Any], section: str, name: str, value: str) -> None:
    values[section].remove(item(values, section, name, value))


CROSSED = "age & region"
BOTH = (CROSSED, "gender")


def audit_of(*bound: str, metric: str = METRICS[0]) -> dict[str, Any]:
    """Return bindings of an audit: 25 groups of age by 20 regions are 500 comparisons, and two of
    gender are one more.
    """
    parted = [
        {"name": name, "groups": [f"{name} {number}" for number in range(groups)]}
        for name, groups in (("age", 25), ("region", 20), ("gender", 2))
    ]
    return {
        "fairness": [{"attribute": a, "metric": metric, "largest_gap": 0.1} for a in bound],
        "fairness_audit": {"attributes": parted},
    }


EDITS: list[tuple[Edit, list[str]]] = [
    (lambda v: without(v, "minimisation", "field", "tenure"), ["minimisation.tenure"]),
    (lambda v: without(v, "minimisation", "field", "female"), ["minimisation.female"]),
    (
        lambda v: item(v, "minimisation", "field", "tenure").update(verdict="forbidden"),
        ["bindings.features"],
    ),
    (
        lambda v: item(v, "minimisation", "field", "tenure").update(verdict="proxy"),
        ["bindings.features"],
    ),
    (
        lambda v: item(v, "minimisation", "field", "female").update(verdict="allowed"),
        ["minimisation.female"],
    ),
    (lambda v: v["inventory"][0]["fields"].remove("tenure"), ["inventory"]),
    (lambda v: v["inventory"][0]["fields"].remove("churn"), ["inventory"]),
    (lambda v: v["inventory"].pop(1), ["inventory"]),
    (
        lambda v: v["inventory"][0].update(retention_days=1096),
        ["inventory.customer-relation.retention_days"],
    ),
    (
        lambda v: v["inventory"][0].update(special_category="health"),
        ["purposes.churn-prevention.special_condition"],
    ),
    (lambda v: without(v, "retention", "what", "checkpoints"), ["retention.checkpoints"]),
    (lambda v: without(v, "retention", "what", "updates"), ["retention.updates"]),
    (lambda v: v["bindings"].update(update_retention_days=29), ["retention.updates"]),
    (lambda v: v["risks"][0].update(event="other"), ["risks.illegitimate_access"]),
    (lambda v: v["risks"][1].update(event="other"), ["risks.unwanted_change"]),
    (lambda v: v["risks"][2].update(event="other"), ["risks.disappearance"]),
    (lambda v: v["risks"][1].pop("measures"), ["risks.poisoned-model.measures"]),
    (lambda v: v["risks"][1].pop("sources"), ["risks.poisoned-model.sources"]),
    (lambda v: v["risks"][1].pop("threats"), ["risks.poisoned-model.threats"]),
    (lambda v: v["risks"][1].pop("impacts"), ["risks.poisoned-model.impacts"]),
    (lambda v: v["risks"][1].update(severity_after=3), ["risks.poisoned-model.severity_after"]),
    (lambda v: v["risks"][1].update(likelihood_after=4), ["risks.poisoned-model.likelihood_after"]),
    (lambda v: v["purposes"][0].update(purpose="other"), ["purposes.churn-prevention"]),
    (lambda v: v["entities"][0]["units"].remove("one-year"), ["entities"]),
    (lambda v: v["entities"][0].update(role="processor"), ["entities"] * 5),
    (
        lambda v: v["entities"].append({**v["entities"][0], "id": "twin", "units": ["one-year"]}),
        ["entities"],
    ),
    (lambda v: v.update(effective_from=v["valid_until"]), ["effective_from"]),
    (lambda v: v["bindings"].update(audit_of(*BOTH)), ["bindings.fairness"]),
    (lambda v: v["bindings"].update(audit_of(*BOTH, metric=SEGMENT_METRIC)), ["bindings.fairness"]),
]


@pytest.mark.parametrize(("change", "expected"), EDITS)
def test_what_is_missing_or_does_not_agree_is_named(change, expected):
    assert paths(edited(change)) == expected


REPAIRED: list[Edit] = [
    lambda v: v["bindings"].update(audit_of(CROSSED)),
    lambda v: v["bindings"].update(audit_of(CROSSED, metric=SEGMENT_METRIC)),
    # Nothing is bound of an audit, but how the groups are told apart.
    lambda v: v["bindings"].update(audit_of(*BOTH), fairness=None),
    lambda v: v["bindings"].update(update_retention_days=30),
    lambda v: v["inventory"][0].update(retention_days=1095),
    lambda v: (
        v["inventory"][0].update(special_category="health"),
        v["purposes"][0].update(special_condition="Art. 9(2)(a)"),
    ),
    lambda v: item(v, "minimisation", "field", "female").update(verdict="proxy"),
    lambda v: v["risks"][1].update(severity_after=2, likelihood_after=3),
    lambda v: v.update(effective_from="2026-06-01T00:00:00Z"),
    lambda v: v["entities"].append(
        {**v["entities"][0], "id": "host", "role": "processor", "units": ["one-year"]}
    ),
    lambda v: (
        v["entities"][0]["units"].remove("one-year"),
        v["entities"].append({**v["entities"][0], "id": "twin", "units": ["one-year"]}),
    ),
]


@pytest.mark.parametrize("change", REPAIRED)
def test_what_agrees_is_complete(change):
    assert paths(edited(change)) == []


def changed_contract(**purpose: Any) -> Contract:
    values = CONTRACT.to_json()
    values["purposes"][1].update(purpose)
    return Contract.from_json(values)


def rebound(contract: Contract, **purpose: Any) -> Dpia:
    """Return the DPIA about another contract."""

    def rebind(values):
        values["bindings"]["contract"] = contract.digest
        values["purposes"][0].update(purpose)

    return edited(rebind)


def test_a_purpose_stands_on_the_basis_that_the_contract_gives_it():
    by_contract = changed_contract(basis="contract")
    wrong, right = rebound(by_contract), by_contract
    assert paths(wrong, right) == ["purposes.churn-prevention.basis"]
    repaired = edited(
        lambda v: (
            v["purposes"][0].pop("legitimate_interest"),
            v["purposes"][0].update(basis="contract"),
        ),
        wrong,
    )
    assert paths(repaired, right) == []


def test_a_purpose_outside_the_contracts_tree_makes_no_complete_dpia():
    def bound_to(purpose):
        def bind(values):
            values["bindings"]["purposes"] = [purpose]
            values["purposes"][0].update(purpose=purpose)

        return paths(edited(bind))

    assert bound_to("survey") == ["purposes.survey.basis"]
    assert bound_to(CONTRACT.purposes[1].id) == []


def test_consent_is_explained_where_it_is_the_basis():
    contract = changed_contract(basis="consent")
    on_consent = edited(
        lambda v: (
            v["purposes"][0].pop("legitimate_interest"),
            v["purposes"][0].update(basis="consent"),
        ),
        rebound(contract),
    )
    assert paths(on_consent, contract) == []
    silent = edited(lambda v: v["rights"].pop("consent"), on_consent)
    assert paths(silent, contract) == ["rights.consent"]
    assert paths(edited(lambda v: v["rights"].pop("consent"))) == []


def test_a_special_field_of_the_contract_is_a_special_category():
    values = CONTRACT.to_json()
    item(values, "fields", "name", "partner").update(sensitivity="special")
    contract = Contract.from_json(values)
    assert paths(rebound(contract), contract) == ["inventory"]


@pytest.mark.parametrize("contract", [None, changed_contract(text="Other")])
def test_the_contract_must_be_known(contract):
    assert paths(COMPLETE, contract) == ["bindings.contract"]


def test_controllers_are_those_whose_units_take_part():
    processor = LegalEntity(id="host", name="h", role="processor", contact="c")
    record = COMPLETE.model_copy(update={"entities": (*COMPLETE.entities, processor)})
    assert [entity.id for entity in record.controllers()] == ["company"]


def sentences_of_the_code() -> set[str]:
    """The English sentences that the rules are written with."""
    tree = ast.parse(Path(completeness.__file__).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    said = [c.args[1] for c in calls if isinstance(c.func, ast.Name) and c.func.id == "_lack"]
    literal = {str(node.value) for node in said if isinstance(node, ast.Constant)}
    return literal | set(completeness._SECTIONS.values())


@pytest.mark.parametrize("language", ["fr", "de"])
def test_every_sentence_has_one_in_each_language_with_the_same_facts(language):
    table = load_lacks(language)
    assert set(table) == sentences_of_the_code()
    for english, own in table.items():
        assert set(re.findall(r"{\w+}", own)) == set(re.findall(r"{\w+}", english)), english
        assert own.strip() != english


def test_what_is_lacking_is_said_in_the_languages_with_its_facts():
    [lack] = [
        lack
        for lack in list_lacks(edited(lambda values: values.update(inventory=[])), CONTRACT)
        if lack.facts.get("field") == COMPLETE.bindings.features[0] and "category" in lack.template
    ]
    name = COMPLETE.bindings.features[0]
    assert lack.say(load_lacks("en")) == lack.sentence == f"put {name} into a category"
    assert lack.say(load_lacks("fr")) == f"rangez {name} dans une catégorie"
    assert lack.say(load_lacks("de")) == f"ordnen Sie {name} einer Kategorie zu"
