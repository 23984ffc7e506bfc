"""A whole run finds the segments, from nothing but what was released."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

from fedcore import segments
from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import (
    BOUND,
    Placement,
    ReleaseTerms,
    clipped_sums,
    nearest,
    noise_for_releases,
    release,
)
from fedcore.segments import course
from fedcore.segments.course import CourseTerms, first_leg, next_leg
from fedcore.segments.merging import Bounds, merged
from fedcore.segments.noised import NoisedSums, combine
from fedcore.segments.placing import (
    DESCRIBING_SHARE,
    RADIUS_SHARE,
    respread,
    settled,
    spread_placement,
    weighted,
    whole_placement,
    within_radius,
)
from simulations.noise import SeededNoise

MIDDLES = [[-0.6, -0.6, 0.0], [0.6, -0.6, 0.3], [0.0, 0.6, -0.3], [0.6, 0.5, 0.5]]


def run(units, terms, noise_multiplier=0.0, key=1):
    """All sums of a run, the last ones around the segments."""
    source, released = SeededNoise(key), ReleaseTerms(noise_multiplier)
    leg, seen = first_leg(units[0].shape[1]), []
    while True:
        sent = [
            release(rows, leg.placement, released, source.stream(str(unit), str(leg.done), "noise"))
            for unit, rows in enumerate(units)
        ]
        seen.append(combine(sent, leg.placement, released))
        if len(seen) == terms.releases:
            return seen
        leg = next_leg(leg, seen[-1], terms)


@pytest.mark.parametrize("bounds", [(4, 4), (2, 8)])
@pytest.mark.parametrize("epsilon", [None, 3.0])
def test_a_run_finds_segments_over_skewed_units_declared_or_not(blobs, bounds, epsilon):
    rows, truth = blobs(MIDDLES, [1500, 1200, 800, 500])
    terms = CourseTerms(Bounds(*bounds), spread=20)
    noise = noise_for_releases(epsilon, 1e-5, terms.releases) if epsilon else 0.0
    # Each segment is at one unit mostly, and one unit has next to nobody.
    units = [rows[:1700], rows[1700:3900], rows[3900:3990], rows[3990:]]
    seen = run(units, terms, noise)
    centres = seen[-1].placement.centres
    assert len(centres) == 4
    gaps = np.linalg.norm(centres[:, None] - np.array(MIDDLES)[None], axis=2)
    assert gaps.min(axis=0).max() < 0.1
    found = nearest(rows, centres)
    agreement = [np.bincount(found[truth == place]).max() for place in range(4)]
    assert sum(agreement) / len(rows) > 0.97
    assert len(seen) == terms.releases


def test_where_a_run_looks_depends_on_noised_sums_only(blobs):
    """Other rows under a noise that makes up for it lead to the very same course, k included."""
    rows, _ = blobs(MIDDLES, [900, 700, 500, 300])
    others, _ = blobs(MIDDLES[:2], [40, 10], width=0.3, name="others")
    terms, released = CourseTerms(Bounds(2, 8), spread=12), ReleaseTerms(1.0)
    here = there = first_leg(3)
    for _ in range(terms.releases - 1):
        seen = release(rows, here.placement, released, SeededNoise(4).stream("a", "b", "c"))
        theirs = clipped_sums(others, there.placement, released).reshape(-1)
        noise = seen - theirs
        here = next_leg(here, combine([seen], here.placement, released), terms)
        there = next_leg(there, combine([theirs + noise], there.placement, released), terms)
        assert np.allclose(here.placement.centres, there.placement.centres, atol=1e-6)
        assert len(here.placement.centres) == len(there.placement.centres)
        here = there


def test_no_module_about_segments_knows_how_to_sum_rows():
    rows = {"clipped_sums", "release", "nearest"}
    files = sorted(Path(inspect.getfile(course)).parent.glob("*.py"))
    assert len(files) > 5
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        taken = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        assert not rows & (named | taken), path
    assert segments.__name__ == "fedcore.segments"
    parameters = list(inspect.signature(next_leg, eval_str=True).parameters.values())
    assert [p.annotation for p in parameters] == [course.Leg, NoisedSums, CourseTerms]


def test_noise_alone_still_gives_a_course_of_full_length():
    terms = CourseTerms(Bounds(3, 3), spread=9)
    seen = run([np.zeros((0, 2))] * 3, terms, noise_multiplier=50.0)
    assert len(seen) == terms.releases
    assert all(np.isfinite(sums.means).all() for sums in seen)


def test_the_searches_and_refinements_are_those_of_the_terms(blobs):
    rows, _ = blobs(MIDDLES, [500] * 4)
    terms = CourseTerms(Bounds(4, 4), spread=10, searches=2, refinements=3)
    counts = [len(sums.counts) for sums in run([rows], terms)]
    assert terms.releases == len(counts) == 7
    assert (counts[:2], counts[3:]) == ([1, 10], [4, 4, 4, 4])


def test_each_leg_follows_from_the_sums_before_it(blobs):
    rows, _ = blobs(MIDDLES, [500] * 4)
    terms = CourseTerms(Bounds(4, 4), spread=10)
    seen = run([rows], terms, noise_multiplier=1.0)
    around = [sums.placement for sums in seen]
    assert around[0].centres.tolist() == whole_placement(3).centres.tolist()
    assert np.array_equal(around[1].centres, spread_placement(seen[0], 10).centres)
    for search in (2, 3):
        assert np.array_equal(around[search].centres, respread(seen[search - 1], 10))
    assert np.array_equal(around[4].centres, merged(weighted(seen[3]), 4).centres)
    for refinement in (5, 6):
        assert np.array_equal(around[refinement].centres, settled(seen[refinement - 1]))
    # The last release looks wider, to clip less of what it describes.
    assert around[5].radius == within_radius(seen[4], RADIUS_SHARE)
    assert around[6].radius == within_radius(seen[5], DESCRIBING_SHARE)


def test_a_course_ends_with_its_last_release(blobs):
    rows, _ = blobs(MIDDLES, [500] * 4)
    terms = CourseTerms(Bounds(4, 4), spread=10)
    last = run([rows], terms)[-1]
    with pytest.raises(InvalidRecordError) as refusal:
        next_leg(course.Leg(terms.releases - 1, last.placement), last, terms)
    assert refusal.value.code == "clustering.course_over"
    one_earlier = next_leg(course.Leg(terms.releases - 2, last.placement), last, terms)
    assert one_earlier.done == terms.releases - 1


def test_centres_on_the_edge_are_merged_within_the_public_bounds():
    """These counts' shares of their sum add up to more than 1, by one unit in the last place."""
    terms, released = CourseTerms(Bounds(1, 1), spread=2), ReleaseTerms(0.0, count_weight=0.5)
    counts = [465.8669713184795, 4815.945401981935]
    blocks = np.array([[0.0, 0.0, count / 2, 0.0, 0.0] for count in counts])
    last = NoisedSums(Placement(-np.ones((2, 2)), 1.0), released, 1, blocks)
    assert last.counts.tolist() == counts
    merging = next_leg(course.Leg(terms.searches, last.placement), last, terms)
    assert merging.placement.centres.tolist() == [[-BOUND, -BOUND]]


def test_no_sums_of_a_lying_unit_end_a_course():
    terms, released = CourseTerms(Bounds(1, 2), spread=8, searches=1), ReleaseTerms(1.0)
    chance = np.random.default_rng(1)
    for _ in range(100):
        leg = first_leg(2)
        for _ in range(terms.releases - 1):
            # Many customers in each block, all of them as far down as blocks can say.
            lies = chance.uniform(100, 5000, (leg.placement.shape[0], 5))
            lies[:, :2] = -1e9
            leg = next_leg(leg, combine([lies.reshape(-1)], leg.placement, released), terms)
        assert leg.done == terms.releases - 1
        assert np.abs(leg.placement.centres).max() <= BOUND


@pytest.mark.parametrize("numbers", [(9,), (1025,), (10, 0), (10, 1, 0)])
def test_impossible_terms_are_refused(numbers):
    with pytest.raises(InvalidRecordError) as refusal:
        CourseTerms(Bounds(3, 9), *numbers)
    assert refusal.value.code == "clustering.terms_invalid"
    assert CourseTerms(Bounds(3, 9), 10, 1, 1).releases == 4
