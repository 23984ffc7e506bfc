"""What is told of a segmentation version is what its noised sums say, in the contract's words."""

import numpy as np
import pytest

from fedcore.clusterings import CourseSpec, EmbeddingSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.clustering import Placement, ReleaseTerms, clipped_sums
from fedcore.segment_facts import MAX_MEANS, read_segments, tell_segments, tell_shares
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.noised import NoisedSums

DIGEST = "sha256:" + "ab" * 32
CONTRACT = Contract(
    contract_id="customers",
    version=1,
    title="Customers",
    source="public",
    subject=SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
    fields=(
        ContractField(name="tenure", kind="numeric", lower=0, upper=72, unit="months"),
        ContractField(name="spend", kind="numeric", lower=0, upper=999, unit="EUR"),
        ContractField(name="visits", kind="numeric", lower=0, upper=10),
    ),
    label=Label(name="churned", positive="Yes", negative="No", horizon_days=30),
    purposes=(Purpose(id="segments", text="Segments", basis="legitimate_interests"),),
    retention_days=365,
)
FEATURES = (
    Feature(field="tenure", encoding="scale"),
    Feature(field="spend", encoding="log"),
    Feature(field="visits", encoding="scale"),
)
# Tenure, log spend, visits: long, dear and seldom, and short, cheap and often.
MIDDLES = np.array([[0.5, 0.6, -1.0], [-0.5, -0.2, 0.8]])
COURSE = CourseSpec(segments=SegmentCount(least=2, most=4), spread=8)


def plan(features=FEATURES, noise=1.0, course=COURSE):
    """A plan; also one without noise, which only tests have."""
    made = TrainingPlan(
        title="Segments",
        task="segmentation",
        purpose="segments",
        contract=CONTRACT.digest,
        features=features,
        units=(UnitTerms(unit="north", public_n=1536),),
        minimum_units=1,
        model=ModelSpec(kind="centres", course=course),
        initial_model=DIGEST,
        rounds=course.terms.releases,
        privacy=PrivacyTerms(l2_clip_norm=course.l2_sensitivity, noise_multiplier=1.0, delta=1e-5),
    )
    privacy = made.privacy.model_copy(update={"noise_multiplier": noise})
    return made.model_copy(update={"privacy": privacy})


def a_model(counts=(300, 100), noise=0.0, ids=(2, 1), middles=MIDDLES):
    """A model of rows around middles, as many as told, and a noise that is told of but not made."""
    chance = np.random.default_rng(1)
    rows = np.repeat(middles, counts, axis=0)
    rows = np.clip(rows + chance.normal(0, 0.05, rows.shape), -1, 1)
    placement, terms = Placement(middles, 1.0), ReleaseTerms(noise)
    sums = clipped_sums(rows, placement, terms)
    return SegmentModel(NoisedSums(placement, terms, 1, sums), ids, max(ids)), rows


def told(features=FEATURES, noise=0.0, **changes):
    model, rows = a_model(noise=noise, **changes)
    return tell_segments(encode_model(model), plan(features, noise), CONTRACT), rows


def test_segments_come_in_the_order_of_their_ids_with_their_own_cells():
    facts, rows = told()
    assert [one.id for one in facts.segments] == [1, 2]
    assert [round(one.size.value) for one in facts.segments] == [100, 300]
    assert facts.cells[0]
    assert facts.cells[1]
    assert facts.cells[0][0].value == pytest.approx(36 * (1 + rows[300:, 0].mean()), abs=1e-3)
    assert facts.cells[1][0].value == pytest.approx(36 * (1 + rows[:300, 0].mean()), abs=1e-3)
    # By the map the larger segment is nearer to the middle of all, on the other side.
    first, second = facts.map.places[:, 0]
    assert first == pytest.approx(-3 * second, rel=1e-2)
    assert facts.map.shown == pytest.approx(1)


def test_cells_are_told_in_the_contract_s_units_and_never_outside_its_bounds():
    facts, rows = told(noise=60.0, counts=(900, 800))
    assert [(one.scale.name, one.unit) for one in facts.inputs] == [
        ("tenure", "months"),
        ("spend", "EUR"),
        ("visits", ""),
    ]
    assert facts.cells[1]
    tenure, spend, visits = facts.cells[1]
    assert 0 <= tenure.low < tenure.value < tenure.high <= 72
    middle = np.expm1((rows[:900, 1].mean() + 1) / 2 * np.log1p(999))
    assert spend.value == pytest.approx(middle, rel=1e-3)
    assert 0 <= spend.low < spend.value < spend.high <= 999
    assert spend.high - spend.value > spend.value - spend.low
    assert 0 == visits.low <= visits.value < visits.high < 2
    assert tenure.deviations > 0 > visits.deviations


def test_a_field_that_is_an_input_twice_keeps_its_inputs_apart():
    both = (*FEATURES[1:2], Feature(field="spend", encoding="scale"))
    facts, _ = told(both, middles=MIDDLES[:, :2])
    assert [one.scale.name for one in facts.inputs] == ["log spend", "spend"]
    assert [one.scale.is_log for one in facts.inputs] == [True, False]


