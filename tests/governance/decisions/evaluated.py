"""Good facts of evaluations, from which tests make one bad one at a time."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from fedcore.canonical import digest
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, DayRule, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import DataCategory, LegitimateInterest, PurposeBasis
from fedcore.dpias import Bindings, FairnessBound
from fedcore.evaluations import EvaluatedModel as Named
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_bindings import AuditTerms, GroupMerge, SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.fairness_terms import bound_audit
from fedcore.learning_rules import Algorithm
from fedcore.permits import UnitCertificate
from fedcore.plans import Feature, Imputation, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.segments.groups import SegmentLayout
from governance.decisions.facts import EvaluatedModel, EvaluationFacts, GateFacts

NOW = datetime(2025, 6, 1, tzinfo=UTC)
UNITS = ("north", "south")
FIRST, SECOND = digest(b"first"), digest(b"second")


def contract(**changes):
    fields = (
        ContractField(name="tenure", kind="numeric", lower=0, upper=72),
        ContractField(name="calls", kind="numeric", lower=0, upper=9, availability="may_be_absent"),
        ContractField(name="age", kind="numeric", lower=0, upper=120, sensitivity="sensitive"),
        ContractField(
            name="origin",
            kind="categorical",
            categories=("a", "b", "c"),
            sensitivity="special",
        ),
        ContractField(name="diet", kind="categorical", categories=("x", "y")),
        ContractField(
            name="secret", kind="categorical", categories=("x", "y"), sensitivity="forbidden"
        ),
    )
    values = {
        "contract_id": "telco",
        "version": 1,
        "title": "t",
        "source": "s",
        "subject": SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
        "fields": fields,
        "label": Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        "purposes": (Purpose(id="churn", text="c", basis="legitimate_interests"),),
        "retention_days": 10,
        "row_day": DayRule(column="day", rule="iso-day/1"),
    }
    return Contract(**{**values, **changes})


def dpia(*, condition=None, inventory=(), of=None, **bindings):
    interest = LegitimateInterest(interest="i", necessity="n", balance="b")
    values = {
        "task": "churn",
        "purposes": ("churn",),
        "contract": (of or contract()).digest,
        "features": ("tenure", "calls", "diet"),
        "units": UNITS,
        "privacy_modes": ("local",),
        "epsilon_cap": 3.0,
        "delta_cap": 1e-5,
        "minimum_units": 2,
    }
    purpose = PurposeBasis(
        purpose="churn",
        text="t",
        basis="legitimate_interests",
        legitimate_interest=interest,
        special_condition=condition,
    )
    return Dpia(
        dpia_id="d",
        version=1,
        title="t",
        purposes=(purpose,),
        inventory=inventory,
        bindings=Bindings(**{**values, **bindings}),
        valid_until=NOW + timedelta(days=1),
    )


def training(**changes):
    values = {
        "title": "p",
        "task": "churn",
        "purpose": "churn",
        "contract": contract().digest,
        "features": (Feature(field="tenure", encoding="scale"),),
        "units": tuple(UnitTerms(unit=unit, public_n=1536) for unit in UNITS),
        "minimum_units": 2,
        "model": ModelSpec(kind="logistic"),
        "initial_model": contract().digest,
        "algorithm": Algorithm(local_learning_rate=1.0),
        "rounds": 2,
        "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
        "holdout": 0.2,
        "train_until": date(2025, 1, 1),
    }
    return TrainingPlan(**{**values, **changes})


def of_segments(**changes):
    """A training plan like the others, but of centres."""
    course = CourseSpec(segments=SegmentCount(least=2, most=3), spread=6)
    values = {
        "model": ModelSpec(kind="centres", course=course),
        "algorithm": None,
        "rounds": course.terms.releases,
        "privacy": PrivacyTerms(
            l2_clip_norm=course.l2_sensitivity, noise_multiplier=8.0, delta=1e-5
        ),
    }
    return training(**{**values, **changes})


def certificates():
    return {
        unit: UnitCertificate(
            unit=unit,
            node_key="ab" * 32,
            size_band=1024,
            enrolment=contract().digest,
            issued_at=NOW,
        )
        for unit in UNITS
    }


def facts_of(*plans, **changes):
    """Good facts of an evaluation of as many models as there are training plans."""
    models = tuple(
        EvaluatedModel(artifact, plan, registered=True, withdrawn=False)
        for artifact, plan in zip((FIRST, SECOND), plans, strict=False)
    )
    values = {
        "title": "e",
        "models": tuple(Named(artifact=m.artifact, plan=m.plan.digest) for m in models),
        "rows": "holdout",
        "epsilon": 1.0,
        "delta": 1e-5,
        "minimum_units": 2,
    }
    evaluation = EvaluationFacts(EvaluationPlan(**{**values, **changes}), models)
    return GateFacts(
        plan=plans[0],
        author_known=True,
        contract=contract(),
        dpia=dpia(),
        dpia_state="in_force",
        certificates=certificates(),
        now=NOW,
        kind="evaluate",
        evaluation=evaluation,
    )


def good():
    return facts_of(training(), training(title="challenger"))


def with_model(**changes):
    """Good facts in which the second model is another one than it was."""
    facts = good()
    first, second = facts.evaluation.models
    changed = replace(facts.evaluation, models=(first, replace(second, **changes)))
    return replace(facts, evaluation=changed)


AGE = SensitiveAttribute(name="age", groups=("young", "old", "unknown"), edges=(60.0,))
DIET = SensitiveAttribute(name="diet", groups=("x", "y"))
CONSENT = "Explicit consent, Art. 9(2)(a)"
DENIED = "None is claimed."


def bound(attribute):
    return FairnessBound(
        attribute=attribute, metric="demographic_parity_difference", largest_gap=0.1
    )


def origin(condition=None):
    return SensitiveAttribute(name="origin", groups=("a", "b", "c"), special_condition=condition)


def inventory(*fields, special=None):
    """An inventory of one category with these fields."""
    category = DataCategory(
        id="audited",
        category="c",
        fields=fields,
        special_category=special,
        source="s",
        subjects="s",
        volume_band="v",
        retention_days=1,
        recipients=(),
    )
    return (category,)


def audited(*attributes, **changes):
    """A DPIA that binds an audit of these attributes and lists them."""
    names = [each.name for each in attributes]
    values = {
        "inventory": inventory(*names),
        "fairness": tuple(bound(name) for name in names),
        "fairness_audit": AuditTerms(attributes=attributes),
    }
    return dpia(**{**values, **changes})


def grouped(*attributes, of=None, before=None, epsilon=1.0, threshold=0.5, **changes):
    """An evaluation that counts these attributes' groups as they are counted, under DPIA `of`, of a
    model that was trained under `before`.
    """
    of = of or audited(*attributes)
    plain = tuple(each.model_copy(update={"special_condition": None}) for each in attributes)
    layout = TableLayout(attributes=plain, threshold=threshold, **changes)
    facts = replace(facts_of(training(), fairness=layout, epsilon=epsilon), dpia=of)
    first = replace(facts.evaluation.models[0], audit_bound=bound_audit((before or of).bindings))
    return replace(facts, evaluation=replace(facts.evaluation, models=(first,)))


def beside(*outstanding):
    """An evaluation that counts groups of a version whose audit other runs were permitted."""
    facts = grouped(DIET)
    return replace(facts, evaluation=replace(facts.evaluation, outstanding=outstanding))


IDS = (2, 1)


def shared(*attributes, of=None, before=None, plan=None, ids=IDS, found=IDS, **changes):
    """An evaluation that counts these segments by these attributes' groups under DPIA `of`, of a
    model in which these were found, trained by `plan` under `before`.
    """
    of = of or segmented(*attributes)
    plain = tuple(each.model_copy(update={"special_condition": None}) for each in attributes)
    layout = SegmentLayout(attributes=plain, segments=ids)
    values = {"rows": "all", "segments": layout, **changes}
    facts = replace(facts_of(plan or of_segments(holdout=None), **values), dpia=of)
    bound_before = bound_audit((before or of).bindings)
    first = replace(facts.evaluation.models[0], audit_bound=bound_before, segments=found)
    return replace(facts, evaluation=replace(facts.evaluation, models=(first,)))


def segment_bound(attribute):
    return FairnessBound(attribute=attribute, metric="segment_share_difference", largest_gap=0.1)


def segmented(*attributes, **changes):
    """A DPIA of a segmentation that binds an audit of these attributes and lists them."""
    if not attributes:
        return dpia(**changes)
    bounds = tuple(segment_bound(each.name) for each in attributes)
    return audited(*attributes, **{"fairness": bounds, **changes})


def parted(name, count):
    """A numeric field's groups, each as wide as a twentieth."""
    edges = tuple(number / 20 for number in range(1, count))
    groups = tuple(f"{name} {number}" for number in range(count))
    return SensitiveAttribute(name=name, groups=groups, edges=edges)


