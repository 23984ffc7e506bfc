"""The gate of promotion: every rule that a model version must pass before it gets an alias.

A rule looks at the facts and returns None, or a sentence with the way out. A missing fact refuses.
A challenger stands beside the champion to be compared with it, so that what a comparison brings is
asked of the champion only. To add a rule is to add a function here, to RULES, and a test;
`docs/reference/gate-rules.md` is made from them (`fedpact governance rules`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fedcore import canonical
from fedcore.promotions import Alias
from fedcore.version import VERSION
from governance.decisions.gate_rule import Refusal
from governance.decisions.promotion_facts import PromotionFacts, WaiverFacts

# So many people approve, and so many stand for a waiver.
PEOPLE = 2


@dataclass(frozen=True)
class PromotionRule:
    """One rule of promotion.

    Attributes:
        code: the reason code of its refusal.
        asks: what must hold, as one sentence.
        asked_by: the article that asks for it, or "internal control".
        of_challenger: whether a challenger is held to it as well.
        objection: returns None, or a sentence with the way out.
    """

    code: str
    asks: str
    asked_by: str
    of_challenger: bool
    objection: Callable[[PromotionFacts], str | None]

    def holds_for(self, alias: Alias) -> bool:
        """Return whether the rule is asked for an alias."""
        return self.of_challenger or alias == "champion"


def decide_promotion(facts: PromotionFacts) -> tuple[Refusal, ...]:
    """Return every reason against a promotion, in the order of the rules; none means yes.

    Guarantees: monotone: a fact that gets worse or goes missing never turns a refusal into a yes.
    """
    return tuple((rule.code, sentence) for rule, sentence in weigh(facts) if sentence is not None)


def weigh(facts: PromotionFacts) -> tuple[tuple[PromotionRule, str | None], ...]:
    """Return all rules for the alias, each with what speaks against it, or None."""
    return tuple((rule, rule.objection(facts)) for rule in RULES if rule.holds_for(facts.alias))


def _rule(
    code: str, asks: str, asked_by: str, *, of_challenger: bool = True
) -> Callable[[Callable[[PromotionFacts], str | None]], PromotionRule]:
    return lambda objection: PromotionRule(code, asks, asked_by, of_challenger, objection)


@_rule(
    "promotion.simulation",
    "The version comes from real units, not from a simulation.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _simulation(facts: PromotionFacts) -> str | None:
    if not facts.simulation:
        return None
    return "The version comes from a simulation: train the plan in production."


@_rule(
    "promotion.withdrawn",
    "No unit's decision in force has withdrawn the version.",
    "Art. 5(1)(a), 17(1)(c) GDPR; internal control",
)
def _withdrawn(facts: PromotionFacts) -> str | None:
    if not facts.withdrawn:
        return None
    return "The version is withdrawn: take another one, or have another person decide anew."


@_rule(
    "promotion.basis_withdrawn",
    "No model that the version starts from or rests on is withdrawn.",
    "Art. 5(1)(a), 17(1)(c) GDPR; internal control",
)
def _basis_withdrawn(facts: PromotionFacts) -> str | None:
    if not facts.withdrawn_bases:
        return None
    named = _listed(f"{name} {version}" for name, version in facts.withdrawn_bases)
    return f"It rests on what was withdrawn: {named}; train it anew on another one."


@_rule(
    "promotion.retrain_due",
    "No unit's decision in force says that the version is to be trained anew.",
    "Art. 5(1)(a), 21(3) GDPR; internal control",
)
def _retrain_due(facts: PromotionFacts) -> str | None:
    if not facts.retrain_due:
        return None
    return "The version is to be trained anew: promote the one that follows, or decide anew."


@_rule(
    "promotion.stopped",
    "No stop of everything, or of a unit, purpose, task or DPIA of the version, is in force.",
    "Art. 24(1), 32(1)(b), 35(11) GDPR",
)
def _stopped(facts: PromotionFacts) -> str | None:
    if not facts.stopped_by:
        return None
    named = {stop.scope if stop.subject is None else stop.subject for stop in facts.stopped_by}
    return f"Stopped: {_listed(named)}; another person than the one who stopped it may lift that."


@_rule(
    "promotion.evidence_missing",
    "Plan, permit, contract, DPIA and its decision, round reports and receipts are here.",
    "Art. 5(2), 30 GDPR",
)
def _evidence_missing(facts: PromotionFacts) -> str | None:
    missing = {"everything"} if facts.evidence is None else facts.evidence.missing
    if not missing:
        return None
    return f"Not here: {_listed(missing)}; restore the database, or promote another version."


@_rule(
    "promotion.permit_revoked",
    "The permit of the version's run stood when the version was registered.",
    "Art. 5(2), 24(1) GDPR",
)
def _permit_revoked(facts: PromotionFacts) -> str | None:
    if facts.evidence is None or not facts.evidence.permit_revoked:
        return None
    return "The permit was revoked before: promote a version of another run."


@_rule(
    "promotion.rounds_incomplete",
    "Every round of the permit was accepted with its minimum of answers, and released these bytes.",
    "Art. 5(2) GDPR; internal control",
)
def _rounds_incomplete(facts: PromotionFacts) -> str | None:
    if facts.evidence is None:
        return None
    numbers = facts.evidence.open_rounds | facts.evidence.thin_rounds
    if numbers:
        told = ", ".join(str(number) for number in sorted(numbers))
        return f"No accepted report, or too few answers: round {told}; finish a run."
    if facts.evidence.other_artifact:
        return "The run released other bytes than the version's: register what it released."
    return None


@_rule(
    "promotion.receipts_missing",
    "Every answer of every accepted round has its unit's signed receipt.",
    "Art. 5(2), 30 GDPR",
)
def _receipts_missing(facts: PromotionFacts) -> str | None:
    if facts.evidence is None or not facts.evidence.unreceipted:
        return None
    places = [f"{unit} in round {number}" for number, unit in sorted(facts.evidence.unreceipted)]
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"No receipt: {', '.join(places[:5])}{more}; restore it, or promote another version."


@_rule(
    "promotion.opt_outs_unapplied",
    "Every unit that trained had applied the opt-outs up to the permit's epoch, and it is said.",
    "Art. 21(3), 5(2) GDPR",
)
def _opt_outs_unapplied(facts: PromotionFacts) -> str | None:
    if facts.evidence is None or not facts.evidence.stale_units:
        return None
    return f"Opt-outs not shown as applied: {_listed(facts.evidence.stale_units)}; train anew."


@_rule(
    "promotion.not_logged",
    "Every paper of the version has its place in the log.",
    "Art. 5(2) GDPR; internal control",
)
def _not_logged(facts: PromotionFacts) -> str | None:
    if facts.evidence is None or not facts.evidence.unlogged:
        return None
    return f"Not in the log: {_listed(facts.evidence.unlogged)}; look who changed the database."


@_rule(
    "promotion.dpia_not_in_force",
    "The DPIA of the permit, or a newer version that covers the same, is in force.",
    "Art. 35(1), 35(11) GDPR",
)
def _dpia_not_in_force(facts: PromotionFacts) -> str | None:
    if facts.dpia_state == "in_force":
        return None
    state = facts.dpia_state or "missing"
    return f"The DPIA is {state}: take a version of it into force that covers this model."


@_rule(
    "promotion.author_unknown",
    "Who wrote the plan is known, so that nobody judges their own work unseen.",
    "Internal control: separation of duties",
)
def _author_unknown(facts: PromotionFacts) -> str | None:
    if facts.plan_author is not None:
        return None
    return "Nobody here has the key that signed the plan: register its author."


@_rule(
    "promotion.own_plan",
    "Who moves the alias has not written the plan.",
    "Internal control: separation of duties",
)
def _own_plan(facts: PromotionFacts) -> str | None:
    if facts.plan_author is None or facts.person != facts.plan_author:
        return None
    return "You wrote the plan: another person moves the alias."


@_rule(
    "promotion.evaluation_missing",
    "The version was evaluated at the units.",
    "Art. 5(1)(d), 35(7)(d) GDPR",
    of_challenger=False,
)
def _evaluation_missing(facts: PromotionFacts) -> str | None:
    if facts.evaluation is not None and facts.evaluation.model == facts.model:
        return None
    return "There is no evaluation of this version: run one."


@_rule(
    "promotion.floor_missed",
    "Every metric reaches the plan's floor, with the lower end of its interval.",
    "Art. 5(1)(d) GDPR; internal control",
    of_challenger=False,
)
def _floor_missed(facts: PromotionFacts) -> str | None:
    if facts.floors is None:
        return "The plan's floors are not known: its plan is missing."
    found = {} if facts.evaluation is None else facts.evaluation.metrics
    # Written so that what is not a number reaches nothing.
    missed = [
        f"{name} {'not evaluated' if name not in found else f'{found[name].low:.4g}'}, {floor:.4g}"
        for name, floor in sorted(facts.floors.items())
        if name not in found or not found[name].low >= floor
    ]
    if not missed:
        return None
    return f"Below the plan's floor: {'; '.join(missed)}. Train a better version, or evaluate more."


@_rule(
    "promotion.fairness_missing",
    "The version's fairness was audited.",
    "Art. 5(1)(a), 35(7)(c) GDPR",
    of_challenger=False,
)
def _fairness_missing(facts: PromotionFacts) -> str | None:
    if facts.fairness is not None and facts.fairness.model == facts.model:
        return None
    return "There is no fairness audit of this version: run one."


@_rule(
    "promotion.fairness_not_passed",
    "The audit says PASS, or a waiver of two named people stands beside it.",
    "Art. 5(1)(a), 22(3), 35(7)(d) GDPR",
    of_challenger=False,
)
def _fairness_not_passed(facts: PromotionFacts) -> str | None:
    fairness = facts.fairness
    if fairness is None or fairness.verdict == "PASS" or fairness.waiver is not None:
        return None
    return f"The audit says {fairness.verdict}: train a better model, or have two people waive it."


@_rule(
    "promotion.waiver_void",
    "A waiver that is needed has two people, none of them the plan's author, a reason, and time.",
    "Art. 5(2) GDPR; internal control",
    of_challenger=False,
)
def _waiver_void(facts: PromotionFacts) -> str | None:
    fairness = facts.fairness
    if fairness is None or fairness.verdict == "PASS" or fairness.waiver is None:
        return None
    faults = _faults_of(fairness.waiver, facts)
    return f"The waiver does not count: {', '.join(faults)}; make a new one." if faults else None


@_rule(
    "promotion.approvals_missing",
    "Two people, none of them the plan's author, have approved the evidence as it is now.",
    "Art. 5(2), 22(3) GDPR; internal control",
    of_challenger=False,
)
def _approvals_missing(facts: PromotionFacts) -> str | None:
    people = {approval.person for approval in facts.counted}
    if len(people) >= PEOPLE:
        return None
    return f"{len(people)} of {PEOPLE} people have approved this evidence: ask for the others."


def _faults_of(waiver: WaiverFacts, facts: PromotionFacts) -> list[str]:
    faults = []
    if len(set(waiver.people) - {facts.plan_author}) < PEOPLE:
        faults.append(f"fewer than {PEOPLE} people besides the plan's author")
    if not waiver.reason.strip():
        faults.append("no reason")
    if facts.now >= waiver.expires_at:
        faults.append("expired")
    return faults


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


RULES: tuple[PromotionRule, ...] = (
    _simulation,
    _withdrawn,
    _basis_withdrawn,
    _retrain_due,
    _stopped,
    _evidence_missing,
    _permit_revoked,
    _rounds_incomplete,
    _receipts_missing,
    _opt_outs_unapplied,
    _not_logged,
    _dpia_not_in_force,
    _author_unknown,
    _own_plan,
    _evaluation_missing,
    _floor_missed,
    _fairness_missing,
    _fairness_not_passed,
    _waiver_void,
    _approvals_missing,
)

# Which rules an answer was given by: the software's version, and the rules' codes and claims.
RULE_VERSION = (
    f"{VERSION}+"
    + canonical.digest_of(
        [[rule.code, rule.asks, rule.asked_by, rule.of_challenger] for rule in RULES]
    ).removeprefix("sha256:")[:16]
)
