import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from fedcore.errors import InvalidRecordError
from fedcore.weights import decode_weights, encode_weights

SHAPES = {"0.bias": (2,), "0.weight": (2, 3)}
SOUND = {"0.weight": np.arange(6.0).reshape(2, 3) - 3, "0.bias": np.array([0.5, -0.0])}


def refusal(data, shapes=SHAPES, max_abs=1e3):
    with pytest.raises(InvalidRecordError) as error:
        decode_weights(data, shapes, max_abs)
    return error.value.code


def with_entry(value):
    return {**SOUND, "0.bias": np.array([0.5, value])}


@given(
    arrays(np.float64, (2, 3), elements=st.floats(-1e3, 1e3)),
    arrays(np.float64, 2, elements=st.floats(-1e3, 1e3)),
)
def test_weights_survive_their_bytes_to_the_last_bit(weight, bias):
    weights = {"0.weight": weight, "0.bias": bias}
    decoded = decode_weights(encode_weights(weights), SHAPES, 1e3)
    assert set(decoded) == set(weights)
    assert all(decoded[name].tobytes() == weights[name].tobytes() for name in weights)
    assert encode_weights(decoded) == encode_weights(weights)


def test_the_encoding_depends_neither_on_order_nor_on_memory_layout():
    other = {
        "0.bias": SOUND["0.bias"],
        "0.weight": np.asfortranarray(SOUND["0.weight"]),
    }
    strided = {**SOUND, "0.weight": np.repeat(SOUND["0.weight"], 2, axis=1)[:, ::2]}
    assert encode_weights(other) == encode_weights(SOUND) == encode_weights(strided)


@pytest.mark.parametrize(
    "weights",
    [
        {"0.weight": SOUND["0.weight"]},
        {**SOUND, "1.bias": np.zeros(1)},
        {"0.weight": SOUND["0.weight"], "0.biaS": SOUND["0.bias"]},
        {**SOUND, "0.weight": SOUND["0.weight"].T},
        {**SOUND, "0.weight": SOUND["0.weight"].ravel()},
        {**SOUND, "0.bias": SOUND["0.bias"].astype(np.float32)},
        {**SOUND, "0.bias": SOUND["0.bias"].astype(np.int64)},
        {},
    ],
    ids=["missing", "more", "renamed", "transposed", "flat", "float32", "int64", "none"],
)
def test_other_names_shapes_or_types_are_refused(weights):
    decode_weights(encode_weights(SOUND), SHAPES, 1e3)
    assert refusal(save(weights)) == "weights.wrong_shape"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_are_refused(value):
    assert refusal(encode_weights(with_entry(value))) == "weights.not_finite"


@pytest.mark.parametrize("value", [np.nextafter(7.0, 8.0), -np.nextafter(7.0, 8.0), 1e38, -1.7e308])
def test_entries_beyond_the_bound_are_refused_and_those_on_it_are_not(value):
    assert refusal(encode_weights(with_entry(value)), max_abs=7.0) == "weights.out_of_bounds"
    for bound in (7.0, -7.0):
        decode_weights(encode_weights(with_entry(bound)), SHAPES, 7.0)


def test_a_model_of_another_size_is_refused_before_it_is_parsed():
    too_large = encode_weights(SOUND) + b"\x00" * 70_000
    assert refusal(too_large) == "weights.too_large"
    assert refusal(pickle.dumps(b"\x00" * 70_000)) == "weights.too_large"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",
        pickle.dumps(SOUND),
        b"PK\x03\x04" + bytes(100),
        b"\xff" * 100,
        (2**63).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b'{"a": not json at all',
        encode_weights(SOUND)[:-1],
        encode_weights(SOUND) + b"\x00",
    ],
    ids=["empty", "opcodes", "pickle", "zip", "noise", "header", "json", "short", "long"],
)
def test_anything_but_safetensors_is_refused(data):
    assert refusal(data) == "weights.unreadable"


def rewritten(change):
    """Return the sound model with another header over the same numbers."""
    data = encode_weights(SOUND)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = change(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: json.dumps(header, separators=(",", ":")) + " " * 8,
        json.dumps,
        lambda header: json.dumps(dict(reversed(header.items())), separators=(",", ":")),
        lambda header: json.dumps({"__metadata__": {"note": "x"}, **header}, separators=(",", ":")),
    ],
    ids=["padding", "spaces", "order", "metadata"],
)
def test_one_model_has_one_encoding(change):
    found = rewritten(change)
    assert found != encode_weights(SOUND)
    assert refusal(found) == "weights.unreadable"


@hypothesis_settings(max_examples=300)
@given(st.integers(0, len(encode_weights(SOUND)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_another_model(place, change):
    data = bytearray(encode_weights(SOUND))
    data[place] ^= change
    try:
        found = decode_weights(bytes(data), SHAPES, 1e3)
    except InvalidRecordError:
        return
    assert encode_weights(found) == bytes(data)
    assert all(np.isfinite(value).all() for value in found.values())
