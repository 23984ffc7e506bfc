"""What plans say of an autoencoder, and of segments that are searched in its embedding."""

import numpy as np
import pytest
from pydantic import ValidationError

from fedcore import canonical
from fedcore.clusterings import CourseSpec, EmbeddingSpec, SegmentCount
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.mitigation import GroupWeight, Reweighing
from fedcore.plans import Feature, MetricFloor, ModelSpec, TrainingPlan
from fedcore.segments.embedding import encoder_of
from fedcore.tasks.segmentation import task
from fedcore.tasks.task import decode_model, first_model, shapes_of
from fedcore.weights import encode_weights

COURSE = CourseSpec(segments=SegmentCount(least=2, most=5), spread=12)


@pytest.fixture
def plan(documents):
    return documents.segmentation_plan_of(documents.contract_of())


def rebuilt(plan, **update):
    return TrainingPlan(**{**dict(plan), **update})


INPUTS = 3


def embedding_of(data=b""):
    return EmbeddingSpec(artifact=canonical.digest(data), hidden=(4,), width=2)


def autoencoder_of(spec, seed=0):
    model = ModelSpec(kind="autoencoder", hidden=spec.hidden, embedding=spec.width)
    shapes = shapes_of(task.build(model, INPUTS))
    draw = np.random.default_rng(seed)
    return {name: draw.normal(size=shape) for name, shape in shapes.items()}


def test_the_encoder_is_that_of_the_very_bytes_which_the_plan_names():
    weights = autoencoder_of(embedding_of())
    data = encode_weights(weights)
    rows = np.random.default_rng(1).uniform(-1, 1, (5, INPUTS))
    found = embedding_of(data).encoder(data, INPUTS, 1e3)
    assert np.array_equal(found.places(rows), encoder_of(weights, 1).places(rows))
    other = encode_weights(autoencoder_of(embedding_of(), seed=1))
    with pytest.raises(MismatchError) as error:
        embedding_of(data).encoder(other, INPUTS, 1e3)
    assert error.value.code == "order.model_mismatch"


def test_bytes_that_are_no_such_autoencoder_are_refused_though_the_plan_names_them():
    weights = autoencoder_of(embedding_of())
    wide = {**weights, "0.weight": np.zeros((4, INPUTS + 1))}
    crafted = {**weights, "0.bias": np.array([1e4, 0, 0, 0])}
    broken = {**weights, "0.bias": np.array([np.inf, 0, 0, 0])}
    codes = []
    for values in (wide, crafted, broken):
        data = encode_weights(values)
        with pytest.raises(InvalidRecordError) as error:
            embedding_of(data).encoder(data, INPUTS, 1e3)
        codes.append(error.value.code)
    assert codes == ["weights.wrong_shape", "weights.out_of_bounds", "weights.not_finite"]


def test_centres_in_an_embedding_have_its_width_and_others_that_of_the_inputs(plan):
    inside = COURSE.model_copy(update={"embedding": embedding_of()})
    assert (COURSE.dimensions(INPUTS), inside.dimensions(INPUTS)) == (INPUTS, 2)
    model = ModelSpec(kind="centres", course=inside)
    first = first_model("segmentation", model, INPUTS)
    assert first["centres"].shape == (1, 2)
    searched = plan.model_copy(update={"model": model})
    assert decode_model(searched, INPUTS, encode_weights(first)).keys() == first.keys()
    among_features = first_model("segmentation", plan.model, INPUTS)
    with pytest.raises(InvalidRecordError):
        decode_model(searched, INPUTS, encode_weights(among_features))


def test_in_an_embedding_features_may_be_of_any_encoding(plan):
    onehot = (Feature(field="plan", encoding="onehot"),)
    with pytest.raises(ValidationError, match="or in an embedding"):
        rebuilt(plan, features=onehot)
    inside = plan.model.course.model_copy(update={"embedding": embedding_of()})
    found = rebuilt(plan, features=onehot, model=ModelSpec(kind="centres", course=inside))
    assert TrainingPlan.from_bytes(found.to_bytes()) == found


def test_an_autoencoder_is_trained_by_an_algorithm_that_knows_no_labels(documents):
    plan = documents.plan_of(documents.contract_of())
    model = ModelSpec(kind="autoencoder", hidden=(4,), embedding=2)
    update = {"task": "segmentation", "model": model}
    found = rebuilt(plan, **update)
    assert TrainingPlan.from_bytes(found.to_bytes()) == found
    weighted = plan.averaging.model_copy(update={"positive_weight": 2.0})
    with pytest.raises(ValidationError, match="knows no labels"):
        rebuilt(plan, **update, algorithm=weighted)
    floors = (MetricFloor(metric="roc_auc", floor=0.5),)
    with pytest.raises(ValidationError, match="not evaluated"):
        rebuilt(plan, **update, metric_floors=floors)
    sex = SensitiveAttribute(name="sex", groups=("f", "m"))
    weights = (GroupWeight(group="f", positive=True, weight=2.0),)
    fairer = Reweighing(kind="reweighing", attribute=sex, weights=weights)
    with pytest.raises(ValidationError, match="mitigation: is of models that score"):
        rebuilt(plan, **update, mitigation=fairer)
    scoring = rebuilt(plan, algorithm=weighted, metric_floors=floors, mitigation=fairer)
    assert scoring.model.is_scoring
    assert not found.model.is_scoring