def test_a_segment_that_noise_hides_has_no_cells_and_is_still_on_the_map():
    facts, _ = told(noise=30.0, counts=(900, 20))
    assert facts.cells[0] is None
    assert facts.cells[1] is not None
    assert facts.segments[0].name == "too small to describe"
    assert facts.map.places.shape == (2, 2)


def test_a_model_of_another_number_of_inputs_is_refused():
    model, _ = a_model()
    told()
    with pytest.raises(MismatchError) as refusal:
        tell_segments(encode_model(model), plan(FEATURES[:2]), CONTRACT)
    assert refusal.value.code == "segments.other_features"
    with pytest.raises(InvalidRecordError) as unreadable:
        tell_segments(b"no model", plan(), CONTRACT)
    assert unreadable.value.code == "segments.model_unreadable"


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"terms": ReleaseTerms(0.5)}, "noise and weights"),
        ({"terms": ReleaseTerms(1.0, count_weight=0.8)}, "noise and weights"),
        ({"terms": ReleaseTerms(1.0, square_weight=0.8)}, "noise and weights"),
        ({"units": 1}, "2 to 3 units"),
        ({"units": 4}, "2 to 3 units"),
        ({"count": 5}, "at most 4 segments"),
    ],
)
def test_a_model_that_says_it_is_more_certain_than_its_plan_is_refused(lie, said):
    units = tuple(UnitTerms(unit=unit, public_n=1536) for unit in ("north", "south", "west"))
    of_three = plan().model_copy(update={"units": units, "minimum_units": 2})

    def of(terms=None, units=2, count=4):
        terms, sums = terms or ReleaseTerms(1.0), np.ones((count, 7))
        last = NoisedSums(Placement(np.zeros((count, 3)), 1.0), terms, units, sums)
        return encode_model(SegmentModel(last, tuple(range(1, count + 1)), count))

    for answered in (2, 3):
        assert read_segments(of(units=answered), of_three, CONTRACT).last.units == answered
        assert tell_segments(of(units=answered), of_three, CONTRACT).units == answered
    with pytest.raises(MismatchError, match=said) as refusal:
        read_segments(of(**lie), of_three, CONTRACT)
    assert refusal.value.code == "segments.other_terms"
    with pytest.raises(MismatchError, match=said):
        tell_segments(of(**lie), of_three, CONTRACT)


def test_more_means_than_people_read_are_not_told():
    features = tuple(
        Feature.model_validate({"field": field, "encoding": encoding})
        for field in ("tenure", "spend", "visits")
        for encoding in ("scale", "log")
    )

    def of(count):
        placement = Placement(np.zeros((count, 6)), 1.0)
        last = NoisedSums(placement, ReleaseTerms(1.0), 1, np.ones((count, 13)))
        return encode_model(SegmentModel(last, tuple(range(1, count + 1)), count))

    many = CourseSpec(segments=SegmentCount(least=2, most=1000), spread=1001)
    assert len(tell_segments(of(20), plan(features, course=many), CONTRACT).segments) == 20
    with pytest.raises(InvalidRecordError) as refusal:
        tell_segments(of(MAX_MEANS // 6 + 1), plan(features, course=many), CONTRACT)
    assert refusal.value.code == "segments.too_many_means"


def test_shares_are_told_over_versions_and_their_change_by_id():
    before, _ = a_model((300, 100), ids=(2, 1))
    after, _ = a_model((100, 300), ids=(3, 1))
    history = tell_shares([(4, before), (5, after)])
    assert history.versions == (4, 5)
    assert [sorted(shares) for shares in history.shares] == [[1, 2], [1, 3]]
    assert list(history.changes) == [1]
    assert history.changes[1].value == pytest.approx(0.5, abs=1e-6)
    assert tell_shares([(5, after)]).changes == {}


def test_segments_in_an_embedding_are_told_by_its_numbers_which_have_no_unit():
    embedding = EmbeddingSpec(artifact=DIGEST, hidden=(4,), width=2)
    course = COURSE.model_copy(update={"embedding": embedding})
    embedded = plan(noise=0.0, course=course)
    model, rows = a_model(middles=MIDDLES[:, :2])
    facts = tell_segments(encode_model(model), embedded, CONTRACT)
    assert (facts.embedding, told()[0].embedding) == (DIGEST, None)
    named = [(one.scale.name, one.unit) for one in facts.inputs]
    assert named == [("embedding 1", ""), ("embedding 2", "")]
    assert facts.cells[0]
    assert facts.cells[0][1].value == pytest.approx(rows[300:, 1].mean(), abs=1e-3)
    with pytest.raises(MismatchError) as error:
        tell_segments(encode_model(a_model()[0]), embedded, CONTRACT)
    assert error.value.code == "segments.other_features"