def crossed(*bounds, scores=False):
    """An evaluation that counts two segments, or scores, by 25 groups of age, 20 of calls and 2 of
    diet, of which these are bound.
    """
    attributes = (parted("age", 25), parted("calls", 20), DIET)
    made = bound if scores else segment_bound
    of = audited(*attributes, fairness=tuple(made(name) for name in bounds))
    return (grouped if scores else shared)(*attributes, of=of)


def absent_at_south(**changes):
    units = (
        UnitTerms(unit="north", public_n=1536),
        UnitTerms(unit="south", public_n=1536, absent=("calls",)),
    )
    imputed = Imputation(impute=1.0, indicator=True)
    features = (
        Feature(field="tenure", encoding="scale"),
        Feature(field="calls", encoding="scale", absent=imputed),
    )
    return training(units=units, features=features, **changes)


def replace_groups(attribute, groups):
    edges = None if attribute.edges is None or "unknown" not in groups else attribute.edges
    return SensitiveAttribute(name=attribute.name, groups=groups, edges=edges)


def conditioned(attribute):
    return attribute.model_copy(update={"special_condition": CONSENT})


def bands(*edges, threshold=None):
    terms = AuditTerms(attributes=(DIET,), further_edges=edges or None, threshold=threshold)
    return audited(DIET, fairness_audit=terms)


def merging(*groups):
    merge = GroupMerge(attribute="age", groups=groups, merged="others")
    return audited(AGE, fairness_audit=AuditTerms(attributes=(AGE,), merges=(merge,)))
