"""What is told of a segmentation version, read from what is stored: artifacts, plans, contract."""

from dataclasses import dataclass

from fedcore.contracts import Contract
from fedcore.models import ModelVersion
from fedcore.plans import TrainingPlan
from fedcore.segment_facts import read_segments, tell_segments, tell_shares
from fedcore.segments.artefact import SegmentModel
from governance.decisions.segment_card import SegmentStory
from governance.office import Desk
from governance.plans import open_plan
from registry import models

# How many earlier versions shares are told of.
EARLIER = 4


@dataclass(frozen=True)
class _Version:
    number: int
    found: SegmentModel
    plan: TrainingPlan


def load_story(
    desk: Desk, model: ModelVersion, plan: TrainingPlan, contract: Contract
) -> SegmentStory:
    """Return what is told of a version's segments, and of their shares over the versions before.

    Guarantees: of the versions before it those are told that it continues, from one to the next, as
        long as they are of the same model under the same contract. (That their inputs and embedding
        are the same, the gate has seen to: only then do their ids mean the same.)
    Raises: InvalidRecordError and MismatchError as `tell_segments`.
    """
    artifact = models.load_artifact(desk.session, model.artifact)
    line = [_Version(model.version, read_segments(artifact, plan, contract), plan)]
    while len(line) <= EARLIER and (before := _continued(desk, line[-1], model, contract)):
        line.append(before)
    units = [_cohort(one) for one in line[:2]]
    return SegmentStory(
        facts=tell_segments(artifact, plan, contract),
        history=tell_shares([(one.number, one.found) for one in reversed(line)]),
        cohort_changed=units[0] != units[-1],
    )


def _cohort(one: _Version) -> tuple[frozenset[str], int]:
    """Return who may have trained a version, and how many of them answered its last release."""
    return frozenset(terms.unit for terms in one.plan.units), one.found.last.units


def _continued(desk: Desk, one: _Version, of: ModelVersion, contract: Contract) -> _Version | None:
    """Return the version of the same model that this one continues, if they can be compared."""
    course = one.plan.model.course
    if course is None or course.continues is None:
        return None
    artifact = course.continues.artifact
    for stored in models.list_of_artifacts(desk.session, [artifact]):
        if stored.name != of.name or stored.version >= one.number:
            continue
        model = desk.open_own(ModelVersion, stored.document)
        if model.contract == of.contract:
            plan, _ = open_plan(desk, model.plan)
            found = read_segments(models.load_artifact(desk.session, artifact), plan, contract)
            return _Version(stored.version, found, plan)
    return None
