"""A segment keeps its id while its centre stays near, in whatever order centres come."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.errors import InvalidRecordError
from fedcore.segments.identities import identify

FAR = 0.5


def apart(count, key):
    """Centres of which any two are at least 0.6 apart."""
    corners = np.array(list(itertools.product((-0.6, 0.0, 0.6), repeat=3)))
    return np.random.default_rng(key).permutation(corners)[:count]


def known_of(centres, identities):
    return dict(zip(identities.ids, centres, strict=True))


def test_the_first_version_is_numbered_from_one():
    found = identify(apart(4, 1), {}, FAR)
    assert sorted(found.ids) == [1, 2, 3, 4]
    assert (found.added, found.retired, found.newest) == ((1, 2, 3, 4), (), 4)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(0, 10**6), st.data())
def test_ids_follow_centres_through_permutation_and_small_drift(count, key, data):
    before = apart(count, key)
    known = known_of(before, identify(before, {}, FAR))
    order = np.array(data.draw(st.permutations(range(count))))
    drifted = before + np.random.default_rng(key + 1).uniform(-0.1, 0.1, before.shape)
    found = identify(drifted[order], known, FAR, newest=max(known))
    again = dict(zip(found.ids, order, strict=True))
    assert all(np.array_equal(known[one], before[place]) for one, place in again.items())
    assert (found.added, found.retired) == ((), ())


@settings(max_examples=60)
@given(st.integers(0, 5), st.integers(0, 6), st.integers(0, 10**6), st.data())
def test_ids_of_new_segments_do_not_depend_on_the_order_either(old, fresh, key, data):
    chance = np.random.default_rng(key)
    known = {one + 1: chance.uniform(-1, 1, 3) for one in range(old)}
    centres = chance.uniform(-1, 1, (fresh, 3))
    order = np.array(data.draw(st.permutations(range(fresh))), dtype=int)
    one = identify(centres, known, FAR, newest=40)
    other = identify(centres[order], known, FAR, newest=40)
    assert [one.ids[place] for place in order] == list(other.ids)
    assert len(set(one.ids)) == fresh
    assert set(one.added) == {number for number in one.ids if number not in known}
    assert set(one.retired) == set(known) - set(one.ids)
    assert one.newest == 40 + len(one.added)
    for number, centre in zip(one.ids, centres, strict=True):
        assert number > 40 or np.linalg.norm(known[number] - centre) <= FAR


@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_no_other_assignment_is_nearer(old, fresh, key):
    chance = np.random.default_rng(key)
    known = {one + 1: chance.uniform(-0.5, 0.5, 2) for one in range(old)}
    centres = chance.uniform(-0.5, 0.5, (fresh, 2))

    def cost(ids):
        gaps = [
            np.square(centres[place] - known[one]).sum() if one in known else FAR**2
            for place, one in enumerate(ids)
        ]
        return sum(gap if gap <= FAR**2 else np.inf for gap in gaps)

    choices = itertools.product([0, *known], repeat=fresh)
    possible = [ids for ids in choices if len({i for i in ids if i}) == sum(i > 0 for i in ids)]
    found = identify(centres, known, FAR)
    assert cost(found.ids) == pytest.approx(min(cost(ids) for ids in possible))


def test_greed_would_give_the_wrong_ids():
    known = {1: np.array([0.0, 0.0]), 2: np.array([0.4, 0.0])}
    # The first new centre is nearest to 2, and 2 is all that the second can be.
    found = identify(np.array([[0.25, 0.0], [0.7, 0.0]]), known, FAR)
    assert found.ids == (1, 2)


def test_a_segment_that_went_away_never_lends_its_id_to_another():
    before = np.array([[-0.8, 0.0], [0.8, 0.0]])
    first = identify(before, {}, FAR)
    gone = identify(before[:1], known_of(before, first), FAR, first.newest)
    assert (gone.retired, gone.newest) == ((first.ids[1],), 2)
    back = identify(before, known_of(before[:1], gone), FAR, gone.newest)
    assert back.ids == (first.ids[0], 3)
    assert back.added == (3,)


@pytest.mark.parametrize(
    ("known", "farthest"),
    [
        ({0: np.zeros(2)}, 0.5),
        ({1: np.zeros(3)}, 0.5),
        ({1: np.zeros(2)}, 0.0),
        ({1: np.zeros(2)}, float("nan")),
    ],
)
def test_what_cannot_be_compared_is_refused(known, farthest):
    with pytest.raises(InvalidRecordError) as refusal:
        identify(np.zeros((1, 2)), known, farthest)
    assert refusal.value.code == "segments.identities_invalid"
    assert identify(np.zeros((1, 2)), {1: np.zeros(2)}, 0.5).ids == (1,)
