import math

import numpy as np
import pytest
from pydantic import ValidationError

from fedcore import canonical
from fedcore.clusterings import (
    MAX_CELLS,
    Continuation,
    CourseSpec,
    EmbeddingSpec,
    SegmentCount,
)
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.learning_rules import Algorithm
from fedcore.plans import Feature, Imputation, MetricFloor, ModelSpec, PrivacyTerms, TrainingPlan
from fedcore.privacy.clustering import Placement, ReleaseTerms
from fedcore.privacy.events import PrivacyEvent
from fedcore.segments.artefact import MAX_BYTES, SegmentModel, encode_model
from fedcore.segments.noised import NoisedSums

COURSE = CourseSpec(segments=SegmentCount(least=2, most=5), spread=12)
FROM = Continuation(artifact="sha256:" + "0" * 64, farthest=0.5)


@pytest.fixture
def plan(documents):
    return documents.segmentation_plan_of(documents.contract_of())


def rebuilt(plan, **update):
    return TrainingPlan(**{**dict(plan), **update})


def terms_with(plan, **update):
    return PrivacyTerms(**{**dict(plan.privacy), **update})


def with_course(plan, **update):
    course = CourseSpec(**{**dict(COURSE), **update})
    terms = terms_with(plan, l2_clip_norm=course.l2_sensitivity)
    model = ModelSpec(kind="centres", course=course)
    return rebuilt(plan, model=model, rounds=course.terms.releases, privacy=terms)


def test_a_plan_of_centres_survives_its_bytes(plan):
    for each in (plan, with_course(plan, continues=FROM), with_course(plan, count_weight=1 / 3)):
        assert TrainingPlan.from_bytes(each.to_bytes()) == each


def test_a_run_is_charged_as_so_many_releases_of_the_stated_sensitivity(plan):
    assert plan.round_event() == PrivacyEvent(
        mechanism="gaussian",
        l2_sensitivity=math.sqrt(1 + 0.4 * 0.4 + 0.4 * 0.4),
        sampling_rate=1.0,
        noise_multiplier=8.0,
        steps=1,
    )
    assert plan.run_event().steps == 7 + 1
    assert plan.round_event() == COURSE.release_terms(8.0).event(1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda plan: {"rounds": 6}, "has 7 releases"),
        (lambda plan: {"rounds": 8}, "has 7 releases"),
        (lambda plan: {"privacy": terms_with(plan, local_steps=2)}, "local_steps"),
        (lambda plan: {"privacy": terms_with(plan, sampling_rate=0.5)}, "sampling_rate"),
        (
            lambda plan: {
                "privacy": terms_with(
                    plan, l2_clip_norm=math.nextafter(plan.privacy.l2_clip_norm, 0)
                )
            },
            "sensitivity of a release is",
        ),
        (lambda plan: {"features": (Feature(field="plan", encoding="onehot"),)}, "scale or log"),
        (
            lambda plan: {
                "features": (Feature(field="tenure", encoding="edges", edges=(0, 12, 72)),)
            },
            "scale or log",
        ),
        (
            lambda plan: {
                "features": (Feature(field="tenure", encoding="scale", missing_indicator=True),)
            },
            "without indicators",
        ),
        (
            lambda plan: {
                "features": (
                    Feature(
                        field="tenure",
                        encoding="scale",
                        absent=Imputation(impute=12, indicator=True),
                    ),
                )
            },
            "without indicators",
        ),
        (lambda plan: {"metric_floors": (MetricFloor(metric="auc", floor=0.5),)}, "not evaluated"),
        (lambda plan: {"algorithm": Algorithm(local_learning_rate=0.1)}, "has none"),
    ],
)
def test_what_a_release_cannot_do_is_refused_and_named(plan, wrong, named):
    with pytest.raises(ValidationError, match=named):
        rebuilt(plan, **wrong(plan))
    assert rebuilt(plan, title="The same, otherwise")


def test_features_on_a_log_scale_and_units_that_are_left_out_are_fine(plan):
    of_all = Feature(field="tenure", encoding="log", absent="leave_out")
    assert rebuilt(plan, features=(of_all,)).features == (of_all,)


def with_most(plan, features, most, embedding=None):
    names = tuple(Feature(field=f"f{number}", encoding="scale") for number in range(features))
    segments = SegmentCount(least=2, most=most)
    wide = rebuilt(plan, features=names)
    return with_course(wide, segments=segments, spread=most + 1, embedding=embedding)


