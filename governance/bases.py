"""What registered versions rest on, and which of it was withdrawn since.

A version rests on the models that its plan starts from, searches segments in the embedding of, or
continues the segments of. What those rest on in turn is told of them, not of it.
"""

from collections.abc import Mapping, Sequence

from fedcore.models import ModelVersion
from fedcore.plans import TrainingPlan
from fedcore.signing import open_known
from governance.evaluations import models_behind
from governance.office import Desk, required
from registry import documents, models
from registry.model_decisions import Version
from registry.models import StoredModel


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
