"""How a model of the small world was judged: evaluated once, audited, waived, approved, promoted.

Every document is changed by the edit of its name, if there is one, before it is signed; what rests
on it follows. See `World.promoted` in conftest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fedcore import canonical
from fedcore.audit_lists import BoundOutcome, Compared, WidestGap
from fedcore.bundle import EvaluationPapers, Evidence, Judgements
from fedcore.caps import EpsilonCaps
from fedcore.dpia_record import Dpia
from fedcore.dpias import DpiaDecision, FairnessBound
from fedcore.evaluation_outcomes import Evaluation, Measured, ModelOutcome
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.fairness import MEANINGS
from fedcore.fairness_audits import AuditFindings, FairnessAudit, Waiver
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.models import EpsilonClaim, ModelVersion, OptOutEpoch
from fedcore.permits import NodeGrant, Permit
from fedcore.plans import MetricFloor
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.promotions import ModelApproval, Promotion
from fedcore.record import Realm
from fedcore.rounds import Answer, Receipt, RoundReport

GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
METRIC = "demographic_parity_difference"
# (attempt, answering units): the first one is void.
TRIES = ((1, ("north",)), (2, ("north", "south", "west")))


def trained_for_it(documents: Any) -> dict[str, Callable[[Any], Any]]:
    """Return the edits of a run whose model can be evaluated, audited and promoted."""
    caps = EpsilonCaps(history=4.0)
    bound = {
        "fairness": (FairnessBound(attribute="gender", metric=METRIC, largest_gap=0.1),),
        "fairness_audit": AuditTerms(attributes=(GENDER,)),
        "ledger_caps": caps,
    }
    floors = (MetricFloor(metric="roc_auc", floor=0.6),)
    return {
        "plan": lambda p: p.model_copy(update={"holdout": 0.2, "metric_floors": floors}),
        "dpia": lambda d: d.model_copy(update={"bindings": d.bindings.model_copy(update=bound)}),
        "permit": lambda p: p.model_copy(update={"ledger_caps": caps}),
    }


def measured(low: float = 0.7) -> Measured:
    """Return an area under the ROC curve whose interval begins there."""
    return Measured(
        name="roc_auc",
        value=0.8,
        low=low,
        high=0.85,
        sampling_sd=0.02,
        noise_sd=0.01,
        bins_error=0.001,
    )


def findings(low: float, high: float, outcome: str, verdict: str) -> AuditFindings:
    """Return what an audit found, by the interval of its only comparison."""
    one = Compared(
        group="female",
        rate="selection_rate",
        gap=(low + high) / 2,
        low=low,
        high=high,
        outcome=outcome,  # type: ignore[arg-type]
    )
    bound = BoundOutcome(
        attribute="gender",
        metric=METRIC,
        largest_gap=0.1,
        verdict=verdict,  # type: ignore[arg-type]
        widest=WidestGap(group="female", rate="selection_rate", low=0.0, high=0.3),
        compared=(one,),
    )
    return AuditFindings(
        threshold=0.5,
        alpha=0.05,
        minimum_size=30,
        groups=(),
        bounds=(bound,),
        verdict=verdict,  # type: ignore[arg-type]
        meaning=MEANINGS[verdict],  # type: ignore[index]
    )


OPEN = findings(-0.05, 0.2, "open", "INSUFFICIENT")
PASSED = findings(-0.05, 0.05, "within", "PASS")


@dataclass
class Judging:
    """Judges the model of some evidence; `people` approve it, two of them stand for a waiver."""

    world: Any
    documents: Any
    evidence: Evidence
    edits: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    people: tuple[str, ...] = ("emil", "paul")
    waived: bool = True

    def edited(self, name: str, record: Any) -> Any:
        return self.edits.get(name, lambda unchanged: unchanged)(record)

    def promoted(self) -> Evidence:
        """Return the evidence with all that made the model champion, under a new log."""
        self.model = ModelVersion.from_bytes(self.evidence.model_version.payload_bytes)
        papers = self.evaluated()
        audit = self.edited("audit", self.audit(papers))
        waivers = self.waivers(audit) if self.waived else []
        seen = canonical.digest_of(
            [
                self.model.digest,
                self.evaluation.digest,
                audit.digest,
                waivers[-1].digest if waivers else None,
            ]
        )
        approvals = [
            self.edited("approval", self.approval(number, person, seen))
            for number, person in enumerate(self.people, 1)
        ]
        judged = (audit,), waivers, approvals, self.moves(seen, approvals)
        signed = (tuple(self.world.sign(each) for each in records) for records in judged)
        found = replace(self.evidence, evaluations=(papers,), judgements=Judgements(*signed))
        sealed: Evidence = self.world.reseal(found)
        return sealed

    def evaluated(self) -> EvaluationPapers:
        world, evidence, at = self.world, self.evidence, self.documents.at
        training = Permit.from_bytes(evidence.permit.payload_bytes)
        model = EvaluatedModel(artifact=self.model.artifact, plan=self.model.plan)
        plan = EvaluationPlan(
            title="How good is it",
            models=(model,),
            rows="holdout",
            epsilon=0.5,
            delta=1e-5,
            minimum_units=2,
            fairness=TableLayout(attributes=(GENDER,), threshold=0.5),
            spare_exchanges=1,
        )
        plan = self.edited("evaluation_plan", plan)
        permit = training.model_copy(
            update={
                "run_id": "eval-1",
                "kind": "evaluate",
                "plan": plan.digest,
                "rounds": 1,
                "exchanges": plan.exchanges,
                "attempts": plan.attempts,
                "cohort": tuple(
                    NodeGrant(unit=grant.unit, node_key=grant.node_key, epsilon=2.0)
                    for grant in training.cohort
                ),
                "issued_at": at(101),
                "not_before": at(101),
                "expires_at": at(115),
            }
        )
        dpia, decision = self.later_dpia()
        named = {"dpia": dpia.digest, "dpia_decision": decision.digest}
        permit = self.edited("evaluation_permit", permit.model_copy(update=named))
        receipts, reports = self.answers(permit, plan)
        self.evaluation = self.edited("evaluation", self.derived(permit, plan, receipts, reports))
        return EvaluationPapers(
            evaluation=world.sign(self.evaluation),
            permit=world.sign(permit),
            plan=world.sign(plan, world.author),
            dpia=world.sign(dpia),
            dpia_decision=world.sign(decision),
            certificates=evidence.certificates,
            reports=tuple(world.sign(each, world.server) for each in reports),
            receipts=tuple(world.sign(each, world.nodes[each.unit]) for each in receipts),
        )

    def later_dpia(self) -> tuple[Dpia, DpiaDecision]:
        """Return the DPIA of the evaluation: that of the training, or the next version of it."""
        before = Dpia.from_bytes(self.evidence.dpia.payload_bytes)
        dpia = self.edited("evaluation_dpia", before)
        decision = DpiaDecision.from_bytes(self.evidence.dpia_decision.payload_bytes)
        later = decision.model_copy(update={"dpia": dpia.digest})
        return dpia, self.edited("evaluation_decision", later)

    def answers(
        self, permit: Permit, plan: EvaluationPlan
    ) -> tuple[list[Receipt], list[RoundReport]]:
        receipts: list[Receipt] = []
        reports: list[RoundReport] = []
        of_training = Receipt.from_bytes(self.evidence.receipts[-1].payload_bytes)
        for attempt, units in TRIES:
            tried = [
                self.edited("evaluation_receipt", self.receipt(of_training, permit, plan, each))
                for each in ((attempt, unit) for unit in units)
            ]
            report = RoundReport(
                run_id=permit.run_id,
                realm=permit.realm,
                round=1,
                attempt=attempt,
                status="accepted" if len(units) >= 2 else "void",
                asked=self.documents.UNITS,
                answered=tuple(
                    Answer(unit=item.unit, receipt=item.digest, update=item.update)
                    for item in tried
                ),
                unavailable=tuple(u for u in self.documents.UNITS if u not in units),
                model_in=plan.initial_model,
                model_out=plan.initial_model,
                previous_report=reports[-1].digest if reports else None,
                ended_at=self.documents.at(102 + attempt),
            )
            reports.append(self.edited("evaluation_report", report))
            receipts += tried
        return receipts, reports

    def receipt(
        self, like: Receipt, permit: Permit, plan: EvaluationPlan, place: tuple[int, str]
    ) -> Receipt:
        attempt, unit = place
        digest, sha = self.documents.digest, self.documents.sha
        return like.model_copy(
            update={
                "run_id": permit.run_id,
                "unit": unit,
                "round": 1,
                "attempt": attempt,
                "order": digest(f"evaluation order {attempt} {unit}"),
                "permit": permit.digest,
                "plan": plan.digest,
                "event": plan.exchange_event(),
                "applied_epoch": 110 + attempt,
                "ledger_sequence": 20 + attempt,
                "ledger_hash": sha(f"evaluation ledger {attempt} {unit}"),
                "model_in": plan.initial_model,
                "update": digest(f"tables {attempt} {unit}"),
                "answered_at": self.documents.at(102 + attempt),
            }
        )

    def derived(
        self,
        permit: Permit,
        plan: EvaluationPlan,
        receipts: list[Receipt],
        reports: list[RoundReport],
    ) -> Evaluation:
        units = self.documents.UNITS
        last = reports[-1].answered
        events = {unit: [r.event for r in receipts if r.unit == unit] for unit in units}
        outcome = ModelOutcome(
            artifact=self.model.artifact,
            plan=self.model.plan,
            name=self.model.name,
            version=self.model.version,
            numbers=(measured(),),
        )
        return Evaluation(
            run_id=permit.run_id,
            realm=permit.realm,
            simulation=permit.realm == Realm.SIMULATION,
            task=permit.task,
            purpose=permit.purpose,
            plan=plan.digest,
            permit=permit.digest,
            contract=permit.contract,
            dpia=permit.dpia,
            round_report=reports[-1].digest,
            receipts=tuple(answer.receipt for answer in last),
            tables=tuple(answer.update for answer in last),
            rows=plan.rows,
            units=len(last),
            table_epsilon=plan.epsilon / plan.tables,
            level=0.95,
            models=(outcome,),
            opt_out_epochs=tuple(OptOutEpoch(unit=unit, epoch=112) for unit in units),
            epsilon=tuple(
                EpsilonClaim(
                    unit=unit,
                    claim=renyi_epsilon(found, plan.delta),
                    pld=pld_epsilon(found, plan.delta),
                )
                for unit, found in events.items()
            ),
            delta=plan.delta,
            evaluated_at=self.documents.at(105),
        )

    def audit(self, papers: EvaluationPapers) -> FairnessAudit:
        said = self.evaluation
        return FairnessAudit(
            run_id=said.run_id,
            realm=said.realm,
            simulation=said.simulation,
            name=self.model.name,
            version=self.model.version,
            artifact=self.model.artifact,
            number=1,
            plan=said.plan,
            permit=said.permit,
            contract=said.contract,
            dpia=said.dpia,
            evaluation=said.digest,
            tables=said.tables,
            units=said.units,
            table_epsilon=said.table_epsilon,
            found=OPEN if self.waived else PASSED,
            audited_at=self.documents.at(105),
        )

    def waivers(self, audit: FairnessAudit) -> list[Waiver]:
        at = self.documents.at
        first = Waiver(
            name=self.model.name,
            version=self.model.version,
            number=1,
            audit=audit.digest,
            people=("emil",),
            reason="more are asked in June",
            expires_at=at(1000),
            waived_at=at(106),
        )
        first = self.edited("first_waiver", first)
        update = {
            "number": 2,
            "people": ("emil", "paul"),
            "joins": first.digest,
            "waived_at": at(107),
        }
        return [first, self.edited("waiver", first.model_copy(update=update))]

    def approval(self, number: int, person: str, seen: str) -> ModelApproval:
        return ModelApproval(
            name=self.model.name,
            version=self.model.version,
            model=self.model.digest,
            number=number,
            evidence=seen,
            reason="good enough",
            approved_by=person,
            approved_at=self.documents.at(108),
        )

    def moves(self, seen: str, approvals: list[ModelApproval]) -> list[Promotion]:
        """Return how the version became challenger, and champion instead."""
        version, at = self.model.version, self.documents.at
        promoted = {
            "name": self.model.name,
            "step": "promoted",
            "to_version": version,
            "model": self.model.digest,
            "evidence": seen,
            "facts": self.documents.digest("facts"),
            "rules": "0.2.0",
            "reason": "the best so far",
            "moved_by": "nora",
        }
        challenger = Promotion(**promoted, alias="challenger", number=1, moved_at=at(109))
        challenger = self.edited("challenger", challenger)
        vacated = Promotion(
            name=self.model.name,
            alias="challenger",
            number=2,
            previous=challenger.digest,
            step="vacated",
            from_version=version,
            reason="champion instead",
            moved_by="nora",
            moved_at=at(110),
        )
        champion = Promotion(
            **promoted,
            alias="champion",
            number=1,
            approvals=tuple(each.digest for each in approvals),
            moved_at=at(110),
        )
        return [challenger, self.edited("vacated", vacated), self.edited("champion", champion)]
