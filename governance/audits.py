"""Fairness audits: derived from an evaluation's tables under the bindings of its DPIA, and kept."""

from collections.abc import Sequence

from fedcore.audit_lists import AuditSummary
from fedcore.errors import NotFoundError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.fairness_audits import FairnessAudit, Waiver, derive_audit
from fedcore.signing import Envelope
from governance.office import Desk, required
from registry import audits, documents, dpias
from registry.audits import StoredAudit

UNKNOWN = ("audit.unknown", "this run has no fairness audit")


def file_audit(
    desk: Desk, plan: EvaluationPlan, evaluation: Evaluation, tables: Sequence[NoisedTables]
) -> None:
    """Derive, sign and store the fairness audit of an evaluation whose plan counts groups.

    Guarantees: by the bindings of the DPIA that the permit names; of a version's audits the first
        one has the number 1, and every other one names it.
    Raises: NotFoundError `dpia.unknown` when the DPIA was erased.
    """
    stored = dpias.find(desk.session, evaluation.dpia)
    if stored is None:
        raise NotFoundError("dpia.unknown", "the DPIA of this evaluation is not here any more")
    model = evaluation.models[0]
    before = audits.list_of_version(desk.session, model.name, model.version)
    audit = FairnessAudit(
        run_id=evaluation.run_id,
        realm=evaluation.realm,
        simulation=evaluation.simulation,
        name=model.name,
        version=model.version,
        artifact=model.artifact,
        number=len(before) + 1,
        first=before[0] if before else None,
        plan=evaluation.plan,
        permit=evaluation.permit,
        contract=evaluation.contract,
        dpia=evaluation.dpia,
        evaluation=evaluation.digest,
        tables=evaluation.tables,
        units=evaluation.units,
        table_epsilon=evaluation.table_epsilon,
        found=derive_audit(plan, tables, stored.record.bindings),
        audited_at=desk.now,
    )
    desk.issue(audit, run_id=evaluation.run_id)
    audits.append(desk.session, audit)


def find_audit(desk: Desk, run_id: str) -> Envelope:
    """Return the signed audit of a run. Raises: NotFoundError `audit.unknown`."""
    document = audits.find_document(desk.session, run_id)
    if document is None:
        raise NotFoundError(*UNKNOWN)
    return desk.fetch(FairnessAudit, document)


def find_tables(desk: Desk, run_id: str) -> tuple[Envelope, ...]:
    """Return the noised tables that the audit of a run was derived from, in its order.

    Raises: NotFoundError `audit.unknown`.
    """
    document = audits.find_document(desk.session, run_id)
    if document is None:
        raise NotFoundError(*UNKNOWN)
    named = desk.open_own(FairnessAudit, document).tables
    found = documents.find_named(desk.session, NoisedTables, named)
    return tuple(found[digest] for digest in named)


def find_deciding(desk: Desk, name: str, version: int) -> FairnessAudit | None:
    """Return the audit of a version that decides, which is its first one."""
    documents = audits.list_of_version(desk.session, name, version)
    return desk.open_own(FairnessAudit, documents[0]) if documents else None


def list_audits_of(desk: Desk, name: str, version: int) -> tuple[FairnessAudit, ...]:
    """Return the audits of a version, the one that decides first."""
    documents = audits.list_of_version(desk.session, name, version)
    opened = desk.open_each(dict.fromkeys(documents, FairnessAudit))
    return tuple(required(opened, FairnessAudit, document) for document in documents)


def list_waivers(desk: Desk, name: str, version: int) -> tuple[Waiver, ...]:
    """Return the waivers of a version, oldest first."""
    documents = audits.list_waivers(desk.session, name, version)
    opened = desk.open_each(dict.fromkeys(documents, Waiver))
    return tuple(required(opened, Waiver, document) for document in documents)


def summarise(desk: Desk, stored: Sequence[StoredAudit]) -> tuple[AuditSummary, ...]:
    """Return audits as they are listed."""
    opened = desk.open_each(dict.fromkeys((each.document for each in stored), FairnessAudit))
    found = [required(opened, FairnessAudit, each.document) for each in stored]
    return tuple(
        AuditSummary(
            run_id=audit.run_id,
            name=audit.name,
            version=audit.version,
            number=audit.number,
            threshold=audit.found.threshold,
            verdict=audit.found.verdict,
            bounds=audit.found.bounds,
            document=audit.digest,
            audited_at=audit.audited_at,
        )
        for audit in found
    )
