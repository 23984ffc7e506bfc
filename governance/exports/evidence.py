"""The evidence bundle of a model version: all that it rests on, each with its place in the log."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from fedcore.bundle import (
    CosignedPosition,
    EvaluationPapers,
    Evidence,
    Judgements,
    LoggedDocument,
    SeenPosition,
    SignedModel,
    write_bundle,
)
from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.dpias import DpiaDecision
from fedcore.errors import NotFoundError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_audits import FairnessAudit, Waiver
from fedcore.model_signatures import ModelKey, public_model_key, sign_model
from fedcore.models import Checkpoint, ModelVersion
from fedcore.permits import Permit, PermitRenewal, Revocation, UnitCertificate
from fedcore.plans import TrainingPlan
from fedcore.promotions import ModelApproval, Promotion
from fedcore.record import Record
from fedcore.rounds import Cosignature, Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope, sign_record
from governance.evaluation_results import list_outcomes
from governance.models import find_model
from governance.office import Desk
from governance.permits import find_permit
from registry import audits, cosignatures, documents, log, models, promotions, units
from registry.log import LogView
from registry.models import StoredModel


def sign_checkpoint(desk: Desk, view: LogView) -> Envelope:
    """Return a signed checkpoint of the log."""
    checkpoint = Checkpoint(realm=desk.realm, log=view.position(), issued_at=desk.now)
    return sign_record(checkpoint, desk.key, desk.realm)


def export_evidence(desk: Desk, name: str, version: int) -> bytes:
    """Return the bundle of a model version as it stands now.

    Raises: NotFoundError `model.unknown`.
    """
    stored = find_model(desk, name, version)
    model = desk.open_own(ModelVersion, stored.document)
    permit = desk.open_own(Permit, model.permit)
    view = log.load_view(desk.session)
    artifact = models.load_artifact(desk.session, stored.artifact)
    evidence = Evidence(
        model_version=desk.fetch(ModelVersion, stored.document),
        artifact=artifact,
        permit=desk.fetch(Permit, model.permit),
        plan=desk.fetch(TrainingPlan, model.plan),
        contract=desk.fetch(Contract, model.contract),
        dpia=desk.fetch(Dpia, model.dpia),
        dpia_decision=desk.fetch(DpiaDecision, permit.dpia_decision),
        certificates=_certificates(desk, permit),
        reports=documents.of_run(desk.session, RoundReport, permit.run_id),
        receipts=documents.of_run(desk.session, Receipt, permit.run_id),
        revocation=_revocation(desk, permit),
        checkpoint=sign_checkpoint(desk, view),
        log=(),
        cosignatures=tuple(_cosigned(desk, permit, view)),
        renewals=documents.of_run(desk.session, PermitRenewal, permit.run_id),
        handovers=desk.handovers(),
        signed_model=_signed(desk, artifact),
        evaluations=tuple(_evaluations(desk, stored)),
        judgements=_judgements(desk, name, version),
    )
    digests = dict.fromkeys(_digests(evidence))
    logged = tuple(prove_logged(desk, digest, view) for digest in digests)
    receipts = [each for papers in _runs(evidence) for each in papers.receipts]
    positions = tuple(_seen(desk, receipts, view))
    return write_bundle(replace(evidence, log=logged, positions=positions))


def _signed(desk: Desk, artifact: bytes) -> SignedModel:
    """Return the OpenSSF signature of a model, with the key that it is verified with."""
    public_key = public_model_key(desk.key)
    stated = ModelKey(realm=desk.realm, public_key=public_key, issued_at=desk.now)
    signature = sign_model(artifact, desk.key)
    return SignedModel(signature, public_key.encode(), sign_record(stated, desk.key, desk.realm))


def _evaluations(desk: Desk, stored: StoredModel) -> Iterator[EvaluationPapers]:
    """Yield the papers of every evaluation of a version, oldest first."""
    for evaluation, _ in reversed(list_outcomes(desk, stored)):
        permit = desk.open_own(Permit, evaluation.permit)
        yield EvaluationPapers(
            evaluation=desk.fetch(Evaluation, evaluation.digest),
            permit=desk.fetch(Permit, evaluation.permit),
            plan=desk.fetch(EvaluationPlan, evaluation.plan),
            dpia=desk.fetch(Dpia, evaluation.dpia),
            dpia_decision=desk.fetch(DpiaDecision, permit.dpia_decision),
            certificates=_certificates(desk, permit),
            reports=documents.of_run(desk.session, RoundReport, permit.run_id),
            receipts=documents.of_run(desk.session, Receipt, permit.run_id),
            renewals=documents.of_run(desk.session, PermitRenewal, permit.run_id),
            revocation=_revocation(desk, permit),
        )


def _judgements(desk: Desk, name: str, version: int) -> Judgements:
    """Return what audits and people said of a version, and every move of its name's aliases."""
    session = desk.session
    approvals = promotions.list_approvals(session, name, version)
    return Judgements(
        audits=_stored(desk, FairnessAudit, audits.list_of_version(session, name, version)),
        waivers=_stored(desk, Waiver, audits.list_waivers(session, name, version)),
        approvals=_stored(desk, ModelApproval, [each.document for each in approvals]),
        moves=_stored(
            desk, Promotion, [each.document for each in promotions.list_moves(session, name)]
        ),
    )


