"""What the gate of promotion looks at, read from what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.dpias import DpiaDecision, DpiaState
from fedcore.models import ModelVersion
from fedcore.permits import Permit, Revocation
from fedcore.plans import TrainingPlan
from fedcore.promotions import Alias
from fedcore.record import Record
from fedcore.rounds import Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope
from fedcore.stops import Stop
from governance.audits import find_deciding, list_waivers
from governance.bases import withdrawn_bases
from governance.decisions.dpia_standing import standing_of, state_at
from governance.decisions.promotion_facts import (
    ApprovalFacts,
    EvaluationFacts,
    EvidenceFacts,
    FairnessFacts,
    Metric,
    Papers,
    PromotionFacts,
    WaiverFacts,
    covers,
    evidence_of,
)
from governance.decisions.stops import Reach, purposes_of
from governance.decisions.waivers import choose_waiver
from governance.evaluation_results import find_newest_of
from governance.models import find_model
from governance.office import Desk, required
from governance.permits import find_permit
from governance.plans import open_plan
from registry import accounts, documents, dpias, log, model_decisions, promotions, stops
from registry.accounts import Account
from registry.models import StoredModel


@dataclass(frozen=True)
class Lineage:
    """A version with those of its papers that are here, each read and verified."""

    model: ModelVersion
    permit: Permit | None
    plan: TrainingPlan | None
    author: str | None
    contract: Contract | None
    found: Mapping[str, Envelope]


def load_promotion(
    desk: Desk, name: str, version: int, alias: Alias, account: Account
) -> PromotionFacts:
    """Return what counts now for an alias of a version, asked for by an account.

    Raises: NotFoundError `model.unknown`; SignatureError for a paper that was changed.
    """
    stored = find_model(desk, name, version)
    lineage = load_lineage(desk, desk.open_own(ModelVersion, stored.document))
    stopped = stops.list_in_force(desk.session)
    opened = desk.open_each(dict.fromkeys(stopped, Stop))
    plan = lineage.plan
    approvals = promotions.list_approvals(desk.session, name, version)
    withdrawn = model_decisions.list_withdrawn(desk.session)
    outcomes = model_decisions.list_outcomes(desk.session, name, version)
    return PromotionFacts(
        name=name,
        version=version,
        model=stored.document,
        alias=alias,
        person=account.name,
        simulation=lineage.model.simulation,
        plan_author=lineage.author,
        evidence=_load_evidence(desk, lineage),
        reach=_reach_of(desk, lineage),
        dpia_state=None if lineage.permit is None else _dpia_state(desk, lineage.permit),
        withdrawn="withdrawn" in outcomes,
        withdrawn_bases=() if plan is None else withdrawn_bases(plan, withdrawn),
        retrain_due="retrain_due" in outcomes,
        now=desk.now,
        stops=tuple(required(opened, Stop, digest) for digest in stopped),
        floors=None if plan is None else floors_of(plan),
        evaluation=_load_evaluation(desk, stored),
        fairness=_load_fairness(desk, stored),
        approvals=tuple(
            ApprovalFacts(item.document, item.approved_by, item.evidence) for item in approvals
        ),
    )


def floors_of(plan: TrainingPlan) -> Mapping[str, float]:
    """Return the least that a plan asks of each metric."""
    return {item.metric: item.floor for item in plan.metric_floors or ()}


def _load_evaluation(desk: Desk, stored: StoredModel) -> EvaluationFacts | None:
    newest = find_newest_of(desk, stored)
    if newest is None:
        return None
    evaluation, outcome = newest
    metrics = {each.name: Metric(each.value, each.low) for each in outcome.numbers}
    return EvaluationFacts(evaluation.digest, stored.document, metrics)


def _load_fairness(desk: Desk, stored: StoredModel) -> FairnessFacts | None:
    """Return the audit of a version that decides, its first one, and the waiver that counts."""
    audit = find_deciding(desk, stored.name, stored.version)
    if audit is None:
        return None
    waivers = list_waivers(desk, stored.name, stored.version)
    chosen = choose_waiver(waivers, audit.digest, desk.now)
    waiver = None
    if chosen is not None:
        waiver = WaiverFacts(chosen.digest, chosen.people, chosen.reason, chosen.expires_at)
    return FairnessFacts(audit.digest, stored.document, audit.found.verdict, waiver)


def _wanted(model: ModelVersion, permit: Permit | None) -> dict[str, type[Record]]:
    wanted: dict[str, type[Record]] = {
        model.permit: Permit,
        model.plan: TrainingPlan,
        model.contract: Contract,
        model.dpia: Dpia,
        **dict.fromkeys(model.round_reports, RoundReport),
        **dict.fromkeys(model.receipts, Receipt),
    }
    return wanted if permit is None else {**wanted, permit.dpia_decision: DpiaDecision}


def load_lineage(desk: Desk, model: ModelVersion) -> Lineage:
    """Return a version with its papers. Raises: SignatureError for a paper that was changed."""
    permits = documents.find_named(desk.session, Permit, [model.permit])
    permit = None
    if model.permit in permits:
        permit = desk.open_signed_here(permits[model.permit], Permit)
    found = documents.find_each(desk.session, _wanted(model, permit))
    plan, author, contract = None, None, None
    if model.plan in found:
        plan, author_key = open_plan(desk, model.plan)
        known = accounts.find_by_public_key(desk.session, author_key)
        author = None if known is None else known.name
    if model.contract in found:
        contract = desk.open_signed_here(found[model.contract], Contract)
    return Lineage(model, permit, plan, author, contract, found)


def _load_evidence(desk: Desk, lineage: Lineage) -> EvidenceFacts:
    model, permit, found = lineage.model, lineage.permit, lineage.found
    wanted = _wanted(model, permit)
    logged = log.find_logged(desk.session, [*wanted, model.digest])
    kinds = {digest: documents.kind_of(kind) for digest, kind in wanted.items()}
    kinds[model.digest] = documents.kind_of(ModelVersion)
    papers = Papers(
        missing={kinds[digest] for digest in wanted if digest not in found},
        unlogged={kinds[digest] for digest in kinds if digest not in logged},
        permit_revoked=_was_revoked(desk, model),
    )
    if permit is None:
        return evidence_of(model, None, (), {}, papers)
    reports = [found[digest] for digest in model.round_reports if digest in found]
    receipts = [found[digest] for digest in model.receipts if digest in found]
    return evidence_of(
        model, permit, *_open_papers(permit, tuple(reports), tuple(receipts)), papers
    )


@lru_cache(maxsize=4)
def _open_papers(
    permit: Permit, reports: tuple[Envelope, ...], receipts: tuple[Envelope, ...]
) -> tuple[tuple[RoundReport, ...], Mapping[str, Receipt]]:
    """Return the reports of a run, and the receipts that the nodes of its permit have signed, by
    digest. There may be thousands of them, and people look at a gate again and again.

    Guarantees: what was verified is remembered by each byte of it, so that whatever is altered is
        verified anew; refusals are not remembered.
    Raises: SignatureError.
    """
    opened = [
        (envelope, open_envelope(envelope, Receipt, envelope.signer, permit.realm))
        for envelope in receipts
    ]
    keys = {grant.unit: grant.node_key for grant in permit.cohort}
    return (
        tuple(
            open_envelope(each, RoundReport, permit.server_key, permit.realm) for each in reports
        ),
        {
            receipt.digest: receipt
            for envelope, receipt in opened
            if keys.get(receipt.unit) == envelope.signer
        },
    )


def _was_revoked(desk: Desk, model: ModelVersion) -> bool:
    """Return whether the run was stopped before the version was registered. A later revocation says
    nothing of the run; who finds the model wrong withdraws it.
    """
    revocation = find_permit(desk, model.run_id).revocation
    if revocation is None:
        return False
    return desk.open_own(Revocation, revocation).revoked_at < model.registered_at


def _reach_of(desk: Desk, lineage: Lineage) -> Reach | None:
    permit = lineage.permit
    stored = None if permit is None else dpias.find(desk.session, permit.dpia)
    if permit is None or lineage.contract is None or stored is None:
        return None
    return Reach(
        units=frozenset(grant.unit for grant in permit.cohort),
        purposes=purposes_of(lineage.contract, permit.purpose),
        dpia_id=stored.record.dpia_id,
        task=permit.task,
    )


def _dpia_state(desk: Desk, permit: Permit) -> DpiaState | None:
    """Return the state that counts of the permit's DPIA, or of a successor that covers the same."""
    stored = dpias.find(desk.session, permit.dpia)
    if stored is None:
        return None
    state = state_at(standing_of(stored), desk.now)
    if state != "superseded":
        return state
    successors = [
        state_at(standing_of(item), desk.now)
        for item in dpias.list_of(desk.session, stored.record.dpia_id)
        if item.record.version > stored.record.version and covers(item.record.bindings, permit)
    ]
    return "in_force" if "in_force" in successors else state
