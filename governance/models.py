"""Model versions: a finished run's released model with all that it came from."""

import safetensors

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError, RefusedError
from fedcore.models import EpsilonClaim, ModelVersion, OptOutEpoch
from fedcore.permits import Permit
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.record import Realm
from fedcore.rounds import Receipt, RoundReport
from fedcore.segment_facts import read_segments
from fedcore.signing import Envelope, open_envelope
from governance.decisions.rounds import is_finished
from governance.office import Desk
from governance.permits import find_permit
from governance.plans import open_plan
from governance.rounds import load_reports
from registry import documents, models
from registry.accounts import Account
from registry.models import StoredModel

UNKNOWN = ("model.unknown", "there is no such model version")


def register_model(
    desk: Desk, run_id: str, name: str, artifact: bytes, caller: Account
) -> Envelope:
    """Return the signed version of a run's model; the same call again returns the same version.

    Guarantees: the caller's key is the one of the permit, which is not revoked; every round was
        accepted until the run ended, and the bytes are those that the last report released; epsilon
        is recomputed from the receipts' events; of a plan of segments the bytes are segments that
        this plan can have found. A model that was registered before a revocation is still returned.
    Raises: NotFoundError `permit.unknown`; ConflictError `model.run_known`; RefusedError
        `permit.other_server`, `permit.revoked`, `model.not_trained`, `model.run_incomplete`,
        `model.artifact_differs`;
        InvalidRecordError `model.artifact_unreadable`; InvalidRecordError and MismatchError as
        `read_segments`.
    """
    stored = find_permit(desk, run_id)
    permit = desk.open_own(Permit, stored.permit)
    if permit.server_key != caller.public_key:
        raise RefusedError([("permit.other_server", "the permit names another server's key")])
    if permit.kind != "train":
        reason = f"The run is one to {permit.kind}: it hands over no model."
        raise RefusedError([("model.not_trained", reason)])
    reports = load_reports(desk, permit)
    _verify_complete(reports, permit)
    _verify_artifact(artifact, reports[-1])
    known = models.find_of_run(desk.session, run_id)
    if known is not None:
        if known.name != name:
            raise ConflictError("model.run_known", "this run's model has another name already")
        return desk.fetch(ModelVersion, known.document)
    if stored.revocation is not None:
        raise RefusedError(
            [("permit.revoked", "the permit of this run is revoked: its model is not registered")]
        )
    _verify_segments(desk, artifact, permit)
    version = models.next_version(desk.session, name)
    model = _model_of(desk, permit, reports, (name, version), artifact)
    envelope = desk.issue(model, run_id=run_id)
    models.append(desk.session, model, artifact)
    return envelope


def find_model(desk: Desk, name: str, version: int) -> StoredModel:
    """Return where a version is kept. Raises: NotFoundError `model.unknown`."""
    stored = models.find(desk.session, name, version)
    if stored is None:
        raise NotFoundError(*UNKNOWN)
    return stored


def _model_of(
    desk: Desk,
    permit: Permit,
    reports: tuple[RoundReport, ...],
    name_and_version: tuple[str, int],
    artifact: bytes,
) -> ModelVersion:
    receipts = load_receipts(desk, permit)
    return ModelVersion(
        name=name_and_version[0],
        version=name_and_version[1],
        realm=desk.realm,
        simulation=desk.realm == Realm.SIMULATION,
        run_id=permit.run_id,
        task=permit.task,
        plan=permit.plan,
        permit=permit.digest,
        contract=permit.contract,
        dpia=permit.dpia,
        artifact=canonical.digest(artifact),
        artifact_bytes=len(artifact),
        round_reports=tuple(report.digest for report in reports),
        receipts=tuple(receipts),
        opt_out_epochs=opt_out_epochs(reports, receipts),
        epsilon=epsilon_claims(permit, receipts),
        delta=permit.delta,
        registered_at=desk.now,
    )


def load_receipts(desk: Desk, permit: Permit) -> dict[str, Receipt]:
    """Return the receipts of a run by digest, in the order of arrival."""
    envelopes = documents.of_run(desk.session, Receipt, permit.run_id)
    return {
        envelope.digest: open_envelope(envelope, Receipt, envelope.signer, desk.realm)
        for envelope in envelopes
    }


def opt_out_epochs(
    reports: tuple[RoundReport, ...], receipts: dict[str, Receipt]
) -> tuple[OptOutEpoch, ...]:
    """Return the lowest opt-out epoch that each unit had applied in any accepted round."""
    lowest: dict[str, int] = {}
    for report in reports:
        for answer in report.answered if report.status == "accepted" else ():
            epoch = receipts[answer.receipt].applied_epoch
            lowest[answer.unit] = min(epoch, lowest.get(answer.unit, epoch))
    return tuple(OptOutEpoch(unit=unit, epoch=lowest[unit]) for unit in sorted(lowest))


def epsilon_claims(permit: Permit, receipts: dict[str, Receipt]) -> tuple[EpsilonClaim, ...]:
    """Return what a run has charged to each unit, by its receipts' events, void rounds too."""
    claims = []
    for unit in sorted({receipt.unit for receipt in receipts.values()}):
        events = [receipt.event for receipt in receipts.values() if receipt.unit == unit]
        claim, pld = renyi_epsilon(events, permit.delta), pld_epsilon(events, permit.delta)
        claims.append(EpsilonClaim(unit=unit, claim=claim, pld=pld))
    return tuple(claims)


def _verify_complete(reports: tuple[RoundReport, ...], permit: Permit) -> None:
    accepted = [report.round for report in reports if report.status == "accepted"]
    if accepted != list(range(1, len(accepted) + 1)) or not is_finished(reports, permit):
        reason = f"{len(accepted)} of {permit.rounds} rounds were accepted: finish the run."
        raise RefusedError([("model.run_incomplete", reason)])


def _verify_artifact(artifact: bytes, last: RoundReport) -> None:
    if canonical.digest(artifact) != last.released:
        reason = "The bytes are not the model that the last report released."
        raise RefusedError([("model.artifact_differs", reason)])
    try:
        safetensors.deserialize(artifact)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise InvalidRecordError(
            "model.artifact_unreadable", "the model is no file of tensors (safetensors)", str(error)
        ) from error


def _verify_segments(desk: Desk, artifact: bytes, permit: Permit) -> None:
    """Hold the model of a plan of centres against plan and contract; any other one is weights,
    which mean something only to who trains.
    """
    plan, _ = open_plan(desk, permit.plan)
    if plan.model.course is not None:
        read_segments(artifact, plan, desk.open_own(Contract, permit.contract))