def _stored(desk: Desk, kind: type[Record], digests: Sequence[str]) -> tuple[Envelope, ...]:
    found = documents.find_named(desk.session, kind, digests)
    return tuple(found[digest] for digest in digests)


def _revocation(desk: Desk, permit: Permit) -> Envelope | None:
    revocation = find_permit(desk, permit.run_id).revocation
    return None if revocation is None else desk.fetch(Revocation, revocation)


def _certificates(desk: Desk, permit: Permit) -> tuple[Envelope, ...]:
    """Return the certificates of the keys that the permit names, whatever became of them since."""
    keys = (units.find_key(desk.session, grant.node_key) for grant in permit.cohort)
    return tuple(desk.fetch(UnitCertificate, key.certificate) for key in keys if key is not None)


def _cosigned(desk: Desk, permit: Permit, view: LogView) -> Iterator[CosignedPosition]:
    """Yield the newest cosignature of each unit of the cohort."""
    for envelope in cosignatures.list_newest(desk.session, view.size):
        record = open_envelope(envelope, Cosignature, envelope.signer, desk.realm)
        grant = permit.grant(record.unit)
        if grant is not None and grant.node_key == envelope.signer:
            consistency = view.consistency(record.log.size)
            yield CosignedPosition(envelope=envelope, consistency=consistency)


def _seen(desk: Desk, receipts: Sequence[Envelope], view: LogView) -> Iterator[SeenPosition]:
    """Yield each position of the log that receipts name, with the proof that it went on from there.

    Of one that this log never reached there is none, and a verifier says so.
    """
    opened = (open_envelope(item, Receipt, item.signer, desk.realm) for item in receipts)
    for position in dict.fromkeys(receipt.log for receipt in opened):
        if position.size <= view.size:
            yield SeenPosition(log=position, consistency=view.consistency(position.size))


def _runs(evidence: Evidence) -> list[Evidence | EvaluationPapers]:
    """Return the papers of the training run and of the evaluations."""
    return [evidence, *evidence.evaluations]


def _digests(evidence: Evidence) -> Iterator[str]:
    """Yield the digest of every document that the log holds."""
    yield evidence.model_version.digest
    yield evidence.contract.digest
    for papers in _runs(evidence):
        singles = (papers.permit, papers.plan, papers.dpia, papers.dpia_decision, papers.revocation)
        yield from (envelope.digest for envelope in singles if envelope is not None)
        many = (*papers.certificates, *papers.reports, *papers.receipts, *papers.renewals)
        yield from (envelope.digest for envelope in many)
    yield from (papers.evaluation.digest for papers in evidence.evaluations)
    yield from (envelope.digest for envelope in evidence.handovers)
    for each in fields(evidence.judgements):
        yield from (envelope.digest for envelope in getattr(evidence.judgements, each.name))


def prove_logged(desk: Desk, digest: str, view: LogView) -> LoggedDocument:
    """Return a document's entry with the proof of its place.

    Raises: NotFoundError `log.document_missing`.
    """
    found = log.find_entry(desk.session, digest)
    if found is None:
        raise NotFoundError("log.document_missing", "the document is not in the log, or was erased")
    return LoggedDocument(entry=found.entry, index=found.index, proof=view.inclusion(found.index))
