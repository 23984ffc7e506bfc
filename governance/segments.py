"""What is told of a segmentation version, read from what is stored: artifacts, plans, contract."""

from fedcore.contracts import Contract
from fedcore.errors import InvalidRecordError, MismatchError
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


def load_story(
    desk: Desk, model: ModelVersion, plan: TrainingPlan, contract: Contract
) -> SegmentStory:
    """Return what is told of a version's segments, and of their shares over the versions before.

    Guarantees: of the versions before it those are told that have the same inputs under the same
        contract: others' segments are not the same ones.
    Raises: InvalidRecordError and MismatchError as `tell_segments`.
    """
    artifact = models.load_artifact(desk.session, model.artifact)
    known = [(model.version, read_segments(artifact, plan, contract), plan)]
    for stored in models.list_before(desk.session, model.name, model.version, EARLIER):
        earlier = _comparable(desk, stored.document, plan, contract)
        if earlier is not None:
            known.append((stored.version, *earlier))
    known.reverse()
    units = [{terms.unit for terms in found.units} for _, _, found in known[-2:]]
    return SegmentStory(
        facts=tell_segments(artifact, plan, contract),
        history=tell_shares([(number, found) for number, found, _ in known]),
        cohort_changed=units[0] != units[-1],
    )


def _comparable(
    desk: Desk, document: str, plan: TrainingPlan, contract: Contract
) -> tuple[SegmentModel, TrainingPlan] | None:
    model = desk.open_own(ModelVersion, document)
    if (model.task, model.contract) != (plan.task, contract.digest):
        return None
    other, _ = open_plan(desk, model.plan)
    if other.features != plan.features:
        return None
    try:
        return read_segments(
            models.load_artifact(desk.session, model.artifact), other, contract
        ), other
    except (InvalidRecordError, MismatchError):
        return None  # it is told on that version's own card
