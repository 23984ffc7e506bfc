"""What a DPIA of a simulated federation says: true of this software, whatever the scenario."""

from collections.abc import Mapping
from typing import Any

from fedcore.contracts import Contract, ContractField
from fedcore.dpia_sections import (
    CRITERIA,
    Asset,
    Consultation,
    CriterionAnswer,
    DataCategory,
    FeatureReview,
    LegitimateInterest,
    LifeCycleStep,
    Measure,
    Profiling,
    PurposeBasis,
    Retention,
    Rights,
    Risk,
    Screening,
    SpecialCategory,
)

_APPLYING = {
    "evaluation_or_scoring": "Customers are scored by how likely the contract's label is for them.",
    "large_scale": "All customers of every unit are trained on.",
    "innovative_technology": "Federated learning with differential privacy is not yet common.",
}
_NOT_APPLYING = {
    "automated_decisions": "Nobody is refused or granted anything by a score alone.",
    "systematic_monitoring": "No one is observed: the rows are those of the customer relation.",
    "sensitive_data": "No sensitive field is an input; the contract forbids it.",
    "matching_datasets": "No unit's rows are matched with another's.",
    "vulnerable_subjects": "The customers have contracts of their own.",
    "prevents_exercise_of_right": "No score keeps anyone from a right or a service.",
}
_MEASURES = (
    Measure(
        id="differential-privacy",
        title="Differential privacy with a capped epsilon",
        text="Clipped sums of gradients leave a node with Gaussian noise; a ledger charges each.",
        kind="technical",
    ),
    Measure(
        id="rows-stay",
        title="Rows stay at the unit",
        text="One reader on the unit's own machine sees rows; no metric of rows leaves it.",
        kind="technical",
    ),
    Measure(
        id="opt-outs",
        title="Objections act",
        text="The reader leaves out who has objected; a node with a stale list refuses to train.",
        kind="technical",
    ),
    Measure(
        id="signed-orders",
        title="Signed permits, orders and receipts",
        text="A node obeys only what governance permits, and logs it where nobody can rewrite it.",
        kind="technical",
    ),
    Measure(
        id="four-persons",
        title="Four persons for each DPIA",
        text="Author, evaluator, data protection officer and approver are never the same person.",
        kind="organisational",
    ),
)
_RISKS = (
    Risk(
        id="membership-inference",
        event="illegitimate_access",
        text="Someone learns from the model that a person is a customer, or has left.",
        sources=("a recipient of the model", "another unit"),
        threats=("the model is queried with records that are guessed",),
        impacts=("unwanted offers", "loss of confidentiality of a contract"),
        measures=("differential-privacy", "rows-stay"),
        severity_before=3,
        likelihood_before=3,
        severity_after=3,
        likelihood_after=1,
    ),
    Risk(
        id="poisoned-model",
        event="unwanted_change",
        text="A model is changed on its way, or trained by someone who may not.",
        sources=("an attacker on the network", "a unit that lies about its rows"),
        threats=("a forged order or update",),
        impacts=("offers to the wrong customers",),
        measures=("signed-orders",),
        severity_before=2,
        likelihood_before=3,
        severity_after=2,
        likelihood_after=2,
    ),
    Risk(
        id="lost-objections",
        event="disappearance",
        text="A customer who has objected is trained on all the same.",
        sources=("a fault of a unit's machine",),
        threats=("the list of objections is lost or stale",),
        impacts=("processing against the customer's will",),
        measures=("opt-outs", "four-persons"),
        severity_before=2,
        likelihood_before=3,
        severity_after=2,
        likelihood_after=1,
    ),
)
_RIGHTS = Rights(
    information="Each unit's privacy notice names the purpose, its basis and the right to object.",
    access="Each unit answers from its own rows; the model holds no row.",
    rectification="A corrected row counts from the next round on.",
    erasure="An erased row is not read again; a released model stays within its stated epsilon.",
    restriction="A restricted row is left out like one whose customer has objected.",
    portability="Each unit exports its own rows, where consent or contract is their basis.",
    objection="Taken in at each unit under keyed pseudonyms; it acts before the next round.",
    automated_decisions="There are none: a score leads to an offer that people make.",
    consent="Given and withdrawn at the unit; a withdrawal acts before the next round.",
)
_ASSETS = (
    Asset(id="unit-machine", kind="hardware", text="The unit's own machine, with its rows"),
    Asset(id="node", kind="software", text="The node: the one reader of rows, ledger and policy"),
    Asset(id="line", kind="network", text="TLS from unit to server and governance"),
)
_LIFE_CYCLE = (
    LifeCycleStep(
        id="read", text="The node reads rows that may be used", assets=("unit-machine", "node")
    ),
    LifeCycleStep(id="train", text="It trains, clips and adds noise", assets=("node",)),
    LifeCycleStep(
        id="send", text="The noised update leaves the unit and is averaged", assets=("line",)
    ),
)
_CONSULTATION = Consultation(
    consulted=False, text="The customers of this scenario are made up or published data."
)
_PROFILING = Profiling(
    effects="A customer with a high score is offered better terms; nobody is offered worse ones.",
    human_oversight="People decide who is called, and may set a score aside.",
)

