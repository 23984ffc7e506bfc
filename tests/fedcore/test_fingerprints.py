"""The words that two people compare: few, easy, and other ones as soon as anything else changes."""

import hashlib
import itertools
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore import fingerprints
from fedcore.errors import MismatchError
from fedcore.fingerprints import WORDS, verify_words, words_of
from fedcore.permits import Enrolment
from fedcore.record import Realm

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TRANSPORT = (
    "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBHhYXJbEBHSCu1Iz+iAY5"
    "UvC67ZolfaXvkqnqXAMQo0EGrGXV5iX9c25opjywRVCLYoQ90ELhx8xnUDvLzJHZiQ+4ovWzpexA57mU66KpiUrUlclYhpC"
    "lMoPB4K580mz0Q=="
)


def key(name):
    """Return what could be a public key; the words do not ask."""
    return hashlib.sha256(name.encode()).hexdigest()


GOVERNANCE = key("governance")


def enrolment(**changes):
    values = {
        "unit": "north",
        "legal_entity": "North Ltd",
        "node_key": key("north"),
        "size_band": 1024,
        "subject_namespace": "crm",
        "requested_at": START,
        "transport_key": TRANSPORT,
    }
    return Enrolment(**{**values, **changes})


def distance(left, right):
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[:], i
        for j, b in enumerate(right, 1):
            row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b))
    return row[-1]


def test_each_byte_has_a_word_of_its_own_that_is_easy_to_tell_from_the_others():
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(re.fullmatch("[a-z]{4,9}", word) for word in WORDS)
    assert len({word[:4] for word in WORDS}) == 256
    assert min(distance(*pair) for pair in itertools.combinations(WORDS, 2)) >= 2


def test_the_words_of_a_request_never_change():
    """A unit and governance with other versions of the software must see the same ones."""
    shown = words_of(enrolment(), GOVERNANCE, Realm.PRODUCTION)
    assert shown == "sandwich eagle eagle artist recipe crayon cradle galaxy"
    assert fingerprints.COUNT == len(shown.split()) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "south"},
        {"node_key": key("stranger")},
        {"transport_key": None},
    ],
)
def test_another_unit_or_key_has_other_words(change):
    shown = words_of(enrolment(), GOVERNANCE, Realm.PRODUCTION)
    assert words_of(enrolment(**change), GOVERNANCE, Realm.PRODUCTION) != shown


def test_another_governance_or_realm_has_other_words():
    shown = words_of(enrolment(), GOVERNANCE, Realm.PRODUCTION)
    assert words_of(enrolment(), key("stranger"), Realm.PRODUCTION) != shown
    assert words_of(enrolment(), GOVERNANCE, Realm.SIMULATION) != shown


def test_the_words_hide_nothing_that_the_signature_does_not_protect_already():
    """The rest of a request is signed by the node key, which the words stand for."""
    shown = words_of(enrolment(), GOVERNANCE, Realm.PRODUCTION)
    assert words_of(enrolment(legal_entity="N"), GOVERNANCE, Realm.PRODUCTION) == shown


@given(number=st.integers(0, 2**32))
@settings(max_examples=10)
def test_each_key_has_other_words(number):
    other = enrolment(node_key=key(f"key {number}"))
    assert words_of(other, GOVERNANCE, Realm.PRODUCTION) != words_of(
        enrolment(), GOVERNANCE, Realm.PRODUCTION
    )


def test_words_are_taken_as_people_type_them():
    verify_words(" Acorn, TIGER-lemon\tsalad ", "acorn tiger lemon salad")


@pytest.mark.parametrize(
    "typed", ["", "acorn", "acorn lemon salad", "lemon acorn", "acorn lemonn", "acornlemon"]
)
def test_other_words_are_refused_and_the_right_ones_are_not_told(typed):
    verify_words("acorn lemon", "acorn lemon")
    with pytest.raises(MismatchError) as caught:
        verify_words(typed, "acorn lemon")
    assert caught.value.code == "enrolment.words_differ"
    assert "acorn" not in str(caught.value) + caught.value.detail
