"""What a round makes of the units' updates: by the plan's algorithm, or a leg on its course.

A clustering's state is kept as that of an algorithm: its model is the placement of the next
release, and after the last one its sums stand where else the models are that a release averages.

Guarantees: functions of session, state and updates, which are noised already; whoever has these
    finds every placement again.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedcore.clusterings import CourseSpec
from fedcore.privacy.clustering import ReleaseTerms
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.course import Leg, next_leg
from fedcore.segments.identities import identify
from fedcore.segments.noised import NoisedSums, combine
from fedcore.segments.placements import SUMS, placement_of, weights_of
from fedcore.tasks.task import update_shapes
from fedcore.weights import Weights, decode_weights, encode_weights
from fedserver import strategy
from fedserver.session import Session
from fedserver.strategy import Aggregate

# The largest entry of an update: no sum of a thousand units' overflows.
MAX_STEP = 1e300
# Of a release, which tells of customers: a unit has fewer, and squares of sums do not overflow.
MAX_SUM = 1e12
_UNITS = "units"
# How far a segment may be from where it was; none was anywhere before the first version.
_NOWHERE_BEFORE = 1.0


def read_update(session: Session, model: Weights, data: bytes) -> Weights:
    """Return a unit's update in a round that began with this model.

    Raises: InvalidRecordError as `decode_weights`.
    """
    most = MAX_STEP if session.plan.model.course is None else MAX_SUM
    return decode_weights(data, update_shapes(session.plan, model), most)


def after_round(
    session: Session, state: Aggregate, round_: int, updates: Mapping[str, Weights]
) -> Aggregate:
    """Return the state after a round that enough units have answered."""
    course = session.plan.model.course
    if course is None:
        return strategy.apply_round(state, session.plan, round_, updates)
    placement, terms = placement_of(state.model), _terms(session, course)
    sums = combine([update[SUMS] for update in updates.values()], placement, terms)
    if round_ < session.plan.rounds:
        leg = next_leg(Leg(round_ - 1, placement), sums, course.terms)
        return replace(state, model=weights_of(leg.placement))
    units = np.array([float(sums.units)])
    return replace(state, late_sum={SUMS: sums.blocks, _UNITS: units})


def released(session: Session, state: Aggregate, round_: int) -> bytes:
    """Return the bytes of the model that a run hands over after this round, its last one."""
    course = session.plan.model.course
    if course is None:
        return encode_weights(strategy.release(state, session.plan, round_))
    return encode_model(_segments(session, course, state))


def _terms(session: Session, course: CourseSpec) -> ReleaseTerms:
    return course.release_terms(session.plan.privacy.noise_multiplier)


def _segments(session: Session, course: CourseSpec, state: Aggregate) -> SegmentModel:
    placement, known = placement_of(state.model), session.known
    units = int(state.late_sum[_UNITS][0])
    last = NoisedSums(placement, _terms(session, course), units, state.late_sum[SUMS])
    places = known.last.placement.centres if known else ()
    found = identify(
        placement.centres,
        dict(zip(known.ids if known else (), places, strict=True)),
        course.continues.farthest if course.continues else _NOWHERE_BEFORE,
        known.newest if known else 0,
    )
    return SegmentModel(last, found.ids, found.newest)
