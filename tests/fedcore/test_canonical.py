import contextlib
import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore import canonical
from fedcore.errors import InvalidRecordError

LARGEST = 2**53 - 1
NUMBERS = b"[1e+30,4.5,0.002,1e-27,333333333.3333333]"
# RFC 8785 writes floats from 2**53 to 1e21 like integers, which the decoder refuses.
readable = st.floats(-LARGEST, LARGEST) | st.floats(1e21, 1e300) | st.floats(-1e300, -1e21)
numbers = st.integers(-LARGEST, LARGEST) | readable
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def code_of(data):
    with pytest.raises(InvalidRecordError) as caught:
        canonical.decode(data)
    return caught.value.code


@given(values)
def test_decoding_returns_what_was_encoded(value):
    assert canonical.decode(canonical.encode(value)) == value


@given(values)
def test_any_json_reader_reads_the_same_value(value):
    assert json.loads(canonical.encode(value)) == value


@given(st.dictionaries(st.text(max_size=5), st.integers(-9, 9), max_size=6), st.randoms())
def test_order_of_keys_does_not_change_the_bytes(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert canonical.encode({key: value[key] for key in keys}) == canonical.encode(value)


@given(values)
def test_any_other_white_space_is_refused(value):
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if data != canonical.encode(value):
        assert code_of(data).startswith("record.")
    assert code_of(b" " + canonical.encode(value)) == "record.not_canonical"
    assert code_of(canonical.encode(value) + b"\n") == "record.not_canonical"


@given(st.binary(max_size=60))
def test_no_bytes_make_the_decoder_fail_otherwise(data):
    with contextlib.suppress(InvalidRecordError):
        assert canonical.encode(canonical.decode(data)) == data


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        ({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5}, None),
        (
            [1e30, 4.5, 2e-3, 1e-27, 333333333.33333329],
            b"[1e+30,4.5,0.002,1e-27,333333333.3333333]",
        ),
        (1.0, b"1"),
        (-0.0, b"0"),
        ('\u0007"\\/', b'"\\u0007\\"\\\\/"'),
    ],
    ids=range(6),
)
def test_examples_of_rfc_8785(value, data):
    expected = data or '{"\\r":2,"1":4,"€":1,"😀":5,"\ufb33":3}'.encode()
    assert canonical.encode(value) == expected


def test_a_key_named_twice_is_refused():
    assert code_of(b'{"a":1,"a":1}') == "record.duplicate_key"
    assert code_of(b'{"b":{"a":1,"a":2}}') == "record.duplicate_key"
    assert canonical.decode(b'{"a":1,"b":{"a":1}}') == {"a": 1, "b": {"a": 1}}


@pytest.mark.parametrize("data", [b"NaN", b"Infinity", b"-Infinity", b"", b"{", b"\xff", b"'a'"])
def test_what_is_not_json_is_refused(data):
    assert code_of(data) == "record.not_json"


@pytest.mark.parametrize(
    "data",
    [b"1.0", b"1e1", b'{"b":1,"a":1}', b'"\\u0061"', b"-0", b"1E400"],
)
def test_other_forms_of_a_value_are_refused(data):
    assert code_of(data) in {"record.not_canonical", "record.not_json"}


def test_deep_nesting_is_refused_and_not_a_crash():
    assert code_of(b"[" * 100_000 + b"]" * 100_000) == "record.not_json"


def test_integers_of_2_to_the_53_are_refused_both_ways():
    for value in (LARGEST, -LARGEST):
        assert canonical.decode(canonical.encode(value)) == value
    for value in (2**53, -(2**53), 10**400):
        with pytest.raises(InvalidRecordError):
            canonical.encode(value)
        assert code_of(str(value).encode()) == "record.not_json"


@pytest.mark.parametrize("long", [2.0**53, -(2.0**60), 1e20])
@pytest.mark.parametrize(
    "around", [lambda x: x, lambda x: [x], lambda x: [0, x, 0], lambda x: {"a": x, "b": 0}]
)
def test_a_float_that_reads_as_a_long_integer_is_refused_wherever_it_stands(long, around):
    with pytest.raises(InvalidRecordError):
        canonical.encode(around(long))
    assert canonical.decode(canonical.encode(around(LARGEST * 1.0))) == around(LARGEST)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1: 2}, object(), "\ud800"])
def test_values_without_a_canonical_form_are_refused(value):
    with pytest.raises(InvalidRecordError) as caught:
        canonical.encode(value)
    assert caught.value.code == "record.not_canonical"


def test_a_document_above_the_limit_is_refused_unread():
    assert canonical.decode(b"[1]", max_bytes=3) == [1]
    with pytest.raises(InvalidRecordError) as caught:
        canonical.decode(b"[12]", max_bytes=3)
    assert caught.value.code == "record.too_large"
    assert code_of(b" " * (canonical.MAX_DOCUMENT_BYTES + 1)) == "record.too_large"


def test_digests_are_sha256_of_the_canonical_bytes():
    expected = "sha256:" + hashlib.sha256(b'{"a":1}').hexdigest()
    assert canonical.digest(b'{"a":1}') == canonical.digest_of({"a": 1}) == expected


def test_a_value_that_is_nested_too_deep_has_no_canonical_form():
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(InvalidRecordError) as caught:
        canonical.encode(nested)
    assert caught.value.code == "record.not_canonical"
    assert canonical.encode([[[]]]) == b"[[[]]]"
