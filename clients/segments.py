"""Which segment each of the unit's own customers is nearest to: told on the node, to the unit.

Guarantees: nothing of it leaves the node, or is kept by it; customers who have objected, or whose
    consent is missing, are in none of it; rows become numbers as in training.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from clients.clustering import places_of
from clients.data import Inputs
from clients.examples import read_examples
from clients.policy import verify_not_revoked, verify_use_policy
from clients.site import Site
from fedcore import canonical
from fedcore.atomic import write_atomically
from fedcore.bundle import Evidence, read_bundle
from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError, MismatchError, RefusedError
from fedcore.models import ModelVersion
from fedcore.permits import Permit, Revocation
from fedcore.plans import TrainingPlan
from fedcore.privacy.clustering import NOWHERE
from fedcore.segment_facts import read_segments
from fedcore.segments.artefact import SegmentModel
from fedcore.segments.embedding import Encoder
from fedcore.signing import open_envelope

SEGMENT = "segment"


@dataclass(frozen=True)
class SignedSegments:
    """A segmentation version that governance has signed, with the permit and plan that it came of,
    and what tells places where they lie in an embedding.
    """

    version: ModelVersion
    permit: Permit
    plan: TrainingPlan
    model: SegmentModel
    encoder: Encoder | None = None


@dataclass(frozen=True, repr=False)
class Assignment:
    """Each customer, by the unit's own key, and the stable id of the segment they are nearest to.
    Stays at the unit.
    """

    key: str
    segments: tuple[tuple[str, int], ...]

    def to_csv(self) -> bytes:
        """Return a CSV file of UTF-8 text with one line for each customer."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow((self.key, SEGMENT))
        writer.writerows(self.segments)
        return text.getvalue().encode()


def open_segments(site: Site, bundle: bytes, autoencoder: bytes | None = None) -> SignedSegments:
    """Return the segments in an evidence bundle, after version, permit, plan and artifact were held
    against each other, governance's signature and the unit's policy. (The whole bundle is for
    `fedpact verify`.)

    Args: `autoencoder` is the evidence bundle of the autoencoder in whose embedding they lie; the
        digest of its artifact is in the plan.
    Raises: InvalidRecordError as `read_bundle` and `decode_model`; SignatureError; MismatchError
        `segments.other_papers`, `segments.artifact_differs`, `segments.no_segments`,
        `segments.other_unit`, `segments.other_features`, `segments.no_autoencoder`,
        `order.model_mismatch`; RefusedError `permit.revoked`, and as `verify_use_policy`.
    """
    evidence = read_bundle(bundle)
    version = site.open_governed(evidence.model_version, ModelVersion)
    permit, plan = _papers_of(site, evidence, version)
    if plan.model.course is None:
        raise MismatchError("segments.no_segments", "the model of this bundle is no segmentation")
    if canonical.digest(evidence.artifact) != version.artifact:
        raise MismatchError(
            "segments.artifact_differs", "the artifact is not the one of the signed model version"
        )
    if permit.grant(site.settings.unit) is None:
        raise MismatchError(
            "segments.other_unit", "the permit of these segments does not name this unit"
        )
    contract = site.contract(version.contract)
    verify_use_policy(site.settings, plan, contract)
    found = read_segments(evidence.artifact, plan, contract)
    return SignedSegments(version, permit, plan, found, _encoder_of(plan, contract, autoencoder))


def assign_segments(site: Site, signed: SignedSegments) -> Assignment:
    """Return the segment of each customer whom the unit's source, opt-outs and consents allow.

    Raises: RefusedError `node.unchecked`, `permit.revoked` by the bulletin in force; ExpiredError
        of a bulletin that is stale; DataError.
    """
    plan, absent = signed.plan, signed.plan.absent_at(site.settings.unit)
    inputs = Inputs(plan.features, absent)
    site.require_checked(plan.contract, inputs.fields)
    # The group's opt-outs come with it.
    verify_not_revoked(site.bulletin_in_force(), signed.permit)
    examples = read_examples(site, plan, inputs)
    found = places_of(signed.model, examples, signed.encoder)
    pairs = zip(examples.identifiers, found.tolist(), strict=True)
    segments = tuple((one, signed.model.ids[at]) for one, at in pairs if at != NOWHERE)
    return Assignment(site.contract(plan.contract).subject.column, segments)


def keep_assignment(assignment: Assignment, path: Path) -> None:
    """Write the file whole or not at all, for its owner only.

    Raises: InvalidRecordError `segments.unwritable`.
    """
    try:
        write_atomically(path, assignment.to_csv(), mode=0o600)
    except OSError as error:
        raise InvalidRecordError(
            "segments.unwritable",
            f"{path} cannot be written: name a file in a directory of yours",
            str(error),
        ) from error


def _encoder_of(plan: TrainingPlan, contract: Contract, bundle: bytes | None) -> Encoder | None:
    course = plan.model.course
    if course is None or course.embedding is None:
        return None
    if bundle is None:
        raise MismatchError(
            "segments.no_autoencoder",
            "these segments lie in an autoencoder's embedding: name its evidence bundle as well",
        )
    inputs = len(input_names(plan.features, contract))
    return course.embedding.encoder(read_bundle(bundle).artifact, inputs, plan.max_abs_weight)


def _papers_of(
    site: Site, evidence: Evidence, version: ModelVersion
) -> tuple[Permit, TrainingPlan]:
    permit = site.open_governed(evidence.permit, Permit)
    plan = open_envelope(evidence.plan, TrainingPlan, permit.author_key, site.settings.realm)
    of_version = (version.permit, version.plan, version.plan, version.contract)
    if (permit.digest, permit.plan, plan.digest, plan.contract) != of_version:
        raise MismatchError(
            "segments.other_papers", "permit and plan are not those of the signed model version"
        )
    if evidence.revocation is not None:
        revoked = site.open_governed(evidence.revocation, Revocation)
        if revoked.permit == permit.digest:
            raise RefusedError([("permit.revoked", "governance has revoked the run of this model")])
    return permit, plan
