"""Plain documents of one small run, with fixed keys, times and salts; see `World` in conftest."""

import hashlib
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcore.bundle import EvaluationPapers, Evidence
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.dpias import ActRecord, Bindings, DpiaDecision
from fedcore.learning_rules import Algorithm
from fedcore.models import LogEntry
from fedcore.permits import NodeGrant, Permit, UnitCertificate
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.record import Realm
from fedcore.rounds import RoundReport
from fedcore.signing import Envelope, SigningKey

UNITS = ("north", "south", "west")
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
# (round, attempt, answering units); fewer than two answers make a round void.
ROUNDS = (
    (1, 1, ("north", "south", "west")),
    (2, 1, ("north",)),
    (2, 2, ("north", "south")),
    (3, 1, ("north", "south", "west")),
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digest(text: str) -> str:
    return f"sha256:{sha(text)}"


def key_of(name: str) -> SigningKey:
    seed = hashlib.sha256(f"key of {name}".encode()).digest()
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def contract_of() -> Contract:
    return Contract(
        contract_id="telco",
        version=1,
        title="Telco churn",
        source="public tariff sheet",
        subject=SubjectRule(
            column="customer_id", namespace="telco-customer", normaliser="trim-upper/1"
        ),
        fields=(
            ContractField(name="tenure", kind="numeric", unit="months", lower=0, upper=72),
            ContractField(name="plan", kind="categorical", categories=("basic", "plus")),
            ContractField(
                name="gender",
                kind="categorical",
                categories=("female", "male"),
                sensitivity="sensitive",
            ),
        ),
        label=Label(name="churn", positive="Yes", negative="No", horizon_days=30),
        purposes=(
            Purpose(id="marketing", text="Direct marketing", basis="legitimate_interests"),
            Purpose(id="retention", text="Keep customers", parent="marketing", basis="consent"),
        ),
        retention_days=365,
    )


def plan_of(contract: Contract) -> TrainingPlan:
    return TrainingPlan(
        title="Churn over three units",
        task="churn",
        purpose="retention",
        contract=contract.digest,
        features=(
            Feature(field="tenure", encoding="scale"),
            Feature(field="plan", encoding="onehot"),
        ),
        units=tuple(UnitTerms(unit=unit, public_n=1536) for unit in UNITS),
        minimum_units=2,
        model=ModelSpec(kind="logistic"),
        initial_model=digest("initial model"),
        algorithm=Algorithm(local_learning_rate=0.5),
        rounds=3,
        spare_rounds=1,
        attempts=2,
        privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, local_steps=2, delta=1e-5),
    )


def segmentation_plan_of(contract: Contract) -> TrainingPlan:
    """Return a plan of centres, which have a course instead of an algorithm."""
    course = CourseSpec(segments=SegmentCount(least=2, most=5), spread=12)
    privacy = PrivacyTerms(l2_clip_norm=course.l2_sensitivity, noise_multiplier=8.0, delta=1e-5)
    update = {
        "title": "Segments over three units",
        "task": "segmentation",
        "features": (Feature(field="tenure", encoding="scale"),),
        "model": ModelSpec(kind="centres", course=course),
        "algorithm": None,
        "rounds": course.terms.releases,
        "privacy": privacy,
    }
    return TrainingPlan(**{**dict(plan_of(contract)), **update})


def dpia_of(contract: Contract) -> Dpia:
    return Dpia(
        dpia_id="churn-2026",
        version=1,
        title="Churn models",
        description="Train churn models over three units",
        necessity="No less intrusive way serves the purpose",
        bindings=Bindings(
            task="churn",
            purposes=("retention",),
            contract=contract.digest,
            features=("tenure", "plan"),
            units=UNITS,
            privacy_modes=("local",),
            epsilon_cap=3.0,
            delta_cap=1e-5,
            minimum_units=2,
        ),
        valid_until=at(60 * 24 * 365),
    )


