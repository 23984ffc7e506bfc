"""What registered versions rest on, and which of it was withdrawn since.

A version rests on the models that its plan starts from, searches segments in the embedding of, or
continues the segments of. What those rest on in turn is told of them, not of it.
"""

from collections.abc import Mapping, Sequence

from fedcore.contracts import Contract
from fedcore.models import ModelVersion
from fedcore.plans import TrainingPlan
from fedcore.signing import open_known
from governance.decisions.facts import ContinuedVersion
from governance.evaluations import models_behind
from governance.office import Desk, required
from governance.plans import open_plan
from registry import documents, models
from registry.model_decisions import Version
from registry.models import StoredModel


def load_continued(desk: Desk, plan: TrainingPlan) -> tuple[ContinuedVersion, ...]:
    """Return the registered versions that have the bytes whose segments a plan continues."""
    course = plan.model.course
    if course is None or course.continues is None:
        return ()
    artifact = course.continues.artifact
    stored = models.list_of_artifacts(desk.session, [artifact])
    opened = desk.open_each(dict.fromkeys((each.document for each in stored), ModelVersion))
    versions = (required(opened, ModelVersion, each.document) for each in stored)
    return tuple(continued_version(desk, artifact, version.plan) for version in versions)


def continued_version(desk: Desk, artifact: str, plan: str) -> ContinuedVersion:
    """Return a version with its plan, by digest, and that plan's contract.

    Raises: NotFoundError `plan.unknown`, `contract.unknown`.
    """
    opened, _ = open_plan(desk, plan)
    return ContinuedVersion(artifact, opened, desk.open_own(Contract, opened.contract))


def withdrawn_bases(plan: TrainingPlan, withdrawn: Mapping[Version, str]) -> tuple[Version, ...]:
    """Return the withdrawn versions that a plan starts from or rests on.

    Args: `withdrawn` are all such versions with the digests of their bytes.
    """
    behind = models_behind(plan)
    return tuple(version for version, artifact in withdrawn.items() if artifact in behind)


def map_withdrawn_bases(
    desk: Desk, stored: Sequence[StoredModel], withdrawn: Mapping[Version, str]
) -> Mapping[Version, tuple[Version, ...]]:
    """Return which of these versions rest on withdrawn ones, and on which; a version whose plan is
    not here is left out. It asks the database twice, however many there are.
    """
    opened = desk.open_each(dict.fromkeys((each.document for each in stored), ModelVersion))
    plans = {
        (each.name, each.version): required(opened, ModelVersion, each.document).plan
        for each in stored
    }
    found = {
        digest: open_known(envelope, TrainingPlan, envelope.signer, desk.realm)
        for digest, envelope in documents.find_named(
            desk.session, TrainingPlan, list(plans.values())
        ).items()
    }
    bases = {
        version: withdrawn_bases(found[plan], withdrawn)
        for version, plan in plans.items()
        if plan in found
    }
    return {version: named for version, named in bases.items() if named}


def map_withdrawn_bases_of(
    desk: Desk, name: str, versions: Sequence[int | None], withdrawn: Mapping[Version, str]
) -> Mapping[Version, tuple[Version, ...]]:
    """Return the same of versions of one model; None is nobody."""
    wanted = [version for version in versions if version is not None]
    if not wanted or not withdrawn:
        return {}
    return map_withdrawn_bases(desk, models.find_each(desk.session, name, wanted), withdrawn)
