"""The card of a model version, for people who decide: from recorded facts only. What is not
recorded is said to be not recorded. Pure, like everything here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from fedcore.bulletins import EPOCH_S
from fedcore.contracts import Contract, Label
from fedcore.dpia_record import AnyDpia
from fedcore.drivers import Drivers
from fedcore.early_stopping import proved_of
from fedcore.evaluation_outcomes import Evaluation, ModelOutcome
from fedcore.fairness_audits import FairnessAudit
from fedcore.model_decisions import ModelDecision
from fedcore.models import ModelVersion
from fedcore.permits import Permit
from fedcore.plans import Feature, TrainingPlan
from fedcore.promotions import Promotion
from fedcore.rounds import RoundReport
from governance.decisions.card_judgements import evaluation_section, fairness_section
from governance.decisions.card_parts import NOT_RECORDED, Section, Table, show_at
from governance.decisions.promotion import weigh
from governance.decisions.promotion_facts import PromotionFacts, WaiverFacts
from governance.decisions.rounds import rounds_told
from governance.decisions.segment_card import SegmentStory, segment_sections

T = TypeVar("T")
# The task whose versions are segments, and have no score.
SEGMENTATION = "segmentation"
_DRIVERS = "What drives the score"
_CANNOT = (
    "That a unit told the truth: its administrator can change what its node does and signs.",
    "That a person acted themselves: governance says so, their own key does not.",
    "What becomes of people: the card has no outcome of any decision that was made with a score.",
    "That nobody can be recognised: epsilon bounds what the model tells of one customer.",
)


@dataclass(frozen=True)
class ModelCard:
    """A card as it is shown; `as_of` is when its facts were read."""

    title: str
    as_of: datetime
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class CardFacts:
    """All that a card is made of, as it was recorded.

    Attributes:
        promotion: what the gate of promotion looks at, for a champion.
        dpia: the permit's; `promotion.dpia_state` is the state that counts.
        decisions: those in force on the version, of all units.
        moves: the moves of aliases from or to the version, oldest first.
        aliases: those that the version has now.
        evaluation: the newest one, and what it has found of the version.
        audits: those of the version, the one that decides first.
        drivers: what drives its score, what its segments are, or why neither is told.
    """

    model: ModelVersion
    promotion: PromotionFacts
    permit: Permit | None
    plan: TrainingPlan | None
    contract: Contract | None
    dpia: AnyDpia | None
    reports: Sequence[RoundReport]
    decisions: Sequence[ModelDecision]
    moves: Sequence[Promotion]
    aliases: tuple[str, ...]
    evaluation: tuple[Evaluation, ModelOutcome] | None
    audits: Sequence[FairnessAudit]
    drivers: Drivers | SegmentStory | str


def make_card(facts: CardFacts) -> ModelCard:
    """Return the card of a version."""
    model = facts.model
    return ModelCard(
        title=f"{model.name}, version {model.version}",
        as_of=facts.promotion.now,
        warnings=tuple(_warnings(facts)),
        sections=(
            _identity(facts),
            _purpose(facts),
            _inputs(facts),
            _training(facts),
            _privacy(facts),
            _opt_outs(facts),
            evaluation_section(facts.promotion.floors, facts.evaluation),
            fairness_section(facts.audits, _waiver(facts)),
            *_drivers(facts),
            _standing(facts),
            Section("What this card cannot show", notes=_CANNOT),
        ),
    )


def _warnings(facts: CardFacts) -> Iterable[str]:
    if facts.model.simulation:
        yield "A simulation: it was trained on no real customers and counts for nothing outside."
    if facts.promotion.withdrawn:
        yield "Withdrawn: a decision in force says that this version is not to be used."
    for name, version in facts.promotion.withdrawn_bases:
        yield f"It rests on {name} version {version}, which is withdrawn: it gets no alias."
    if facts.promotion.retrain_due:
        yield "A decision in force says that this version is to be trained anew."


def _identity(facts: CardFacts) -> Section:
    model = facts.model
    return Section(
        "The version",
        facts=(
            ("Document", model.digest),
            ("Artifact", f"{model.artifact}, {model.artifact_bytes} bytes"),
            ("Realm", model.realm),
            ("Run", model.run_id),
            ("Registered", show_at(model.registered_at)),
            ("Alias now", ", ".join(facts.aliases) or "none"),
            ("Plan", f"{_told(facts.plan, lambda plan: plan.title)} ({model.plan})"),
            ("Permit", model.permit),
            ("DPIA", _dpia(facts)),
        ),
    )


def _dpia(facts: CardFacts) -> str:
    if facts.dpia is None:
        return f"{NOT_RECORDED} ({facts.model.dpia})"
    dpia, state = facts.dpia, facts.promotion.dpia_state or NOT_RECORDED
    until = show_at(dpia.valid_until)
    return (
        f"{dpia.title} ({dpia.dpia_id} version {dpia.version}), "
        f"{state.replace('_', ' ')}, valid until {until}"
    )


def _purpose(facts: CardFacts) -> Section:
    contract, permit = facts.contract, facts.permit
    purposes = {item.id: item for item in contract.purposes} if contract else {}
    purpose = purposes.get(permit.purpose) if permit else None
    return Section(
        "What it is for",
        facts=(
            ("Task", facts.model.task),
            ("Purpose", _told(purpose, lambda item: f"{item.text} ({item.id})")),
            ("Legal basis", _told(purpose, lambda item: item.basis.replace("_", " "))),
            _told_of(facts),
            (
                "Data contract",
                _told(contract, lambda c: f"{c.title} ({c.contract_id} version {c.version})"),
            ),
            ("Source of its constants", _told(contract, lambda item: item.source)),
        ),
        notes=("Any other use was assessed by nobody.",),
    )


def _told_of(facts: CardFacts) -> tuple[str, str]:
    if facts.model.task == SEGMENTATION:
        return ("What it tells", "which segment a customer is nearest to; it predicts nothing")
    return ("What it predicts", _told(facts.contract, lambda item: _outcome(item.label)))


def _outcome(label: Label) -> str:
    return (
        f"whether {label.name} is {label.positive} (and not {label.negative}) "
        f"within {label.horizon_days} days"
    )


def _inputs(facts: CardFacts) -> Section:
    if facts.plan is None:
        return Section("Inputs", notes=(f"The plan is {NOT_RECORDED}.",))
    rows = tuple(
        (feature.field, feature.encoding, _range(feature, facts.contract), _absence(feature))
        for feature in facts.plan.features
    )
    return Section("Inputs", table=Table(("Field", "Encoding", "Public range", "Absent"), rows))


def _range(feature: Feature, contract: Contract | None) -> str:
    field = contract.field_by_name.get(feature.field) if contract else None
    if field is None:
        return NOT_RECORDED
    if field.kind == "categorical":
        return ", ".join(feature.levels or field.categories)
    unit = f" {field.unit}" if field.unit else ""
    return f"{field.lower:g} to {field.upper:g}{unit}"


def _absence(feature: Feature) -> str:
    if feature.absent is None:
        return "at every unit"
    if feature.absent == "leave_out":
        return "units that lack it take no part"
    return f"{feature.absent.impute} stands for it at units that lack it"


def _training(facts: CardFacts) -> Section:
    plan, accepted = facts.plan, [r for r in facts.reports if r.status == "accepted"]
    answered = [answer.unit for report in accepted for answer in report.answered]
    units = [grant.unit for grant in facts.permit.cohort] if facts.permit else sorted({*answered})
    rows = tuple((unit, f"{answered.count(unit)} of {len(accepted)}") for unit in units)
    return Section(
        "How it was trained",
        facts=(
            ("Kind", _told(plan, _kind)),
            ("Algorithm", _told(plan, _algorithm)),
            ("Rounds", rounds_told(plan, facts.reports)),
            ("Receipts", str(len(facts.model.receipts))),
            (
                "Fewest units of a round",
                _told(facts.permit, lambda permit: str(permit.minimum_cohort)),
            ),
        ),
        table=Table(("Unit", "Rounds answered"), rows),
    )


def _kind(plan: TrainingPlan) -> str:
    widths, course = ", ".join(str(width) for width in plan.model.hidden), plan.model.course
    if course is not None:
        least, most = course.segments.least, course.segments.most
        where = " in the embedding of an autoencoder" if course.embedding else ""
        return f"centres of {least} to {most} segments, searched with {course.spread}{where}"
    if plan.model.embedding:
        widths = ", ".join(str(width) for width in (*plan.model.hidden, plan.model.embedding))
        return f"autoencoder, layers of {widths} to its embedding, and back"
    return f"{plan.model.kind}, hidden layers of {widths}" if widths else plan.model.kind


def _algorithm(plan: TrainingPlan) -> str:
    chosen = plan.algorithm
    if chosen is None:
        return "a course of releases: noised sums and counts around public centres"
    parts = {
        "local optimizer": chosen.local_optimizer,
        "server optimizer": chosen.server_optimizer,
        "robust": chosen.robust,
    }
    told = [f"{name} {part.kind.replace('_', ' ')}" for name, part in parts.items() if part]
    pulled = [] if chosen.proximal is None else [f"proximal {chosen.proximal:g}"]
    rate = f"local learning rate {chosen.local_learning_rate:g}"
    used = plan.mitigation
    fairer = [] if used is None else [f"{used.kind} by {used.attribute.name}"]
    return ", ".join([chosen.name, rate, *told, *pulled, *fairer])


def _privacy(facts: CardFacts) -> Section:
    terms = facts.plan.privacy if facts.plan else None
    rows = tuple(
        (claim.unit, f"{claim.claim:.4f}", f"{claim.pld:.4f}") for claim in facts.model.epsilon
    )
    return Section(
        "Privacy of customers",
        facts=(
            ("Mode", _told(terms, lambda it: f"{it.mode}: each unit adds its own full noise")),
            ("Clip norm", _told(terms, lambda it: f"{it.l2_clip_norm:g}")),
            ("Noise multiplier", _told(terms, lambda it: f"{it.noise_multiplier:g}")),
            ("Delta", f"{facts.model.delta:g}"),
        ),
        table=Table(("Unit", "Epsilon of this run", "If plans did not depend on outputs"), rows),
        notes=(
            "Of one customer of one unit, added or removed, from the receipts. Other runs add to "
            "it, and answers whose receipts the server withheld: the unit's ledger has the sum.",
            *_charged_before(facts.plan),
            *filter(None, (proved_of(facts.plan) if facts.plan else None,)),
        ),
    )


def _charged_before(plan: TrainingPlan | None) -> tuple[str, ...]:
    course = plan.model.course if plan else None
    if course is None or course.embedding is None:
        return ()
    return ("The autoencoder's own run was charged beside this one.",)


def _opt_outs(facts: CardFacts) -> Section:
    rows = tuple(
        (item.unit, show_at(datetime.fromtimestamp(item.epoch * EPOCH_S, UTC)))
        for item in facts.model.opt_out_epochs
    )
    decided = tuple(
        f"{decision.unit}, up to its opt-out {decision.up_to}: "
        f"{decision.outcome.replace('_', ' ')}{_by(decision)}. {decision.reason}"
        for decision in facts.decisions
    )
    return Section(
        "Opt-outs",
        table=Table(("Unit", "Opt-outs applied up to, at least"), rows),
        notes=(
            "An opt-out that came later did not act on this version: a model does not unlearn.",
            *(decided or (f"Decisions on later opt-outs: {NOT_RECORDED}.",)),
        ),
    )


def _by(decision: ModelDecision) -> str:
    return "" if decision.due_at is None else f" by {show_at(decision.due_at)}"


def _waiver(facts: CardFacts) -> WaiverFacts | None:
    return None if facts.promotion.fairness is None else facts.promotion.fairness.waiver


def _drivers(facts: CardFacts) -> tuple[Section, ...]:
    if isinstance(facts.drivers, SegmentStory):
        return segment_sections(facts.drivers)
    if isinstance(facts.drivers, Drivers):
        return (_drivers_of(facts.drivers),)
    title = "Segments" if facts.model.task == SEGMENTATION else _DRIVERS
    return (Section(title, notes=(facts.drivers,)),)


def _drivers_of(found: Drivers) -> Section:
    rows = tuple((d.field, f"{d.effect:.4f}", d.most, d.least) for d in found.drivers)
    if found.kind == "logistic":
        head, note = (
            "Log-odds from least to most",
            (
                "Exact: what a field adds to the log-odds between the public states that push the "
                "score up most and least."
            ),
        )
    else:
        head, note = (
            "Mean attribution (log-odds)",
            (
                f"Integrated gradients at {found.points} points of a public grid, from the middle "
                f"of all public states. Attributions add up to the score to within {found.gap:.1e}."
            ),
        )
    return Section(
        _DRIVERS,
        table=Table(("Field", head, "Pushes up most", "Pushes up least"), rows),
        notes=(
            note,
            "Told from the model and the contract alone: every public state counts alike, however "
            "many customers are in it. What drives a score is not what causes an outcome.",
        ),
    )


def _standing(facts: CardFacts) -> Section:
    against = [said for _, said in weigh(facts.promotion) if said is not None]
    people = ", ".join(sorted(item.person for item in facts.promotion.counted)) or "nobody"
    moves = tuple(
        (show_at(move.moved_at), f"{move.alias} {move.step.replace('_', ' ')}", move.moved_by)
        for move in facts.moves
    )
    return Section(
        "Where it stands",
        facts=(("Approved, on the evidence as it is now, by", people),),
        table=Table(("When", "Alias", "By"), moves) if moves else None,
        notes=tuple(f"As champion, what speaks against it: {said}" for said in against)
        or ("No rule speaks against it as champion.",),
    )


def _told(source: T | None, tell: Callable[[T], str]) -> str:
    return NOT_RECORDED if source is None else tell(source)