def decision_of(dpia: Dpia) -> DpiaDecision:
    people = {"submit": "ada", "evaluate": "ben", "advise": "cem", "approve": "dora"}
    return DpiaDecision(
        dpia=dpia.digest,
        state="in_force",
        acts=tuple(
            ActRecord(act=act, actor=person, note="considered", acted_at=at(number))  # type: ignore[arg-type]
            for number, (act, person) in enumerate(people.items())
        ),
        decided_at=at(20),
        valid_until=at(60 * 24 * 365),
    )


def certificate_of(unit: str, key: SigningKey) -> UnitCertificate:
    return UnitCertificate(
        unit=unit,
        node_key=key.public,
        size_band=1024,
        enrolment=digest(f"enrolment {unit}"),
        issued_at=at(-10),
    )


def entries_of(evidence: Evidence) -> list[LogEntry]:
    """Return log entries for all documents of the evidence: the model version is the last one of
    its run, and what it was judged by comes behind it."""
    logged = [
        *(entry_of(envelope) for envelope in before_rounds(evidence)),
        *(entry_of(envelope) for envelope in in_rounds(evidence)),
        *(entry_of(envelope) for envelope in evidence.renewals),
        *(entry_of(envelope) for envelope in evidence.handovers),
        entry_of(evidence.model_version),
        *(entry_of(envelope) for envelope in after_model(evidence)),
        *(entry_of(item) for item in [evidence.revocation] if item is not None),
    ]
    return list({entry.document: entry for entry in logged}.values())


def after_model(evidence: Evidence) -> list[Envelope]:
    """Return what the model was judged by; what is in the log already is there a second time."""
    found: list[Envelope] = []
    for papers in evidence.evaluations:
        found += [papers.plan, papers.dpia, papers.dpia_decision, *papers.certificates]
        found += [papers.permit, *papers.renewals, *in_rounds(papers), papers.evaluation]
        found += [item for item in [papers.revocation] if item is not None]
    judged = evidence.judgements
    return [*found, *judged.audits, *judged.waivers, *judged.approvals, *judged.moves]


def entry_of(envelope: Envelope) -> LogEntry:
    """Return a document's entry, its kind being the name of its schema."""
    kind = envelope.payload_type.removeprefix("application/vnd.fedpact.").partition(".v")[0]
    return LogEntry(kind=kind, document=envelope.digest, salt=sha(f"salt {envelope.digest}"))


def before_rounds(evidence: Evidence) -> list[Envelope]:
    """Return what is in the log before the first round."""
    named = [evidence.contract, evidence.plan, evidence.dpia, evidence.dpia_decision]
    return [*named, *evidence.certificates, evidence.permit]


def in_rounds(evidence: Evidence | EvaluationPapers) -> list[Envelope]:
    """Return receipts and reports as they come: receipts that belong to no report are the last."""
    left = {envelope.digest: envelope for envelope in evidence.receipts}
    found: list[Envelope] = []
    for report in evidence.reports:
        answered = RoundReport.from_bytes(report.payload_bytes).answered
        found += [left.pop(item.receipt) for item in answered if item.receipt in left]
        found.append(report)
    return [*found, *left.values()]


def permit_of(
    realm: Realm, plan: TrainingPlan, contract: Contract, dpia: Dpia, decision: DpiaDecision
) -> Permit:
    return Permit(
        run_id="run-1",
        realm=realm,
        plan=plan.digest,
        contract=contract.digest,
        dpia=dpia.digest,
        dpia_decision=decision.digest,
        task=plan.task,
        purpose=plan.purpose,
        cohort=tuple(
            NodeGrant(unit=unit, node_key=key_of(unit).public, epsilon=3.0) for unit in UNITS
        ),
        minimum_cohort=2,
        author_key=key_of("author").public,
        server_key=key_of("server").public,
        rounds=plan.rounds,
        exchanges=plan.exchanges,
        attempts=plan.attempts,
        delta=plan.privacy.delta,
        min_opt_out_epoch=100,
        accepted_versions=("0.1.0",),
        issued_at=at(30),
        not_before=at(30),
        expires_at=at(90),
    )
