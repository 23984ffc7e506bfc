"""Each rule of the gate about training by groups beside its repaired twin."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from fedcore.canonical import digest
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import DataCategory, LegitimateInterest, PurposeBasis
from fedcore.dpias import Bindings, FairnessBound
from fedcore.fairness_bindings import AttributeUse, AuditTerms, SensitiveAttribute
from fedcore.fairness_uses import looks_of, objection_to_use
from fedcore.learning_rules import Algorithm
from fedcore.mitigation import CovariancePenalty, GroupPenalty, GroupWeight, Reweighing
from fedcore.permits import UnitCertificate
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from governance.decisions.facts import GateFacts
from governance.decisions.gate import decide_permit
from governance.decisions.gate_mitigation import MITIGATION_RULES

NOW = datetime(2025, 6, 1, tzinfo=UTC)
UNITS = ("north", "south")
CONSENT, DENIED = "Explicit consent, Art. 9(2)(a)", "None is claimed."
DIET = SensitiveAttribute(name="diet", groups=("x", "y"))
AGE = SensitiveAttribute(name="age", groups=("young", "old", "unknown"), edges=(60.0,))
ORIGIN = SensitiveAttribute(name="origin", groups=("a", "b", "c"), special_condition=CONSENT)
CONTRACT = Contract(
    contract_id="telco",
    version=1,
    title="t",
    source="s",
    subject=SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
    fields=(
        ContractField(name="tenure", kind="numeric", lower=0, upper=72),
        ContractField(name="age", kind="numeric", lower=0, upper=120, sensitivity="sensitive"),
        ContractField(
            name="origin", kind="categorical", categories=("a", "b", "c"), sensitivity="special"
        ),
        ContractField(name="diet", kind="categorical", categories=("x", "y")),
        ContractField(
            name="secret", kind="categorical", categories=("x", "y"), sensitivity="forbidden"
        ),
    ),
    label=Label(name="churned", positive="Yes", negative="No", horizon_days=30),
    purposes=(Purpose(id="churn", text="c", basis="legitimate_interests"),),
    retention_days=10,
)


def use(attribute, *uses, condition=None, weight=2.0, strength=1.0):
    return AttributeUse(
        attribute=attribute,
        uses=uses or ("training",),
        special_condition=condition,
        largest_weight=weight,
        largest_strength=strength,
    )


def dpia(*attributes, uses=None, listed=None, special=None, condition=None, **bindings):
    """A DPIA that binds an audit of these attributes, and their use in training."""
    names = tuple(each.name for each in attributes)
    category = DataCategory(
        id="audited",
        category="c",
        fields=names if listed is None else listed,
        special_category=special,
        source="s",
        subjects="s",
        volume_band="v",
        retention_days=1,
        recipients=(),
    )
    purpose = PurposeBasis(
        purpose="churn",
        text="t",
        basis="legitimate_interests",
        legitimate_interest=LegitimateInterest(interest="i", necessity="n", balance="b"),
        special_condition=condition,
    )
    values = {
        "task": "churn",
        "purposes": ("churn",),
        "contract": CONTRACT.digest,
        "features": ("tenure", "diet"),
        "units": UNITS,
        "privacy_modes": ("local",),
        "epsilon_cap": 3.0,
        "delta_cap": 1e-5,
        "minimum_units": 2,
        "fairness": tuple(map(bound, names)),
        "fairness_audit": AuditTerms(attributes=attributes),
        "fairness_mitigation": tuple(map(use, names)) if uses is None else uses or None,
    }
    return Dpia(
        dpia_id="d",
        version=1,
        title="t",
        purposes=(purpose,),
        inventory=(category,),
        bindings=Bindings(**{**values, **bindings}),
        valid_until=NOW + timedelta(days=1),
    )


def bound(name):
    return FairnessBound(attribute=name, metric="demographic_parity_difference", largest_gap=0.1)


def weighing(attribute, size=2.0):
    plain = attribute.model_copy(update={"special_condition": None})
    weight = GroupWeight(group=plain.groups[0], positive=True, weight=size)
    return Reweighing(kind="reweighing", attribute=plain, weights=(weight,))


def penalising(attribute, strength=1.0):
    plain = attribute.model_copy(update={"special_condition": None})
    penalty = GroupPenalty(group=plain.groups[0], share=0.5, strength=strength)
    return CovariancePenalty(kind="covariance", attribute=plain, penalties=(penalty,))


def facts(attribute, of=None, mitigation=None, features=("tenure",), positive=None):
    """Facts of a plan that trains by an attribute, under a DPIA."""
    plan = TrainingPlan(
        title="p",
        task="churn",
        purpose="churn",
        contract=CONTRACT.digest,
        features=tuple(
            Feature(field=name, encoding="scale" if name == "tenure" else "onehot")
            for name in features
        ),
        units=tuple(UnitTerms(unit=unit, public_n=1536) for unit in UNITS),
        minimum_units=2,
        model=ModelSpec(kind="logistic"),
        initial_model=digest(b"m"),
        algorithm=Algorithm(local_learning_rate=1.0, positive_weight=positive),
        rounds=2,
        privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
        mitigation=mitigation or weighing(attribute),
    )
    certificates = {
        unit: UnitCertificate(
            unit=unit, node_key="ab" * 32, size_band=1024, enrolment=digest(b"e"), issued_at=NOW
        )
        for unit in UNITS
    }
    return GateFacts(
        plan=plan,
        author_known=True,
        contract=CONTRACT,
        dpia=of or dpia(attribute),
        dpia_state="in_force",
        certificates=certificates,
        now=NOW,
    )


def conditioned(uses=("training",), condition=CONSENT, **changes):
    """A DPIA that allows to train by a special category, but for the changes."""
    values = {"condition": CONSENT, "uses": (use("origin", *uses, condition=condition),)}
    return dpia(ORIGIN, **{**values, **changes})


@dataclass(frozen=True)
class Fault:
    """Bad facts, the code that follows from them, and the twin that is as it must be."""

    code: str
    facts: GateFacts
    repaired: GateFacts


GOOD = facts(DIET)


def sized(mitigation, positive=None, **sizes):
    """Facts of a plan under a DPIA that binds these sizes."""
    return facts(DIET, dpia(DIET, uses=(use("diet", **sizes),)), mitigation, positive=positive)


OTHER_EDGE = AGE.model_copy(update={"edges": (50.0,)})
SECRET = SensitiveAttribute(name="secret", groups=("x", "y"))
GONE = SensitiveAttribute(name="gone", groups=("x", "y"))
FAULTS = [
    Fault("fairness.use_not_bound", facts(DIET, dpia(DIET, uses=())), GOOD),
    Fault("fairness.use_not_bound", facts(DIET, dpia(DIET, uses=(use("age"),))), GOOD),
    Fault("fairness.use_not_bound", facts(DIET, dpia(DIET, uses=(use("diet", "decision"),))), GOOD),
    Fault(
        "fairness.use_not_bound",
        facts(DIET, dpia(DIET, uses=()), penalising(DIET)),
        facts(DIET, mitigation=penalising(DIET)),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(weighing(DIET, 2.1)),
        sized(weighing(DIET, 2.1), weight=2.1),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(weighing(DIET, 0.49)),
        sized(weighing(DIET, 0.5)),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(weighing(DIET, 1.1), weight=None),
        sized(weighing(DIET, 1.0), weight=None),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(penalising(DIET, -1.1)),
        sized(penalising(DIET, -1.1), strength=1.1),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(penalising(DIET, 0.1), strength=None),
        sized(penalising(DIET, 0.1), strength=0.1),
    ),
    # At a share of one half it pulls by half of its strength.
    Fault(
        "fairness.use_exceeds_dpia",
        sized(penalising(DIET, -100.0), strength=100.0),
        sized(penalising(DIET, -2.0), strength=100.0),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(penalising(DIET, 1.0), positive=0.4),
        sized(penalising(DIET, 1.0), positive=0.5),
    ),
    Fault(
        "fairness.use_exceeds_dpia",
        sized(penalising(DIET, 2.2), strength=3.0, positive=9.0),
        sized(penalising(DIET, 2.0), strength=3.0, positive=9.0),
    ),
    Fault("fairness.groups_differ", facts(OTHER_EDGE, dpia(AGE)), facts(AGE)),
    Fault("fairness.groups_differ", facts(DIET, dpia(DIET, fairness_audit=None)), GOOD),
    Fault("fairness.not_in_inventory", facts(DIET, dpia(DIET, listed=("age",))), GOOD),
    Fault("fairness.field_unknown", facts(GONE), GOOD),
    Fault("fairness.field_forbidden", facts(SECRET), GOOD),
    Fault("fairness.field_is_input", facts(DIET, features=("tenure", "diet")), GOOD),
    Fault(
        "fairness.groups_unfit",
        facts(SensitiveAttribute(name="diet", groups=("x", "z"))),
        GOOD,
    ),
    # The condition of the audit is none of training.
    Fault(
        "fairness.no_basis",
        facts(ORIGIN, conditioned(condition=None)),
        facts(ORIGIN, conditioned()),
    ),
    Fault(
        "fairness.no_basis",
        facts(ORIGIN, conditioned(condition=DENIED)),
        facts(ORIGIN, conditioned()),
    ),
    Fault(
        "fairness.no_basis",
        facts(ORIGIN, conditioned(fairness=())),
        facts(ORIGIN, conditioned()),
    ),
    Fault(
        "fairness.no_basis",
        facts(DIET, dpia(DIET, special="health")),
        facts(
            DIET,
            dpia(DIET, special="health", condition=CONSENT, uses=(use("diet", condition=CONSENT),)),
        ),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_one_bad_fact_of_training_by_groups_refuses_and_its_twin_does_not(fault):
    refusals = decide_permit(fault.facts)
    assert tuple(code for code, _ in refusals) == (fault.code,)
    assert all(sentence.endswith(".") for _, sentence in refusals)
    assert decide_permit(fault.repaired) == ()


def test_every_rule_of_training_by_groups_has_a_fault_that_trips_it():
    assert {rule.code for rule in MITIGATION_RULES} <= {fault.code for fault in FAULTS}


def test_a_threshold_for_each_group_needs_a_use_and_a_basis_of_its_own():
    def code(dpia, name="diet"):
        found = objection_to_use(dpia, CONTRACT, "churn", name, "decision")
        return None if found is None else found[0]

    assert code(dpia(DIET)) == "fairness.use_not_bound"
    assert code(dpia(DIET, uses=(use("diet", "training", "decision"),))) is None
    both = ("training", "decision")
    assert code(conditioned(uses=both, condition=None), "origin") == "fairness.no_basis"
    assert code(conditioned(uses=both), "origin") is None
    assert code(dpia(ORIGIN, uses=(use("origin", *both, condition=CONSENT),)), "origin") == (
        "fairness.no_basis"
    )


def test_a_crossing_with_a_special_category_needs_the_basis_of_that_category():
    def code(condition):
        crossed = use("origin & age", "decision", condition=condition)
        of = conditioned(fairness_mitigation=(crossed,))
        found = objection_to_use(of, CONTRACT, "churn", crossed.attribute, "decision")
        return None if found is None else found[0]

    assert [code(None), code(DENIED), code(CONSENT)] == ["fairness.no_basis"] * 2 + [None]


def test_each_attribute_that_may_decide_is_a_look_besides_that_at_everybody():
    decided = [use("origin", "decision"), use("diet", "training", "decision"), use("age")]
    for uses, looks in (((), 1), (decided[2:], 1), (decided, 3), ([decided[0]] * 2, 2)):
        assert looks_of(dpia(DIET, uses=tuple(uses))) == looks
