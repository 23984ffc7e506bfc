"""A plan keeps the ids of segments only where their numbers mean the same: refusal beside twin."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fedcore.canonical import digest
from fedcore.clusterings import Continuation, CourseSpec, EmbeddingSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.learning_rules import Algorithm
from fedcore.plans import Feature, Imputation, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from governance.decisions.facts import ContinuedVersion, GateFacts
from governance.decisions.gate import decide_permit
from governance.decisions.gate_continuations import CONTINUATION_RULES

NOW = datetime(2025, 6, 1, tzinfo=UTC)
BYTES = digest(b"segments")
FIELDS = (
    ContractField(name="age", kind="numeric", unit="year", lower=0, upper=99, missing_value=0),
    ContractField(name="spend", kind="numeric", unit="EUR", lower=0, upper=2000),
    ContractField(name="plan", kind="categorical", categories=("a", "b", "c")),
)
FEATURES = (Feature(field="age", encoding="scale"), Feature(field="spend", encoding="log"))
CODED = (*FEATURES, Feature(field="plan", encoding="onehot"))
PLACES = EmbeddingSpec(artifact=digest(b"autoencoder"), width=2)


def contract(version=1, *, at=0, **changes):
    """A version of the contract, with changes of the field at this place."""
    fields = [*FIELDS]
    fields[at] = ContractField(**{**fields[at].model_dump(), **changes})
    return Contract(
        contract_id="shop",
        version=version,
        title="t",
        source="s",
        subject=SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
        fields=tuple(fields),
        label=Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        purposes=(Purpose(id="segments", text="c", basis="consent"),),
        retention_days=10,
    )


def a_plan(of, features=FEATURES, embedding=None, *, keeps=False):
    continues = Continuation(artifact=BYTES, farthest=0.5) if keeps else None
    course = CourseSpec(
        segments=SegmentCount(least=2, most=4), spread=8, continues=continues, embedding=embedding
    )
    return TrainingPlan(
        title="p",
        task="segmentation",
        purpose="segments",
        contract=of.digest,
        features=features,
        units=tuple(UnitTerms(unit=unit, public_n=1536) for unit in ("north", "south")),
        minimum_units=2,
        model=ModelSpec(kind="centres", course=course),
        initial_model=digest(b"m"),
        algorithm=None,
        rounds=course.terms.releases,
        privacy=PrivacyTerms(l2_clip_norm=course.l2_sensitivity, noise_multiplier=8.0, delta=1e-5),
    )


def trained(of):
    """A plan with the same features that finds no segments."""
    changes = {
        "model": ModelSpec(kind="logistic"),
        "algorithm": Algorithm(local_learning_rate=1.0),
        "rounds": 2,
        "task": "churn",
        "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
    }
    return a_plan(of).model_copy(update=changes)


def version(plan=None, of=None, artifact=BYTES):
    of = contract() if of is None else of
    return ContinuedVersion(artifact, a_plan(of) if plan is None else plan, of)


def refused(*continued, features=FEATURES, embedding=None):
    """Whether the rule objects to a plan that continues these versions, under the first contract.

    Facts that it does not look at are missing: other rules object to them.
    """
    now = contract()
    plan = a_plan(now, features, embedding, keeps=True)
    facts = GateFacts(plan, True, now, None, None, {}, NOW, continued=continued)
    codes = [code for code, _ in decide_permit(facts)]
    return "plan.other_segments" in codes


def test_a_version_with_the_same_inputs_is_continued_under_whatever_version_of_the_contract():
    assert not refused(version())
    again = contract(version=2, at=2, categories=("a", "b"))
    assert not refused(version(of=again))
    # Of several versions with these bytes one is enough.
    assert not refused(version(a_plan(contract(), FEATURES[:1])), version())


@pytest.mark.parametrize(
    "features",
    [
        FEATURES[:1],
        FEATURES[::-1],
        (FEATURES[0], Feature(field="spend", encoding="scale")),
        (Feature(field="age", encoding="log"), FEATURES[1]),
        (FEATURES[0], Feature(field="age", encoding="log")),
    ],
)
def test_other_features_or_another_order_or_encoding_is_refused(features):
    assert refused(version(a_plan(contract(), features)))
    assert not refused(version(a_plan(contract(), features)), features=features)


@pytest.mark.parametrize(
    "change",
    [
        {"at": 1, "upper": 2001},
        {"at": 1, "lower": -1},
        {"at": 1, "unit": "USD"},
        {"at": 1, "unit": None},
        {"at": 0, "missing_value": 1},
    ],
)
def test_the_same_names_on_another_public_scale_are_refused(change):
    assert refused(version(of=contract(2, **change)))
    kept = {**change, "at": 0, "missing_value": 0} if "missing_value" in change else {"at": 2}
    assert not refused(version(of=contract(2, **kept)))


def test_bytes_that_are_no_registered_segments_are_refused():
    assert refused()
    assert refused(version(artifact=digest(b"others")))
    assert refused(version(trained(contract())))
    assert not refused(version(trained(contract())), version())


def test_only_versions_in_the_same_embedding_are_continued():
    other = PLACES.model_copy(update={"artifact": digest(b"another")})
    within = {each: version(a_plan(contract(), CODED, each)) for each in (PLACES, other)}
    assert not refused(within[PLACES], features=CODED, embedding=PLACES)
    assert refused(within[other], features=CODED, embedding=PLACES)
    assert refused(within[PLACES])
    assert refused(version(), embedding=PLACES)
    turned = contract(2, at=2, categories=("b", "a", "c"))
    assert refused(version(a_plan(turned, CODED, PLACES), turned), features=CODED, embedding=PLACES)


def test_what_units_that_lack_a_field_do_is_no_part_of_it_but_for_an_input_that_says_so():
    missing = contract(at=1, availability="may_be_absent")

    def lacking(absent):
        told = (FEATURES[0], Feature(field="spend", encoding="log", absent=absent))
        return version(a_plan(missing, told, PLACES), missing)

    assert not refused(lacking("leave_out"), embedding=PLACES)
    assert refused(lacking(Imputation(impute=5, indicator=True)), embedding=PLACES)


def test_a_plan_that_continues_nothing_is_held_to_nothing_of_it():
    now = contract()
    facts = GateFacts(a_plan(now), True, now, None, None, {}, NOW)
    assert all(rule.objection(facts) is None for rule in CONTINUATION_RULES)
    # Without its contract, which other rules ask for, nothing can be compared.
    keeping = replace(facts, plan=a_plan(now, keeps=True))
    assert all(rule.objection(keeping) is not None for rule in CONTINUATION_RULES)
    assert all(
        rule.objection(replace(keeping, contract=None)) is None for rule in CONTINUATION_RULES
    )
