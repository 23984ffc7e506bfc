"""What the gate of promotion looks at: all that counts for one model version at one moment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fedcore import canonical
from fedcore.dpias import Bindings, DpiaState
from fedcore.models import ModelVersion
from fedcore.permits import Permit
from fedcore.promotions import Alias
from fedcore.rounds import Receipt, RoundReport
from fedcore.stops import Stop
from fedcore.trust_reports import ends_run
from governance.decisions.stops import Reach, concerns


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluation of which more is better: its estimate, and the lower end of its
    interval, which contains what sampling and noise may have added.
    """

    estimate: float
    low: float


@dataclass(frozen=True)
class EvaluationFacts:
    """An evaluation: its document, the version's document that it is about, and its metrics."""

    document: str
    model: str
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class WaiverFacts:
    """A waiver of a fairness verdict: who signed for it, why, and until when."""

    document: str
    people: tuple[str, ...]
    reason: str
    expires_at: datetime


@dataclass(frozen=True)
class FairnessFacts:
    """A fairness audit: its document, the version's document that it is about, its verdict, and the
    waiver that stands beside it, if any.
    """

    document: str
    model: str
    verdict: Literal["PASS", "FAIL", "INSUFFICIENT"]
    waiver: WaiverFacts | None = None


@dataclass(frozen=True)
class ApprovalFacts:
    """An approval: its document, who gave it, and the digest of the evidence that they saw."""

    document: str
    person: str
    evidence: str


@dataclass(frozen=True)
class EvidenceFacts:
    """What is wrong with the papers that a version rests on; with nothing in it they are whole.

    Attributes:
        missing: kinds of documents that are not here.
        unlogged: kinds of which a document has no place in the log.
        open_rounds: rounds of the permit that no report accepted.
        thin_rounds: accepted rounds that fewer units answered than the permit asks for.
        unreceipted: round and unit of each accepted answer without the receipt that it names.
        stale_units: units that answered and did not apply, or are not said to have applied, the
            opt-outs up to the epoch of the permit.
        other_artifact: whether the run released another model.
        permit_revoked: whether the run was stopped before the version was registered.
    """

    missing: frozenset[str] = frozenset()
    unlogged: frozenset[str] = frozenset()
    open_rounds: frozenset[int] = frozenset()
    thin_rounds: frozenset[int] = frozenset()
    unreceipted: frozenset[tuple[int, str]] = frozenset()
    stale_units: frozenset[str] = frozenset()
    other_artifact: bool = False
    permit_revoked: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "missing": sorted(self.missing),
            "unlogged": sorted(self.unlogged),
            "open_rounds": sorted(self.open_rounds),
            "thin_rounds": sorted(self.thin_rounds),
            "unreceipted": [list(pair) for pair in sorted(self.unreceipted)],
            "stale_units": sorted(self.stale_units),
            "other_artifact": self.other_artifact,
            "permit_revoked": self.permit_revoked,
        }


@dataclass(frozen=True)
class PromotionFacts:
    """All that the gate of promotion looks at.

    Attributes:
        model: the version's own document.
        person: who asks for the move.
        plan_author: who wrote the plan; None is nobody known here.
        reach: what a stop must name to concern the version; None when the papers do not tell.
        stops: those in force.
        dpia_state: the state that counts now of the permit's DPIA, or of its successor.
        withdrawn, retrain_due: what a decision in force of any unit says.
        withdrawn_bases: name and version of each withdrawn model that the version rests on.
        floors: the least that the plan asks of each metric; None when there is no plan.
    """

    name: str
    version: int
    model: str
    alias: Alias
    person: str
    simulation: bool
    plan_author: str | None
    evidence: EvidenceFacts | None
    reach: Reach | None
    dpia_state: DpiaState | None
    withdrawn: bool
    retrain_due: bool
    now: datetime
    withdrawn_bases: tuple[tuple[str, int], ...] = ()
    stops: tuple[Stop, ...] = ()
    floors: Mapping[str, float] | None = field(default_factory=dict)
    approvals: tuple[ApprovalFacts, ...] = ()
    evaluation: EvaluationFacts | None = None
    fairness: FairnessFacts | None = None

    @property
    def seen(self) -> str:
        """The digest of the evidence that an approval must be about."""
        waiver = None if self.fairness is None else self.fairness.waiver
        documents = (self.evaluation, self.fairness, waiver)
        return canonical.digest_of(
            [self.model, *(None if item is None else item.document for item in documents)]
        )

    @property
    def counted(self) -> tuple[ApprovalFacts, ...]:
        """The approvals that count: of the evidence as it is now, one of each person, and none of
        who wrote the plan.
        """
        found = {
            approval.person: approval
            for approval in self.approvals
            if approval.evidence == self.seen and approval.person != self.plan_author
        }
        return tuple(found.values())

    @property
    def stopped_by(self) -> tuple[Stop, ...]:
        """The stops in force that concern the version; all of them when its reach is not known."""
        reach = self.reach
        return tuple(stop for stop in self.stops if reach is None or concerns(stop, reach))

    @property
    def document(self) -> dict[str, Any]:
        """The facts as plain JSON, kept with the answer: signed records by their digests."""
        return {
            "model": self.model,
            "alias": self.alias,
            "person": self.person,
            "simulation": self.simulation,
            "plan_author": self.plan_author,
            "evidence": None if self.evidence is None else self.evidence.document,
            "dpia_state": self.dpia_state,
            "withdrawn": self.withdrawn,
            "withdrawn_bases": [list(basis) for basis in self.withdrawn_bases],
            "retrain_due": self.retrain_due,
            "stops": [stop.digest for stop in self.stopped_by],
            "floors": None if self.floors is None else dict(self.floors),
            "approvals": [[item.document, item.person, item.evidence] for item in self.approvals],
            "evaluation": _evaluation_document(self.evaluation),
            "fairness": _fairness_document(self.fairness),
            "now": self.now.isoformat(),
        }


