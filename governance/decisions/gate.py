"""The gate: every rule that a plan must pass before it gets a permit.

A rule looks at the facts and returns None, or a sentence with the way out. A missing fact refuses.
To add a rule is to add a function here, to RULES, and a test; `docs/reference/gate-rules.md` is
made from them (`fedpact governance rules`).
"""

from fedcore import canonical
from fedcore.dpia_record import allowed_inputs
from fedcore.encodings import unfit_absences, unsaid_absences
from fedcore.permits import public_n_of
from fedcore.version import VERSION
from governance.decisions.facts import GateFacts, run_epsilon
from governance.decisions.gate_continuations import CONTINUATION_RULES
from governance.decisions.gate_evaluations import EVALUATION_RULES
from governance.decisions.gate_fairness import FAIRNESS_RULES
from governance.decisions.gate_mitigation import MITIGATION_RULES
from governance.decisions.gate_rule import Refusal, Rule, make_rule
from governance.decisions.stops import concerns


def decide_permit(facts: GateFacts) -> tuple[Refusal, ...]:
    """Return every reason against a permit, in the order of the rules; none means yes.

    Guarantees: monotone: a fact that gets worse or goes missing never turns a refusal into a yes.
    """
    return tuple(
        (rule.code, sentence) for rule in RULES if (sentence := rule.objection(facts)) is not None
    )


@make_rule(
    "plan.author_unknown",
    "The plan is signed with the key of an author who has an account here.",
    "Art. 29, 32(4) GDPR",
)
def _author_unknown(facts: GateFacts) -> str | None:
    if facts.author_known:
        return None
    return "The plan's signer is no author here: register their key."


@make_rule(
    "plan.initial_model_withdrawn",
    "No model that the plan starts from or rests on is a withdrawn one.",
    "Art. 5(1)(a), 17(1)(c) GDPR; internal control",
)
def _initial_model_withdrawn(facts: GateFacts) -> str | None:
    if not facts.initial_model_withdrawn:
        return None
    return (
        "The plan starts from or rests on a model version that was withdrawn, be it as autoencoder "
        "or as the version that it continues: name another one."
    )


@make_rule(
    "contract.unknown",
    "The plan's data contract is published.",
    "Art. 5(2) GDPR",
)
def _contract_unknown(facts: GateFacts) -> str | None:
    if facts.contract is not None and facts.contract.digest == facts.plan.contract:
        return None
    return "The plan's contract is not published: publish it first."


@make_rule(
    "dpia.missing",
    "A DPIA is about the plan's contract or task.",
    "Art. 35(1) GDPR",
)
def _dpia_missing(facts: GateFacts) -> str | None:
    if facts.dpia is not None and facts.dpia_state is not None:
        return None
    return "No DPIA is about this contract or task: take one into force."


@make_rule(
    "dpia.not_in_force",
    "That DPIA was evaluated, advised on and approved, and is in force.",
    "Art. 35(2), 35(7) GDPR",
)
def _dpia_not_in_force(facts: GateFacts) -> str | None:
    if facts.dpia is None or facts.dpia_state in {None, "in_force", "expired"}:
        return None
    return f"The DPIA {facts.dpia.dpia_id} is {facts.dpia_state}: take it into force."


