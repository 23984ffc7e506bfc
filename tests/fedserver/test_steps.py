"""A round of releases on the server: what is let through, where it leads, and what it ends in."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedcore.clusterings import Continuation, CourseSpec, SegmentCount
from fedcore.errors import InvalidRecordError
from fedcore.plans import ModelSpec, PrivacyTerms
from fedcore.privacy.clustering import release
from fedcore.segments.artefact import decode_model
from fedcore.segments.placements import SUMS, placement_of
from fedcore.tasks.task import decode_model as decode_round
from fedcore.tasks.task import first_model
from fedcore.weights import encode_weights
from fedserver import strategy
from fedserver.steps import MAX_SUM, after_round, read_update, released
from simulations.noise import SeededNoise

COURSE = CourseSpec(segments=SegmentCount(least=3, most=3), spread=8, searches=2, refinements=1)
MIDDLES = np.array([[-0.6, 0.4], [0.5, 0.5], [0.3, -0.6]])
KNOWN = Continuation(artifact="sha256:" + "0" * 64, farthest=0.4)


@pytest.fixture
def plan(plan):
    """The plan of these tests' permit, of centres instead."""
    terms = PrivacyTerms(l2_clip_norm=COURSE.l2_sensitivity, noise_multiplier=3.0, delta=1e-5)
    changes = {
        "task": "segmentation",
        "model": ModelSpec(kind="centres", course=COURSE),
        "algorithm": None,
        "rounds": COURSE.terms.releases,
        "privacy": terms,
    }
    return plan.model_copy(update=changes)


def session_of(plan, known=None) -> Any:
    return SimpleNamespace(plan=plan, known=known)


def begun(plan):
    return strategy.start(first_model("segmentation", plan.model, 2))


def updates_of(plan, state, round_, middles=MIDDLES):
    """Return the releases of two units whose customers are around the middles."""
    sent = {}
    for seed, unit in enumerate(("north", "south")):
        draw = np.random.default_rng(seed)
        rows = middles[draw.integers(0, len(middles), 900)] + draw.normal(0, 0.08, (900, 2))
        noise = SeededNoise(1).stream(unit, str(round_), "noise")
        sums = release(rows, placement_of(state.model), plan.release_terms, noise)
        sent[unit] = {SUMS: sums}
    return sent


def run(plan, known=None, middles=MIDDLES):
    """Return the segments that a whole run ends in."""
    session, state = session_of(plan, known), begun(plan)
    for round_ in range(1, plan.rounds + 1):
        state = after_round(session, state, round_, updates_of(plan, state, round_, middles))
        assert decode_round(plan, 2, encode_weights(state.model))
    return decode_model(released(session, state, session.plan.rounds))


def test_a_run_ends_in_the_last_placement_its_sums_and_ids_from_one_on(plan):
    found = run(plan)
    assert (sorted(found.ids), found.newest) == ([1, 2, 3], 3)
    assert (found.last.units, found.last.terms) == (2, plan.release_terms)
    assert found.last.counts.sum() == pytest.approx(1800, abs=5 * 3 * found.last.count_scale)
    nearest = [np.linalg.norm(found.last.means - middle, axis=1).min() for middle in MIDDLES]
    assert max(nearest) < 0.1


def test_ids_are_those_of_the_version_that_the_plan_continues_as_far_as_it_says(plan):
    course = COURSE.model_copy(update={"continues": KNOWN})
    following = plan.model_copy(update={"model": ModelSpec(kind="centres", course=course)})
    first = run(plan)
    moved = np.array([[-0.55, 0.45], [0.5, -0.5 + 1e-3], [0.9, 0.9]])
    second = run(following, known=first, middles=moved)
    places = first.last.placement.centres

    def id_near(model, middle):
        gaps = np.linalg.norm(model.last.placement.centres - middle, axis=1)
        return model.ids[int(gaps.argmin())]

    assert len(places) == 3
    assert id_near(second, moved[0]) == id_near(first, MIDDLES[0])
    assert id_near(second, moved[1]) == id_near(first, MIDDLES[2])
    assert id_near(second, moved[2]) == 4
    assert second.newest == 4


def test_what_a_round_makes_of_answers_does_not_depend_on_their_order(plan):
    session, state = session_of(plan), begun(plan)
    sent = updates_of(plan, state, 1)
    forth = after_round(session, state, 1, sent)
    back = after_round(session, state, 1, dict(reversed(sent.items())))
    assert encode_weights(forth.model) == encode_weights(back.model)


@pytest.mark.parametrize("value", [MAX_SUM * 1.001, -MAX_SUM * 1.001, np.nan, np.inf])
def test_a_release_beyond_any_unit_does_not_count_and_its_twin_does(plan, value):
    session, model = session_of(plan), begun(plan).model
    sums = np.zeros(5)
    sums[2] = value
    with pytest.raises(InvalidRecordError, match="entries"):
        read_update(session, model, encode_weights({SUMS: sums}))
    sums[2] = MAX_SUM
    assert read_update(session, model, encode_weights({SUMS: sums}))[SUMS][2] == MAX_SUM


@pytest.mark.parametrize("other", [{"sums": np.zeros(6)}, {"weights": np.zeros(5)}, {}])
def test_a_release_of_another_shape_does_not_count(plan, other):
    with pytest.raises(InvalidRecordError):
        read_update(session_of(plan), begun(plan).model, encode_weights(other))


@pytest.mark.parametrize("worst", [MAX_SUM, -MAX_SUM])
def test_a_unit_that_lies_cannot_make_the_next_placement_one_that_nodes_refuse(plan, worst):
    session, state = session_of(plan), begun(plan)
    for round_ in range(1, plan.rounds + 1):
        sent = updates_of(plan, state, round_)
        draw = np.random.default_rng(round_)
        signs = draw.choice([-1.0, 1.0], len(sent["north"][SUMS]))
        sent["north"] = {SUMS: worst * signs}
        state = after_round(session, state, round_, sent)
        assert decode_round(plan, 2, encode_weights(state.model))
    assert decode_model(released(session, state, session.plan.rounds)).last.units == 2
