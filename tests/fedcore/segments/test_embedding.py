"""A customer's place in an embedding is that customer's own, and within the public bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from fedcore.errors import InvalidRecordError
from fedcore.plans import ModelSpec
from fedcore.privacy.clustering import NOWHERE, nearest
from fedcore.segments.embedding import encoder_of
from fedcore.tasks.segmentation import task
from fedcore.tasks.task import load_into, shapes_of

INPUTS = 6
MODELS = {
    "flat": ModelSpec(kind="autoencoder", embedding=3),
    "deep": ModelSpec(kind="autoencoder", hidden=(7, 5), embedding=2),
}


def weights_of(model, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    shapes = shapes_of(task.build(model, INPUTS))
    return {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}


def rows_of(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, INPUTS))


@pytest.mark.parametrize("name", MODELS)
def test_places_are_what_the_trained_module_has_in_its_middle(name):
    model, rows = MODELS[name], rows_of(50)
    weights = weights_of(model)
    module = nn.Sequential(*task.build(model, INPUTS).children())
    load_into(module, weights)
    with torch.no_grad():
        layers = list(module.children())[: 2 * (len(model.hidden) + 1)]
        middle = torch.nn.Sequential(*layers)(torch.from_numpy(rows)).numpy()
    found = encoder_of(weights, len(model.hidden)).places(rows)
    assert found.shape == (50, model.embedding)
    assert found == pytest.approx(middle, abs=1e-13)


@hypothesis_settings(max_examples=60)
@given(
    st.sampled_from(sorted(MODELS)),
    st.integers(1, 70),
    st.sampled_from([1.0, 30.0, 1e3, 1e300]),
    st.data(),
)
def test_a_place_is_the_same_to_the_last_bit_whoever_the_other_rows_are(name, count, scale, data):
    encoder = encoder_of(weights_of(MODELS[name], scale), len(MODELS[name].hidden))
    rows = rows_of(count)
    rows[data.draw(st.integers(0, count - 1))] = data.draw(st.sampled_from([1.0, np.inf, np.nan]))
    whole = encoder.places(rows)
    gone = data.draw(st.integers(0, count - 1))
    rest = encoder.places(np.delete(rows, gone, axis=0))
    alone = encoder.places(rows[gone : gone + 1])
    assert np.array_equal(np.delete(whole, gone, axis=0), rest, equal_nan=True)
    assert np.array_equal(whole[gone : gone + 1], alone, equal_nan=True)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e150])
def test_places_lie_within_the_public_bounds_whatever_the_weights(scale):
    found = encoder_of(weights_of(MODELS["deep"], scale), 2).places(rows_of(200))
    assert np.abs(found).max() <= 1


def test_a_row_without_a_place_is_counted_nowhere_and_the_others_are():
    rows = rows_of(3)
    rows[1, 2] = np.nan
    places = encoder_of(weights_of(MODELS["flat"]), 0).places(rows)
    assert nearest(places, np.zeros((1, 3))).tolist() == [0, NOWHERE, 0]


def test_nobody_at_all_has_no_places():
    assert encoder_of(weights_of(MODELS["deep"]), 2).places(rows_of(0)).shape == (0, 2)


def test_many_rows_are_gone_through_in_pieces_that_nobody_sees():
    rows = rows_of(40_000)
    encoder = encoder_of(weights_of(MODELS["flat"]), 0)
    found = encoder.places(rows)
    for place in (0, 16_383, 16_384, 39_999):
        assert np.array_equal(found[place], encoder.places(rows[place : place + 1])[0])


def test_rows_of_another_width_and_weights_of_another_model_are_refused():
    weights = weights_of(MODELS["flat"])
    encoder = encoder_of(weights, 0)
    assert encoder.places(rows_of(2)).shape == (2, 3)
    with pytest.raises(InvalidRecordError) as error:
        encoder.places(rows_of(2)[:, 1:])
    assert error.value.code == "embedding.rows_invalid"
    with pytest.raises(InvalidRecordError) as error:
        encoder_of(weights, 3)
    assert error.value.code == "embedding.weights_invalid"