@dataclass(frozen=True)
class Papers:
    """Which kinds of documents are not here, or not in the log, and whether the permit was revoked
    before the version was registered.
    """

    missing: Collection[str] = ()
    unlogged: Collection[str] = ()
    permit_revoked: bool = False


def evidence_of(
    model: ModelVersion,
    permit: Permit | None,
    reports: Sequence[RoundReport],
    receipts: Mapping[str, Receipt],
    papers: Papers,
) -> EvidenceFacts:
    """Return what is wrong with the papers of a version.

    Args: `receipts` are those of the run, by digest, each signed by the node that the permit names.
    Guarantees: of reports that governance has recorded, of which only the last one ends a run: with
        fewer of them, fewer receipts or papers nothing becomes right.
    """
    accepted = {report.round: report for report in reports if report.status == "accepted"}
    ending = [number for number, report in accepted.items() if permit and ends_run(report, permit)]
    wanted = range(1, min(ending, default=permit.rounds) + 1) if permit else ()
    answers = {
        (number, answer.unit): answer.receipt
        for number, report in accepted.items()
        for answer in report.answered
    }
    released = [report.released for report in accepted.values() if report.released is not None]
    return EvidenceFacts(
        missing=frozenset(papers.missing),
        unlogged=frozenset(papers.unlogged),
        open_rounds=frozenset(wanted) - accepted.keys(),
        thin_rounds=frozenset(
            number
            for number, report in accepted.items()
            if permit is None or len(report.answered) < permit.minimum_cohort
        ),
        unreceipted=frozenset(
            place
            for place, digest in answers.items()
            if digest not in model.receipts or not _is_of(receipts.get(digest), place, permit)
        ),
        stale_units=_stale_units(model, {unit for _, unit in answers}, permit),
        other_artifact=released != [model.artifact],
        permit_revoked=papers.permit_revoked,
    )


def covers(bindings: Bindings, permit: Permit) -> bool:
    """Return whether a DPIA is about what a permit allowed."""
    units = {grant.unit for grant in permit.cohort}
    return (
        (bindings.task, bindings.contract) == (permit.task, permit.contract)
        and permit.purpose in bindings.purposes
        and units <= set(bindings.units)
    )


def _is_of(receipt: Receipt | None, place: tuple[int, str], permit: Permit | None) -> bool:
    return (
        receipt is not None
        and permit is not None
        and (receipt.round, receipt.unit) == place
        and (receipt.run_id, receipt.permit) == (permit.run_id, permit.digest)
    )


def _stale_units(model: ModelVersion, units: set[str], permit: Permit | None) -> frozenset[str]:
    if permit is None:
        return frozenset(units)
    applied = {item.unit: item.epoch for item in model.opt_out_epochs}
    return frozenset(unit for unit in units if applied.get(unit, -1) < permit.min_opt_out_epoch)


def _evaluation_document(facts: EvaluationFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    metrics = {name: [metric.estimate, metric.low] for name, metric in facts.metrics.items()}
    return {"document": facts.document, "model": facts.model, "metrics": metrics}


def _fairness_document(facts: FairnessFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    waiver = facts.waiver
    told = None
    if waiver is not None:
        told = {
            "document": waiver.document,
            "people": list(waiver.people),
            "reason": waiver.reason,
            "expires_at": waiver.expires_at.isoformat(),
        }
    return {
        "document": facts.document,
        "model": facts.model,
        "verdict": facts.verdict,
        "waiver": told,
    }