@make_rule(
    "dpia.expired",
    "That DPIA has not expired.",
    "Art. 35(11) GDPR",
)
def _dpia_expired(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    if facts.dpia_state != "expired" and facts.now < facts.dpia.valid_until:
        return None
    return f"The DPIA {facts.dpia.dpia_id} has expired: take a new version into force."


@make_rule(
    "dpia.task_differs",
    "The DPIA is about the plan's task.",
    "Art. 35(7)(a) GDPR",
)
def _dpia_task_differs(facts: GateFacts) -> str | None:
    if facts.dpia is None or facts.dpia.bindings.task == facts.plan.task:
        return None
    return "The DPIA is about another task: plan its task or assess this one."


@make_rule(
    "dpia.contract_differs",
    "The DPIA is about the plan's contract.",
    "Art. 35(7)(a) GDPR",
)
def _dpia_contract_differs(facts: GateFacts) -> str | None:
    if facts.dpia is None or facts.dpia.bindings.contract == facts.plan.contract:
        return None
    return "The DPIA is about another contract: assess this one."


@make_rule(
    "dpia.purpose_not_covered",
    "The DPIA covers the plan's purpose.",
    "Art. 5(1)(b), 35(7)(a) GDPR",
)
def _dpia_purpose_not_covered(facts: GateFacts) -> str | None:
    if facts.dpia is None or facts.plan.purpose in facts.dpia.bindings.purposes:
        return None
    return "The DPIA does not cover the plan's purpose: assess it."


@make_rule(
    "dpia.feature_not_covered",
    "The DPIA covers every input of the plan, and neither forbids it nor calls it a proxy.",
    "Art. 5(1)(c), 35(7)(b) GDPR",
)
def _dpia_feature_not_covered(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    beyond = {feature.field for feature in facts.features} - allowed_inputs(facts.dpia)
    if not beyond:
        return None
    return f"The DPIA does not cover, or does not allow: {_listed(beyond)}; leave it out."


@make_rule(
    "dpia.unit_not_covered",
    "The DPIA covers every unit of the plan.",
    "Art. 26, 35(7)(a) GDPR",
)
def _dpia_unit_not_covered(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    beyond = {terms.unit for terms in facts.plan.units} - set(facts.dpia.bindings.units)
    if not beyond:
        return None
    return f"The DPIA does not cover: {_listed(beyond)}; leave it out."


@make_rule(
    "dpia.privacy_mode_not_covered",
    "The DPIA covers the plan's privacy mode.",
    "Art. 25(1), 35(7)(d) GDPR",
)
def _dpia_mode_not_covered(facts: GateFacts) -> str | None:
    if facts.dpia is None or facts.plan.privacy.mode in facts.dpia.bindings.privacy_modes:
        return None
    return "The DPIA does not cover the plan's privacy mode."


@make_rule(
    "dpia.epsilon_cap_exceeded",
    "The run charges no unit more epsilon than the DPIA allows.",
    "Art. 35(7)(d) GDPR; privacy rules",
)
def _dpia_epsilon_cap_exceeded(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    epsilon, cap = run_epsilon(facts.charged), facts.dpia.bindings.epsilon_cap
    if epsilon <= cap:
        return None
    return (
        f"The run may charge epsilon {epsilon:.4g}, the cap is {cap:.4g}: add noise or shorten it."
    )


@make_rule(
    "dpia.delta_cap_exceeded",
    "The plan's delta is at most the DPIA's.",
    "Art. 35(7)(d) GDPR; privacy rules",
)
def _dpia_delta_cap_exceeded(facts: GateFacts) -> str | None:
    if facts.dpia is None or facts.charged.delta <= facts.dpia.bindings.delta_cap:
        return None
    return "The plan's delta is above the DPIA's cap: lower it."


@make_rule(
    "dpia.too_few_units",
    "The plan has at least as many units as the DPIA asks for.",
    "Art. 35(7)(d) GDPR",
)
def _dpia_too_few_units(facts: GateFacts) -> str | None:
    if facts.dpia is None or len(facts.plan.units) >= facts.dpia.bindings.minimum_units:
        return None
    return f"The DPIA asks for at least {facts.dpia.bindings.minimum_units} units: plan with more."


@make_rule(
    "contract.field_unknown",
    "Every input is a field of the contract.",
    "Art. 5(1)(c), 25(1) GDPR",
)
def _contract_field_unknown(facts: GateFacts) -> str | None:
    if facts.contract is None:
        return None
    unknown = {f.field for f in facts.features} - facts.contract.field_by_name.keys()
    if not unknown:
        return None
    return f"The contract has no field: {_listed(unknown)}; leave it out."


@make_rule(
    "contract.sensitive_input",
    "No input is a special category or a proxy of one.",
    "Art. 9(1) GDPR",
)
def _contract_sensitive_input(facts: GateFacts) -> str | None:
    if facts.contract is None:
        return None
    inputs = {feature.field for feature in facts.features}
    sensitive = {f.name for f in facts.contract.fields if f.sensitivity != "none"} & inputs
    if not sensitive:
        return None
    return f"Never an input: {_listed(sensitive)}; leave it out."


@make_rule(
    "contract.purpose_unknown",
    "The plan's purpose is in the contract's tree of purposes.",
    "Art. 5(1)(b) GDPR",
)
def _contract_purpose_unknown(facts: GateFacts) -> str | None:
    if facts.contract is None:
        return None
    if facts.plan.purpose in {purpose.id for purpose in facts.contract.purposes}:
        return None
    return "The plan's purpose is not in the contract's tree: use one."


@make_rule(
    "plan.absence_unsaid",
    "Of every input that may be absent at a unit, the plan says what happens there.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _absence_unsaid(facts: GateFacts) -> str | None:
    if facts.contract is None:
        return None
    unsaid = set(unsaid_absences(facts.features, facts.contract))
    if not unsaid:
        return None
    return (
        f"May be absent at a unit: {_listed(unsaid)}; impute a constant or leave those units out."
    )


@make_rule(
    "plan.absence_unfit",
    "What the plan imputes is a sound value of a field that may be absent.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _absence_unfit(facts: GateFacts) -> str | None:
    if facts.contract is None:
        return None
    unfit = set(unfit_absences(facts.features, facts.contract))
    if not unfit:
        return None
    return f"At every unit, or imputed outside its values: {_listed(unfit)}; mend `absent`."


@make_rule(
    "unit.not_enrolled",
    "Every unit of the plan is enrolled.",
    "Art. 32(1)(b) GDPR; internal control",
)
def _unit_not_enrolled(facts: GateFacts) -> str | None:
    missing = {terms.unit for terms in facts.plan.units} - facts.certificates.keys()
    if not missing:
        return None
    return f"Not enrolled: {_listed(missing)}; enrol it or leave it out."


@make_rule(
    "unit.revoked",
    "No unit of the plan has left or had its keys revoked.",
    "Art. 32(1)(b) GDPR; internal control",
)
def _unit_revoked(facts: GateFacts) -> str | None:
    revoked = {terms.unit for terms in facts.plan.units} & facts.revoked_units
    if not revoked:
        return None
    return (
        f"Left, or their keys are revoked: {_listed(revoked)}; enrol them anew or leave them out."
    )


@make_rule(
    "unit.public_n_differs",
    "The plan's public size of each unit is that of its certified band.",
    "Internal control: privacy rules",
)
def _unit_public_n_differs(facts: GateFacts) -> str | None:
    differing = {
        terms.unit
        for terms in facts.plan.units
        if (certificate := facts.certificates.get(terms.unit)) is not None
        and terms.public_n != public_n_of(certificate.size_band)
    }
    if not differing:
        return None
    return f"public_n is not 1.5 times the lower end of the declared band: {_listed(differing)}."


@make_rule(
    "permit.kind_not_served",
    "The permit is of a kind that nodes act on, and the plan is one of that kind.",
    "Art. 5(1)(b) GDPR; internal control",
)
def _kind_not_served(facts: GateFacts) -> str | None:
    wanted = "train" if facts.evaluation is None else "evaluate"
    if facts.kind == wanted:
        return None
    if facts.kind == "score":
        return f"No exchange of the kind score exists yet: request a permit to {wanted}."
    return f"The plan is one to {wanted}: request a permit to {wanted}."


@make_rule(
    "stop.in_force",
    "No stop of everything, or of a unit, purpose, task or DPIA of the plan, is in force.",
    "Art. 24(1), 32(1)(b), 35(11) GDPR",
)
def _stop_in_force(facts: GateFacts) -> str | None:
    stops = [stop for stop in facts.stops if concerns(stop, facts.reach)]
    if not stops:
        return None
    named = {stop.scope if stop.subject is None else stop.subject for stop in stops}
    return f"Stopped: {_listed(named)}; another person than the one who stopped it may lift that."


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


RULES: tuple[Rule, ...] = (
    _kind_not_served,
    _stop_in_force,
    _author_unknown,
    _initial_model_withdrawn,
    _contract_unknown,
    _contract_field_unknown,
    _contract_sensitive_input,
    _contract_purpose_unknown,
    _absence_unsaid,
    _absence_unfit,
    _dpia_missing,
    _dpia_not_in_force,
    _dpia_expired,
    _dpia_task_differs,
    _dpia_contract_differs,
    _dpia_purpose_not_covered,
    _dpia_feature_not_covered,
    _dpia_unit_not_covered,
    _dpia_mode_not_covered,
    _dpia_epsilon_cap_exceeded,
    _dpia_delta_cap_exceeded,
    _dpia_too_few_units,
    _unit_not_enrolled,
    _unit_revoked,
    _unit_public_n_differs,
    *CONTINUATION_RULES,
    *EVALUATION_RULES,
    *MITIGATION_RULES,
    *FAIRNESS_RULES,
)

# Which rules a decision was made by: the software's version, and the rules' codes and claims.
RULE_VERSION = (
    f"{VERSION}+"
    + canonical.digest_of([[rule.code, rule.asks, rule.asked_by] for rule in RULES]).removeprefix(
        "sha256:"
    )[:16]
)
