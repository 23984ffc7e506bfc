"""What it takes to evaluate in a small world: models trained with rows set aside, and answers."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedcore.canonical import digest
from fedcore.dpia_record import Dpia
from fedcore.dpias import FairnessBound
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.fairness_audits import FairnessAudit
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.rounds import Receipt, RoundReport
from fedcore.score_tables import DEFAULT_BINS
from fedcore.signing import Envelope

UNITS = ("north", "south")
CONSENT = "Explicit consent, Art. 9(2)(a)"
RELIGION = SensitiveAttribute(name="religion", groups=("low", "high"), edges=(5.0,))
LAYOUT = TableLayout(attributes=(RELIGION,), threshold=0.5)
# What a unit counts, of each group TN, FN, FP, TP.
COUNTS = {
    "alike": (2400, 150, 600, 450, 1200, 75, 300, 225),
    "one selected more": (2400, 150, 600, 450, 600, 50, 900, 250),
    "hardly anybody in one": (2400, 150, 600, 450, 5, 0, 2, 1),
}


@dataclass
class Evaluating:
    """A world with models that can be evaluated, by the names of the runs that trained them."""

    world: Any
    trained: dict[str, EvaluatedModel] = field(default_factory=dict)
    name: str = "churn"
    groups: str = "alike"
    layout: TableLayout = LAYOUT
    # By group, and of each group by segment.
    segment_counts: tuple[int, ...] = ()

    def audited_dpia(
        self, version: int, condition: str | None = CONSENT, threshold: float | None = None
    ) -> Dpia:
        """A DPIA that binds an audit by religion, and why it may be made."""
        before: Dpia = self.world.dpia()
        said = {"special_condition": "Art. 9(2)(a)"}
        purposes = tuple(each.model_copy(update=said) for each in before.purposes)
        (first, *others) = before.inventory
        listed = first.model_copy(update={"fields": (*first.fields, "religion")})
        religion = LAYOUT.attributes[0].model_copy(update={"special_condition": condition})
        bound = FairnessBound(
            attribute="religion", metric="demographic_parity_difference", largest_gap=0.1
        )
        changes = {
            "fairness": (bound,),
            "fairness_audit": AuditTerms(attributes=(religion,), threshold=threshold),
            "epsilon_cap": 10.0,
        }
        return before.model_copy(
            update={
                "version": version,
                "purposes": purposes,
                "inventory": (listed, *others),
                "bindings": before.bindings.model_copy(update=changes),
            }
        )

    def audit(self, run: str, run_id: str, groups: str, threshold: float = 0.5) -> FairnessAudit:
        """Evaluate a run's model on units whose groups are so; return the audit."""
        self.groups = groups
        layout = LAYOUT.model_copy(update={"threshold": threshold})
        plan = self.plan(run, title=run_id, fairness=layout)
        self.register(plan)
        tables = self.answered(plan, self.permit(plan, run_id))
        self.world.gateway("operator").submit_tables(run_id, self.signed(tables))
        found: FairnessAudit = self.world.open(
            self.world.gateway("auditor").fetch_audit(run_id), FairnessAudit
        )
        return found

    def training_plan(self, title: str, **changes: Any) -> TrainingPlan:
        """A plan to train by that sets customers aside."""
        plan: TrainingPlan = self.world.plan(**{"title": title, "holdout": 0.2, **changes})
        return plan

    def train(self, run_id: str, artifact: bytes, **changes: Any) -> EvaluatedModel:
        """Run a plan to its end and register what it has released."""
        world, plan = self.world, self.training_plan(run_id, **changes)
        world.register(plan)
        permit, previous = world.permit(run_id, plan), None
        for number in (1, 2):
            about = {"plan": plan.digest, "contract": plan.contract}
            if number == 1:
                about["model_in"] = plan.initial_model
            receipts = [world.receipt(permit, unit, number, **about) for unit in UNITS]
            released = {"released": digest(artifact)} if number == 2 else {}
            previous = world.report(receipts, previous, **released)
            world.submit(previous, receipts)
        world.gateway("operator").register_model(run_id, self.name, artifact)
        self.trained[run_id] = EvaluatedModel(artifact=digest(artifact), plan=plan.digest)
        return self.trained[run_id]

    def plan(self, *runs: str, **changes: Any) -> EvaluationPlan:
        """A plan to evaluate the models of these runs, of all without any."""
        values = {
            "title": "How good is it",
            "models": tuple(self.trained[run] for run in runs or self.trained),
            "rows": "holdout",
            "epsilon": 0.5,
            "delta": 1e-5,
            "minimum_units": 2,
            "spare_exchanges": 1,
        }
        return EvaluationPlan(**{**values, **changes})

    def register(self, plan: EvaluationPlan, author: str = "author") -> str:
        signed = self.world.sign(plan, author)
        return str(self.world.gateway(author).register_evaluation_plan(signed))

    def permit(self, plan: EvaluationPlan, run_id: str = "eval-1") -> Permit:
        gateway = self.world.gateway("operator")
        envelope = gateway.request_permit(plan.digest, run_id, "evaluate")
        permit: Permit = self.world.open(envelope, Permit)
        return permit

    def permitted(self, *runs: str, **changes: Any) -> tuple[EvaluationPlan, Permit]:
        """A registered plan and the permit of run eval-1."""
        plan = self.plan(*runs, **changes)
        self.register(plan)
        return plan, self.permit(plan)

    def tables(
        self, plan: EvaluationPlan, unit: str, run_id: str = "eval-1", **changes: Any
    ) -> NoisedTables:
        """What a unit of 6000 customers counts, the better model first, with a little noise."""
        seed = int.from_bytes(hashlib.sha256(f"{unit} {run_id}".encode()).digest()[:4], "big")
        draw = np.random.default_rng(seed)
        tables = [] if plan.segments is None else [self.segment_counts]
        for place in range(len(plan.models) if plan.segments is None else 0):
            labels = draw.random(6000) < 0.2
            scores = 1 / (1 + np.exp(1.0 - (2.0 - place) * labels - draw.normal(size=6000)))
            counts = np.zeros(DEFAULT_BINS.size, dtype=np.int64)
            np.add.at(counts, labels * DEFAULT_BINS.count + DEFAULT_BINS.bin_of(scores), 1)
            counts += draw.integers(-1, 2, counts.size)
            tables.append(tuple(int(count) for count in counts))
        if plan.fairness is not None:
            tables.append(COUNTS[self.groups])
        values = {"run_id": run_id, "unit": unit, "tables": tuple(tables)}
        return NoisedTables(**{**values, **changes})

    def receipt(
        self, asked: EvaluationPlan, permit: Permit, tables: NoisedTables, **changes: Any
    ) -> Receipt:
        """A unit's receipt for these tables, as an answer to the first order."""
        terms = {
            "plan": asked.digest,
            "event": asked.exchange_event(),
            "model_in": asked.initial_model,
            "update": tables.digest,
        }
        receipt: Receipt = self.world.receipt(permit, tables.unit, 1, **{**terms, **changes})
        return receipt

    def report(
        self, receipts: list[Receipt], previous: RoundReport | None = None, **changes: Any
    ) -> RoundReport:
        """The report of a round in which these answered."""
        kept = {"model_out": receipts[0].model_in, "released": None}
        report: RoundReport = self.world.report(receipts, previous, **{**kept, **changes})
        return report

    def answered(self, plan: EvaluationPlan, permit: Permit) -> list[NoisedTables]:
        """Report a round that all units have answered; return their tables."""
        tables = [self.tables(plan, unit, permit.run_id) for unit in UNITS]
        receipts = [self.receipt(plan, permit, each) for each in tables]
        self.world.submit(self.report(receipts), receipts)
        return tables

    def signed(self, tables: list[NoisedTables], signer: str = "operator") -> list[Envelope]:
        return [self.world.sign(each, signer) for each in tables]
