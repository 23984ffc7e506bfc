import math

import numpy as np
import pytest

from fedcore import canonical
from fedcore.errors import InvalidRecordError, MismatchError, NotFoundError
from fedcore.plans import ModelSpec
from fedcore.tasks import segmentation
from fedcore.tasks.task import (
    TaskSpec,
    decode_model,
    first_model,
    initial_weights,
    load_scorer,
    load_task,
    update_shapes,
)
from fedcore.weights import encode_weights

CENTRES = np.array([[0.25, -0.5], [-1.0, 1.0]])
SOUND = {"centres": CENTRES, "radius": np.array([0.3])}


@pytest.fixture
def plan(documents):
    return documents.segmentation_plan_of(documents.contract_of())


def test_the_task_is_installed_and_has_no_label():
    assert load_task("segmentation") is segmentation.task
    assert segmentation.task.spec == TaskSpec(
        name="segmentation", label="none", models=("centres", "autoencoder")
    )


def test_a_task_without_a_label_scores_nobody():
    with pytest.raises(MismatchError) as error:
        load_scorer("segmentation")
    assert error.value.code == "task.not_scored"
    assert load_scorer("churn").spec.name == "churn"


def test_centres_are_not_trained_by_steps_and_an_autoencoder_is(plan):
    with pytest.raises(MismatchError) as error:
        segmentation.task.build(plan.model, 4)
    assert error.value.code == "plan.model_unfit"
    model = ModelSpec(kind="autoencoder", hidden=(3,), embedding=2)
    assert (
        initial_weights(segmentation.task, model, 4).keys()
        == first_model("segmentation", model, 4).keys()
    )


def test_a_run_starts_from_one_centre_in_the_middle_of_the_bounds(plan):
    first = first_model("segmentation", plan.model, 4)
    assert np.array_equal(first["centres"], np.zeros((1, 4)))
    assert first["radius"].tolist() == [math.sqrt(4)]
    again = first_model("segmentation", plan.model, 4)
    assert canonical.digest(encode_weights(first)) == canonical.digest(encode_weights(again))


@pytest.mark.parametrize("task", ["churn", "response"])
def test_a_task_has_models_of_its_own_kinds_only(plan, task):
    with pytest.raises(MismatchError) as error:
        first_model(task, plan.model, 4)
    assert error.value.code == "plan.model_unfit"
    with pytest.raises(MismatchError) as error:
        decode_model(plan.model_copy(update={"task": task}), 2, encode_weights(SOUND))
    assert error.value.code == "plan.model_unfit"
    assert first_model(task, ModelSpec(kind="logistic"), 4)
    with pytest.raises(MismatchError):
        first_model("segmentation", ModelSpec(kind="logistic"), 4)
    with pytest.raises(NotFoundError):
        first_model("unheard-of", plan.model, 4)


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_placement_may_have_any_number_of_centres_up_to_the_courses(plan, count):
    weights = {**SOUND, "centres": np.linspace(-1, 1, 2 * count).reshape(count, 2)}
    model = decode_model(plan, 2, encode_weights(weights))
    assert np.array_equal(model["centres"], weights["centres"])
    assert update_shapes(plan, model) == {"sums": (count * 5,)}


@pytest.mark.parametrize(
    ("name", "array", "code"),
    [
        ("centres", np.zeros((13, 2)), "clustering.placement_invalid"),
        ("centres", np.zeros((0, 2)), "clustering.placement_invalid"),
        ("centres", np.zeros((9000, 2)), "weights.too_large"),
        ("centres", np.zeros((2, 3)), "weights.wrong_shape"),
        ("centres", np.zeros(2), "weights.wrong_shape"),
        ("centres", np.zeros(()), "weights.wrong_shape"),
        ("centres", np.zeros((2, 2, 1)), "weights.wrong_shape"),
        ("centres", np.zeros((2, 2), np.float32), "weights.wrong_shape"),
        ("centres", np.array([[0.0, np.nan]]), "weights.not_finite"),
        ("centres", np.array([[0.0, -np.inf]]), "weights.not_finite"),
        ("centres", np.array([[0.0, 1.0000001]]), "clustering.placement_invalid"),
        ("centres", np.array([[0.0, 1e300]]), "weights.out_of_bounds"),
        ("radius", np.array([0.0009]), "clustering.placement_invalid"),
        ("radius", np.array([-0.3]), "clustering.placement_invalid"),
        ("radius", np.array([2.83]), "weights.out_of_bounds"),
        ("radius", np.array([np.nan]), "weights.not_finite"),
        ("radius", np.array([0.3, 0.3]), "weights.wrong_shape"),
        ("colour", np.array([0.3]), "weights.wrong_shape"),
    ],
)
def test_a_placement_that_breaks_a_rule_is_refused_and_its_repaired_twin_is_not(
    plan, name, array, code
):
    with pytest.raises(InvalidRecordError) as error:
        decode_model(plan, 2, encode_weights({**SOUND, name: array}))
    assert error.value.code == code
    assert decode_model(plan, 2, encode_weights(SOUND))


@pytest.mark.parametrize("data", [b"", b"no tensors", encode_weights(SOUND)[:-8]])
def test_what_is_no_placement_at_all_is_refused(plan, data):
    with pytest.raises(InvalidRecordError) as error:
        decode_model(plan, 2, data)
    assert error.value.code == "weights.unreadable"


def test_a_placement_has_one_encoding(plan):
    padded = encode_weights(SOUND)
    length = int.from_bytes(padded[:8], "little")
    spaced = (length + 8).to_bytes(8, "little") + padded[8 : 8 + length] + b" " * 8
    with pytest.raises(InvalidRecordError) as error:
        decode_model(plan, 2, spaced + padded[8 + length :])
    assert error.value.code == "weights.unreadable"


def test_a_trained_models_update_has_its_own_shapes(documents):
    trained = documents.plan_of(documents.contract_of())
    model = first_model("churn", trained.model, 3)
    assert update_shapes(trained, model) == {"0.weight": (1, 3), "0.bias": (1,)}
    assert decode_model(trained, 3, encode_weights(model))
