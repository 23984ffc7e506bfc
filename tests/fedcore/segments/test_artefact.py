"""The bytes of a segmentation version hold all that is told of it, and nothing else is read."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fedcore import canonical
from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import Placement, ReleaseTerms
from fedcore.segments.artefact import MAX_BYTES, SegmentModel, decode_model, encode_model
from fedcore.segments.noised import NoisedSums


def a_model(count=2, features=3, ids=(4, 1), newest=5, units=3, seed=1):
    chance = np.random.default_rng(seed)
    placement = Placement(chance.uniform(-1, 1, (count, features)), 0.7)
    blocks = chance.normal(0, 50, (count, 2 * features + 1))
    return SegmentModel(NoisedSums(placement, ReleaseTerms(2.5), units, blocks), ids, newest)


SOUND = encode_model(a_model())


def changed(**tensors):
    """Return the sound model's bytes with other tensors; None takes one away."""
    found = {**load(SOUND), **tensors}
    return save({name: found[name] for name in sorted(found) if found[name] is not None})


def refusal(data):
    with pytest.raises(InvalidRecordError) as error:
        decode_model(data)
    return error.value


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000))
def test_a_model_survives_its_bytes_to_the_last_bit(count, features, seed):
    ids = tuple(range(7, 7 + count))
    model = a_model(count, features, ids, 20, seed=seed)
    found = decode_model(encode_model(model))
    assert (found.ids, found.newest, found.last.units) == (model.ids, model.newest, 3)
    assert found.last.terms == model.last.terms
    assert found.last.blocks.tobytes() == model.last.blocks.tobytes()
    assert found.last.placement.centres.tobytes() == model.last.placement.centres.tobytes()
    assert found.last.placement.radius == model.last.placement.radius
    assert encode_model(found) == encode_model(model)


@settings(max_examples=300)
@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_another_model(place, change):
    data = bytearray(SOUND)
    data[place] ^= change
    try:
        found = decode_model(bytes(data))
    except InvalidRecordError:
        return
    assert encode_model(found) == bytes(data)
    assert canonical.digest(bytes(data)) != canonical.digest(SOUND)


@pytest.mark.parametrize("name", sorted(load(SOUND)))
def test_a_tensor_that_is_missing_or_of_another_type_or_shape_is_named(name):
    tensor = load(SOUND)[name]
    decode_model(changed(**{name: tensor}))
    other = np.float32 if tensor.dtype == np.float64 else np.float64
    wrong = [None, tensor.astype(other), tensor[None], np.concatenate([tensor, tensor])]
    if name == "centres":
        # More centres are sound in themselves: the sums are then too few for them.
        wrong = wrong[:3]
    for value in wrong:
        found = refusal(changed(**{name: value}))
        assert (found.code, f"tensor {name}:" in found.public) == ("segments.model_invalid", True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", sorted(name for name, one in load(SOUND).items() if one.dtype == np.float64)
)
def test_a_number_that_is_not_finite_is_refused_by_its_tensors_name(name, value):
    tensor = load(SOUND)[name].copy()
    tensor.flat[0] = value
    found = refusal(changed(**{name: tensor}))
    assert found.public == f"tensor {name}: has a number that is not finite"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("centres", np.full((2, 3), 1.5)),
        ("centres", np.zeros((0, 3))),
        ("centres", np.zeros((2, 0))),
        ("radius", np.array([0.0])),
        ("radius", np.array([9.0])),
        ("noise_multiplier", np.array([-1.0])),
        ("count_weight", np.array([0.0])),
        ("square_weight", np.array([11.0])),
        ("units", np.array([0])),
        ("units", np.array([2**40])),
        ("ids", np.array([1, 1])),
        ("ids", np.array([0, 1])),
        ("ids", np.array([6, 1])),
        ("newest_id", np.array([3])),
        ("newest_id", np.array([2**53])),
        ("offset_sums", np.full((2, 3), 1e16)),
        ("weighted_counts", np.full(2, -1e16)),
        ("weighted_squares", np.full((2, 3), 1e300)),
    ],
)
def test_a_number_outside_its_range_is_refused_and_its_tensor_named(name, value):
    found = refusal(changed(**{name: value}))
    named = "newest_id" if list(value.flat) == [6, 1] else name
    assert found.code == "segments.model_invalid"
    assert named in found.public.split(":")[0]


def test_an_unknown_tensor_is_named_without_its_control_characters():
    found = refusal(changed(**{"rows\x1b[2J" + "x" * 500: np.zeros(3)}))
    assert found.code == "segments.model_invalid"
    assert found.public.startswith("tensor 'rows\\x1b[2J")
    assert found.public.isprintable()
    assert len(found.public) < 150


def test_a_model_above_10_mb_is_neither_read_nor_written():
    assert refusal(SOUND + bytes(MAX_BYTES)).code == "segments.model_too_large"
    large = a_model(1024, 450, tuple(range(1, 1025)), 1024)
    with pytest.raises(InvalidRecordError, match="at most"):
        encode_model(large)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pickle.dumps({"centres": 1}),
        b"PK\x03\x04" + bytes(100),
        (2**63).to_bytes(8, "little") + b"{}",
        SOUND[:-1],
        SOUND + b"\x00",
    ],
    ids=["empty", "pickle", "zip", "header", "short", "long"],
)
def test_anything_but_safetensors_is_refused(data):
    assert refusal(data).code == "segments.model_unreadable"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: json.dumps(header, separators=(",", ":")) + " " * 8,
        lambda header: json.dumps({"__metadata__": {"note": "x"}, **header}, separators=(",", ":")),
    ],
    ids=["padding", "metadata"],
)
def test_one_model_has_one_encoding(change):
    length = int.from_bytes(SOUND[:8], "little")
    text = change(json.loads(SOUND[8 : 8 + length])).encode()
    found = refusal(len(text).to_bytes(8, "little") + text + SOUND[8 + length :])
    assert found.code == "segments.model_unreadable"


@pytest.mark.parametrize(
    ("ids", "newest", "named"),
    [((1,), 5, "ids"), ((2, 2), 5, "ids"), ((0, 1), 5, "ids"), ((4, 1), 3, "newest_id")],
)
def test_a_model_is_not_made_with_other_ids(ids, newest, named):
    with pytest.raises(InvalidRecordError, match=f"tensor {named}:"):
        a_model(ids=ids, newest=newest)