# The sections that are the same for every scenario, by their names in the record.
WRITTEN: Mapping[str, Any] = {
    "description": "Business units train one model together. Rows stay at the units; noised "
    "sums of clipped gradients leave them, each charged to the unit's privacy ledger.",
    "responsibilities": "The company answers for all units; each unit operates its own node.",
    "standards": "No approved code of conduct is followed.",
    "life_cycle": _LIFE_CYCLE,
    "assets": _ASSETS,
    "necessity": "A model of one unit alone is markedly worse; pooling the rows is not needed "
    "for the purpose, and is not done.",
    "accuracy": "Rows that break the contract are refused or left out; bounds are public.",
    "rights": _RIGHTS,
    "processors": (),
    "transfers": (),
    "profiling": _PROFILING,
    "measures": _MEASURES,
    "risks": _RISKS,
    "consultation": _CONSULTATION,
    "review_triggers": ("a new version of the contract", "another purpose, feature or unit"),
}


def make_screening() -> Screening:
    """Return the screening: three of the nine criteria apply."""
    answers = {**_APPLYING, **_NOT_APPLYING}
    return Screening(
        criteria=tuple(
            CriterionAnswer(id=id_, applies=id_ in _APPLYING, reason=answers[id_])
            for id_ in CRITERIA
        ),
        verdict="required",
        reason="More than two criteria apply.",
    )


def make_inventory(contract: Contract) -> tuple[DataCategory, ...]:
    """Return the contract's columns in categories: plain, special and the customer's number."""
    special = tuple(field.name for field in contract.fields if field.sensitivity == "special")
    plain = tuple(field.name for field in contract.fields if field.sensitivity != "special")
    categories: tuple[tuple[str, str, tuple[str, ...], SpecialCategory | None], ...] = (
        ("customer-relation", "Contract, use and outcome", (*plain, contract.label.name), None),
        ("customer-number", "The customer's number", (contract.subject.column,), None),
        # A simulation cannot know which special category it is; a unit's own DPIA says it.
        ("special", "Special categories, which no model sees", special, "health"),
    )
    return tuple(
        DataCategory(
            id=id_,
            category=text,
            fields=fields,
            special_category=kind,
            source="the customer, and the unit's own systems",
            subjects="customers",
            volume_band="as each unit's size band states it",
            retention_days=contract.retention_days,
            recipients=("nobody: rows do not leave the unit",),
        )
        for id_, text, fields, kind in categories
        if fields
    )


def make_purposes(contract: Contract, purposes: tuple[str, ...]) -> tuple[PurposeBasis, ...]:
    """Return the bound purposes on the bases that the contract gives them."""
    special = any(field.sensitivity == "special" for field in contract.fields)
    return tuple(
        PurposeBasis(
            purpose=purpose.id,
            text=purpose.text,
            basis=purpose.basis,
            special_condition="None is claimed: no model sees them." if special else None,
            legitimate_interest=_INTEREST if purpose.basis == "legitimate_interests" else None,
        )
        for purpose in contract.purposes
        if purpose.id in purposes
    )


_INTEREST = LegitimateInterest(
    interest="Keeping customers by making them a better offer.",
    necessity="A model of one unit alone is markedly worse; pooling rows is not needed.",
    balance="The effect on customers is slight, expected, and ends with their objection.",
)


def make_minimisation(contract: Contract, features: tuple[str, ...]) -> tuple[FeatureReview, ...]:
    """Return a review of every field of the contract: what the plan uses is allowed, only."""
    return tuple(_review(field, features) for field in contract.fields)


def _review(field: ContractField, features: tuple[str, ...]) -> FeatureReview:
    if field.name in features:
        return FeatureReview(
            field=field.name, verdict="allowed", reason="It helps to predict the outcome."
        )
    reason = (
        "The model does as well without it."
        if field.sensitivity == "none"
        else f"The contract calls it {field.sensitivity}."
    )
    return FeatureReview(field=field.name, verdict="forbidden", reason=reason)


def make_retention(contract: Contract) -> tuple[Retention, ...]:
    """Return how long rows, updates, checkpoints and models are kept."""
    return (
        Retention(what="rows", days=contract.retention_days, reason="As the contract says."),
        Retention(what="updates", days=30, reason="A repeated order gets the same answer."),
        Retention(what="checkpoints", days=30, reason="A run that has stopped can go on."),
        Retention(what="models", days=3650, reason="Evidence of what was used, and when."),
    )
