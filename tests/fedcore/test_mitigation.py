"""What a plan may say against unfairness, and what it makes of an example."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import AttributeUse, SensitiveAttribute
from fedcore.mitigation import (
    CovariancePenalty,
    GroupPenalty,
    GroupWeight,
    Reweighing,
    group_fields,
)
from fedcore.plans import TrainingPlan

GOLDEN = Path(__file__).parents[1] / "golden"
SEX = SensitiveAttribute(name="sex", groups=("f", "m", "unknown"))


def reweighing(*weights):
    return Reweighing(kind="reweighing", attribute=SEX, weights=weights)


def penalty(*penalties):
    return CovariancePenalty(kind="covariance", attribute=SEX, penalties=penalties)


def weight(group="f", positive=True, weight=2.0):
    return GroupWeight(group=group, positive=positive, weight=weight)


def pull(group="f", share=0.25, strength=2.0):
    return GroupPenalty(group=group, share=share, strength=strength)


def test_a_pair_that_is_not_named_has_the_weight_one_and_no_pull():
    plan = reweighing(weight(), weight(positive=False, weight=0.5))
    found = {(g, p): plan.weight(g, positive=p) for g in ("f", "m", "x") for p in (True, False)}
    assert found == {
        ("f", True): 2.0,
        ("f", False): 0.5,
        ("m", True): 1.0,
        ("m", False): 1.0,
        ("x", True): 1.0,
        ("x", False): 1.0,
    }
    assert plan.pull("f") == 0.0


def test_a_penalty_is_centred_by_the_public_share_and_spares_who_is_of_no_group():
    plan = penalty(pull())
    assert [plan.pull(group) for group in ("f", "m", "unknown", "x")] == [1.5, -0.5, -0.5, 0.0]
    both = penalty(pull(), pull("m", 0.5, -1.0))
    assert [both.pull(group) for group in ("f", "m", "unknown", "x")] == [2.0, -1.0, 0.0, 0.0]
    assert both.weight("f", positive=True) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: reweighing(weight(), weight(weight=3.0)),
        lambda: reweighing(weight("z")),
        reweighing,
        lambda: weight(weight=0.0),
        lambda: weight(weight=1e4),
        lambda: penalty(pull(), pull(strength=1.0)),
        lambda: penalty(pull("z")),
        lambda: pull(share=0.0),
        lambda: pull(share=1.0),
        lambda: pull(strength=101.0),
        lambda: pull(strength=float("nan")),
        lambda: AttributeUse(attribute="sex", uses=("training", "training")),
        lambda: AttributeUse(attribute="sex", uses=()),
        lambda: AttributeUse(attribute="sex", uses=("training",), largest_weight=0.9),
        lambda: AttributeUse(attribute="sex", uses=("training",), largest_weight=1001.0),
        lambda: AttributeUse(attribute="sex", uses=("training",), largest_strength=0.0),
        lambda: AttributeUse(attribute="sex", uses=("training",), largest_strength=101.0),
    ],
)
def test_what_has_two_meanings_or_none_is_no_mitigation(make):
    with pytest.raises(ValidationError):
        make()
    assert reweighing(weight(), weight("m")).weights
    assert penalty(pull(), pull("m", 0.75)).penalties
    assert AttributeUse(attribute="sex", uses=("training", "decision")).uses
    assert AttributeUse(
        attribute="sex", uses=("training",), largest_weight=1.0, largest_strength=100.0
    ).largest_weight


def test_a_plan_says_its_mitigation_by_kind_and_one_of_before_says_none():
    weighed, penalised, before = (
        TrainingPlan.from_bytes((GOLDEN / name).read_bytes())
        for name in ("plan-1.mitigation.json", "plan-1.mitigation-penalty.json", "plan-1.json")
    )
    assert isinstance(weighed.mitigation, Reweighing)
    assert isinstance(penalised.mitigation, CovariancePenalty)
    assert before.mitigation is None
    fields = [group_fields(plan.mitigation) for plan in (weighed, penalised, before)]
    assert fields == [("gender",), ("age",), ()]
    values = json.loads((GOLDEN / "plan-1.mitigation.json").read_text())
    values["mitigation"]["kind"] = "adversary"
    with pytest.raises(InvalidRecordError, match="mitigation"):
        TrainingPlan.from_json(values)