def test_a_plan_whose_model_would_be_too_large_to_hand_over_is_refused(plan):
    most = MAX_CELLS // 2000
    with_most(plan, 2000, most)
    with pytest.raises(ValidationError, match="at most 400,000"):
        with_most(plan, 2000, most + 1)
    width = EmbeddingSpec(artifact=FROM.artifact, width=2)
    assert with_most(plan, 2000, 1023, width).model.course.segments.most == 1023


@pytest.mark.parametrize("most", [1023, 200])
def test_the_largest_model_of_a_plan_can_be_handed_over(most):
    features = MAX_CELLS // most
    around, sums = Placement(np.zeros((most, features)), 1.0), np.ones((most, 2 * features + 1))
    last = NoisedSums(around, ReleaseTerms(1.0), 2, sums)
    assert len(encode_model(SegmentModel(last, tuple(range(1, most + 1)), most))) <= MAX_BYTES


def test_a_model_that_is_trained_needs_an_algorithm(documents, plan):
    trained = documents.plan_of(documents.contract_of())
    with pytest.raises(ValidationError, match="every other one needs it"):
        rebuilt(trained, algorithm=None)
    assert trained.averaging is trained.algorithm
    with pytest.raises(InvalidRecordError) as error:
        _ = plan.averaging
    assert error.value.code == "plan.no_algorithm"


def test_centres_have_a_course_and_nothing_else_has_one():
    with pytest.raises(ValidationError, match="need a course"):
        ModelSpec(kind="centres")
    with pytest.raises(ValidationError, match="others have none"):
        ModelSpec(kind="logistic", course=COURSE)
    with pytest.raises(ValidationError, match="hidden"):
        ModelSpec(kind="centres", course=COURSE, hidden=(4,))
    assert ModelSpec(kind="centres", course=COURSE).course is COURSE


@pytest.mark.parametrize(
    "update",
    [
        {"spread": 5},
        {"spread": 1025},
        {"searches": 0},
        {"refinements": 0},
        {"count_weight": 0.0},
        {"square_weight": 11.0},
        {"segments": {"least": 0, "most": 5}},
        {"segments": {"least": 4, "most": 3}},
        {"continues": {"artifact": FROM.artifact, "farthest": 0.0}},
    ],
)
def test_a_course_that_cannot_be_run_is_refused(update):
    with pytest.raises(ValidationError):
        CourseSpec.model_validate({**COURSE.model_dump(), **update})
    assert CourseSpec.model_validate(COURSE.model_dump()) == COURSE


def test_the_terms_of_a_course_are_those_that_it_states():
    course = CourseSpec(segments=SegmentCount(least=3, most=4), spread=9, searches=2, refinements=1)
    assert course.terms.releases == 5
    assert (course.terms.segments.least, course.terms.segments.most) == (3, 4)
    assert (course.terms.spread, course.terms.searches, course.terms.refinements) == (9, 2, 1)
    assert course.release_terms(2.0).noise_scale == 2.0 * course.l2_sensitivity


def test_the_segments_that_a_plan_continues_are_the_named_ones_and_have_its_dimensions():
    placement = Placement(np.array([[-0.5, 0.0], [0.5, 0.0]]), 1.0)
    sums = NoisedSums(placement, COURSE.release_terms(1.0), 2, np.zeros((2, 5)))
    data = encode_model(SegmentModel(sums, (4, 2), 7))
    named = Continuation(artifact=canonical.digest(data), farthest=0.5)
    keeping = COURSE.model_copy(update={"continues": named})
    found = keeping.known_segments(data, inputs=2)
    assert found is not None
    assert (found.ids, found.newest) == ((4, 2), 7)
    embedding = EmbeddingSpec(artifact=FROM.artifact, width=2)
    within = keeping.model_copy(update={"embedding": embedding})
    assert within.known_segments(data, inputs=9) is not None
    assert COURSE.known_segments(data, inputs=2) is None
    for course, inputs, code in (
        (keeping, 3, "plan.other_segments"),
        (COURSE.model_copy(update={"continues": FROM}), 2, "order.model_mismatch"),
    ):
        with pytest.raises(MismatchError) as refused:
            course.known_segments(data, inputs)
        assert refused.value.code == code
