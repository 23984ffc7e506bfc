"""Bundles of runs that weighed or penalised by groups beyond their DPIA, and honest twins.

As in `lies.py`: whoever may sign a document has signed the lie.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fedcore.bundle import Evidence
from fedcore.dpia_sections import DataCategory, PurposeBasis
from fedcore.dpias import FairnessBound
from fedcore.fairness_bindings import AttributeUse, AuditTerms, SensitiveAttribute
from fedcore.mitigation import CovariancePenalty, GroupPenalty, GroupWeight, Reweighing

Edit = Callable[[Any], Any]
Lie = Callable[[Any, Any, Evidence], Evidence]

GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
TURNED = SensitiveAttribute(name="gender", groups=("male", "female"))
USE = AttributeUse(
    attribute="gender", uses=("training",), largest_weight=1.5, largest_strength=100.0
)
CONSENT = "Explicit consent, Art. 9(2)(a)"
CONSENTED = USE.model_copy(update={"special_condition": CONSENT})
BOUND = FairnessBound(attribute="gender", metric="demographic_parity_difference", largest_gap=0.1)
# Of two attributes that are crossed, one is bound all the same.
CROSSED = BOUND.model_copy(update={"attribute": "plan & gender"})


def weighed(more: float = 1.5, less: float = 0.75) -> Reweighing:
    """Return weights of two groups."""
    weights = (
        GroupWeight(group="female", positive=True, weight=more),
        GroupWeight(group="male", positive=True, weight=less),
    )
    return Reweighing(kind="reweighing", attribute=GENDER, weights=weights)


def penalised(strength: float) -> CovariancePenalty:
    """Return a penalty that pulls by half of its strength."""
    penalty = GroupPenalty(group="female", share=0.5, strength=strength)
    return CovariancePenalty(kind="covariance", attribute=GENDER, penalties=(penalty,))


def mitigated(
    way: Any, *uses: AttributeUse, audited: Any = GENDER, bounds: Any = (BOUND,), **edits: Edit
) -> Lie:
    """Return a run that weighs or penalises by gender, under a DPIA that binds these uses."""
    bound = {
        "fairness_mitigation": uses or None,
        "fairness_audit": None if audited is None else AuditTerms(attributes=(audited,)),
        "fairness": bounds or None,
    }

    def plan(record: Any) -> Any:
        return edits.get("plan", same)(record.model_copy(update={"mitigation": way}))

    def dpia(record: Any) -> Any:
        bindings = record.bindings.model_copy(update=bound)
        return edits.get("dpia", same)(record.model_copy(update={"bindings": bindings}))

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        contract = edits.get("contract", same)
        found: Evidence = world.evidence(plan=plan, dpia=dpia, contract=contract)
        return found

    return lie


def same(record: Any) -> Any:
    """Return a record as it is."""
    return record


def weighing_positives(weight: float) -> Edit:
    """Return an edit of a plan: what an example with the label weighs."""
    return lambda plan: plan.model_copy(
        update={"algorithm": plan.algorithm.model_copy(update={"positive_weight": weight})}
    )


def called_special(contract: Any) -> Any:
    """Return a contract in which the gender is of a special category."""
    told = [
        field.model_copy(update={"sensitivity": "special"}) if field.name == "gender" else field
        for field in contract.fields
    ]
    return contract.model_copy(update={"fields": tuple(told)})


def special(condition: str | None) -> Edit:
    """Return an edit of a DPIA: gender is of a special category, the purpose has a condition."""
    category = DataCategory(
        id="gender",
        category="c",
        fields=("gender",),
        special_category="health",
        source="s",
        subjects="s",
        volume_band="v",
        retention_days=1,
        recipients=(),
    )
    basis = PurposeBasis(
        purpose="retention", text="t", basis="consent", special_condition=condition
    )
    return lambda dpia: dpia.model_copy(update={"inventory": (category,), "purposes": (basis,)})


UNBOUND = USE.model_copy(update={"largest_weight": None, "largest_strength": None})
DECIDING = USE.model_copy(update={"uses": ("decision",)})
WEIGHED = weighed()
PLAN = SensitiveAttribute(name="plan", groups=("basic", "plus"))
BY_PLAN = Reweighing(
    kind="reweighing",
    attribute=PLAN,
    weights=(GroupWeight(group="plus", positive=True, weight=1.5),),
)
USE_OF_PLAN = USE.model_copy(update={"attribute": "plan"})

_BEYOND: Mapping[str, Lie] = {
    "weighed without a use": mitigated(WEIGHED),
    "weighed by a use for decisions": mitigated(WEIGHED, DECIDING),
    "weighed by no group of the audit": mitigated(WEIGHED, USE, audited=TURNED),
    "weighed without an audit": mitigated(WEIGHED, USE, audited=None),
    "weighed by an input": mitigated(BY_PLAN, USE_OF_PLAN, audited=PLAN),
    "weighed by a special category": mitigated(WEIGHED, USE, dpia=special(CONSENT)),
    "weighed by what the contract calls special": mitigated(
        WEIGHED, CONSENTED, contract=called_special
    ),
    "weighed for a purpose without a condition": mitigated(
        WEIGHED, CONSENTED, dpia=special("None is claimed.")
    ),
    "special category without a bound": mitigated(
        WEIGHED, CONSENTED, dpia=special(CONSENT), bounds=()
    ),
    "weighed too much": mitigated(weighed(more=1.6), USE),
    "weighed too little": mitigated(weighed(less=0.6), USE),
    "weighed without a size": mitigated(weighed(1.1, 1.0), UNBOUND),
    "penalised too much": mitigated(
        penalised(-1.1), USE.model_copy(update={"largest_strength": 1.0})
    ),
    "penalised without a size": mitigated(penalised(0.1), UNBOUND),
    "penalised beyond the loss": mitigated(penalised(-2.1), USE),
    "penalised beyond a light loss": mitigated(penalised(1.0), USE, plan=weighing_positives(0.4)),
}

LIES: Mapping[str, tuple[str, Lie]] = {
    name: ("dpia.bindings", lie) for name, lie in _BEYOND.items()
}

TWINS: Mapping[str, Lie] = {
    "weighed as bound": mitigated(weighed(1.5, 1 / 1.5), USE),
    "weighed by one and without a size": mitigated(weighed(1.0, 1.0), UNBOUND),
    "the first use counts": mitigated(WEIGHED, DECIDING, USE, UNBOUND),
    "weighed by a special category that is founded": mitigated(
        WEIGHED, CONSENTED, dpia=special(CONSENT)
    ),
    "founded by a crossed bound": mitigated(
        WEIGHED, CONSENTED, dpia=special("Art.9(2) (j)"), bounds=(CROSSED,)
    ),
    "penalised as bound": mitigated(penalised(-1.0), USE),
    "penalised as much as the loss": mitigated(penalised(2.0), USE, plan=weighing_positives(9.0)),
    "penalised as much as a light loss": mitigated(
        penalised(1.0), USE, plan=weighing_positives(0.5)
    ),
}
