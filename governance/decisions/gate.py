"""The gate: every rule that a plan must pass before it gets a permit.

A rule looks at the facts and returns None, or its reason code and a sentence with the way out. A
missing fact refuses. To add a rule is to add a function here, to RULES, and a test.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.dpia_record import AnyDpia
from fedcore.dpias import DpiaState
from fedcore.permits import UnitCertificate, public_n_of
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon

Refusal = tuple[str, str]


@dataclass(frozen=True)
class GateFacts:
    """All that the gate looks at. `dpia_state` is the state that counts at `now`; `revoked_units`
    have left, or their keys are revoked.
    """

    plan: TrainingPlan
    author_known: bool
    contract: Contract | None
    dpia: AnyDpia | None
    dpia_state: DpiaState | None
    certificates: Mapping[str, UnitCertificate]
    now: datetime
    revoked_units: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """The digest of the facts, kept with the decision."""
        return canonical.digest_of(
            {
                "plan": self.plan.digest,
                "author_known": self.author_known,
                "contract": self.contract.digest if self.contract else None,
                "dpia": self.dpia.digest if self.dpia else None,
                "dpia_state": self.dpia_state,
                "certificates": {unit: c.digest for unit, c in self.certificates.items()},
                "revoked_units": sorted(self.revoked_units),
                "now": self.now.isoformat(),
            }
        )


def decide_permit(facts: GateFacts) -> tuple[Refusal, ...]:
    """Return every reason against a permit, in the order of the rules; none means yes.

    Guarantees: monotone: a fact that gets worse or goes missing never turns a refusal into a yes.
    """
    return tuple(refusal for rule in RULES if (refusal := rule(facts)) is not None)


def choose_dpia(
    plan: TrainingPlan, candidates: list[tuple[AnyDpia, DpiaState]]
) -> tuple[AnyDpia, DpiaState] | None:
    """Return the DPIA that a plan is held against, or None when no one is about it.

    It is the one that fits contract, task and units best; among equals one in force, then the
    newest.

    Args: candidates oldest first, each with the state that counts now.
    """
    about = [
        (fit, state == "in_force", order)
        for order, (dpia, state) in enumerate(candidates)
        if (fit := _fit(plan, dpia)) > 0
    ]
    return candidates[max(about)[2]] if about else None


def run_epsilon(plan: TrainingPlan) -> float:
    """Return the most epsilon that the plan's run may charge to one unit, rounded up to 1e-9."""
    epsilon = renyi_epsilon([plan.run_event()], plan.privacy.delta)
    return math.ceil(epsilon * 1e9) / 1e9 if math.isfinite(epsilon) else epsilon


def _fit(plan: TrainingPlan, dpia: AnyDpia) -> int:
    bindings = dpia.bindings
    same_contract = bindings.contract == plan.contract
    same_task = bindings.task == plan.task
    if not (same_contract or same_task):
        return 0
    all_units = {terms.unit for terms in plan.units} <= set(bindings.units)
    return 1 + same_contract + same_task + all_units


def _author_unknown(facts: GateFacts) -> Refusal | None:
    if facts.author_known:
        return None
    return "plan.author_unknown", "The plan's signer is no author here: register their key."


def _contract_unknown(facts: GateFacts) -> Refusal | None:
    if facts.contract is not None and facts.contract.digest == facts.plan.contract:
        return None
    return "contract.unknown", "The plan's contract is not published: publish it first."


def _dpia_missing(facts: GateFacts) -> Refusal | None:
    if facts.dpia is not None and facts.dpia_state is not None:
        return None
    return "dpia.missing", "No DPIA is about this contract or task: take one into force."


def _dpia_not_in_force(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or facts.dpia_state in {None, "in_force", "expired"}:
        return None
    return (
        "dpia.not_in_force",
        f"The DPIA {facts.dpia.dpia_id} is {facts.dpia_state}: take it into force.",
    )


def _dpia_expired(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None:
        return None
    if facts.dpia_state != "expired" and facts.now < facts.dpia.valid_until:
        return None
    return (
        "dpia.expired",
        f"The DPIA {facts.dpia.dpia_id} has expired: take a new version into force.",
    )


def _dpia_task_differs(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or facts.dpia.bindings.task == facts.plan.task:
        return None
    return "dpia.task_differs", "The DPIA is about another task: plan its task or assess this one."


def _dpia_contract_differs(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or facts.dpia.bindings.contract == facts.plan.contract:
        return None
    return "dpia.contract_differs", "The DPIA is about another contract: assess this one."


def _dpia_purpose_not_covered(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or facts.plan.purpose in facts.dpia.bindings.purposes:
        return None
    return "dpia.purpose_not_covered", "The DPIA does not cover the plan's purpose: assess it."


def _dpia_feature_not_covered(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None:
        return None
    beyond = {feature.field for feature in facts.plan.features} - set(facts.dpia.bindings.features)
    if not beyond:
        return None
    return "dpia.feature_not_covered", f"The DPIA does not cover: {_listed(beyond)}; leave it out."


def _dpia_unit_not_covered(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None:
        return None
    beyond = {terms.unit for terms in facts.plan.units} - set(facts.dpia.bindings.units)
    if not beyond:
        return None
    return "dpia.unit_not_covered", f"The DPIA does not cover: {_listed(beyond)}; leave it out."


def _dpia_mode_not_covered(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or facts.plan.privacy.mode in facts.dpia.bindings.privacy_modes:
        return None
    return "dpia.privacy_mode_not_covered", "The DPIA does not cover the plan's privacy mode."


def _dpia_epsilon_cap_exceeded(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None:
        return None
    epsilon, cap = run_epsilon(facts.plan), facts.dpia.bindings.epsilon_cap
    if epsilon <= cap:
        return None
    return (
        "dpia.epsilon_cap_exceeded",
        f"The run may charge epsilon {epsilon:.4g}, the cap is {cap:.4g}: add noise or shorten it.",
    )


def _dpia_delta_cap_exceeded(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or facts.plan.privacy.delta <= facts.dpia.bindings.delta_cap:
        return None
    return "dpia.delta_cap_exceeded", "The plan's delta is above the DPIA's cap: lower it."


def _dpia_too_few_units(facts: GateFacts) -> Refusal | None:
    if facts.dpia is None or len(facts.plan.units) >= facts.dpia.bindings.minimum_units:
        return None
    return (
        "dpia.too_few_units",
        f"The DPIA asks for at least {facts.dpia.bindings.minimum_units} units: plan with more.",
    )


def _contract_field_unknown(facts: GateFacts) -> Refusal | None:
    if facts.contract is None:
        return None
    unknown = {f.field for f in facts.plan.features} - facts.contract.field_by_name.keys()
    if not unknown:
        return None
    return "contract.field_unknown", f"The contract has no field: {_listed(unknown)}; leave it out."


def _contract_sensitive_input(facts: GateFacts) -> Refusal | None:
    if facts.contract is None:
        return None
    inputs = {feature.field for feature in facts.plan.features}
    sensitive = {f.name for f in facts.contract.fields if f.sensitivity != "none"} & inputs
    if not sensitive:
        return None
    return "contract.sensitive_input", f"Never an input: {_listed(sensitive)}; leave it out."


def _contract_purpose_unknown(facts: GateFacts) -> Refusal | None:
    if facts.contract is None:
        return None
    if facts.plan.purpose in {purpose.id for purpose in facts.contract.purposes}:
        return None
    return "contract.purpose_unknown", "The plan's purpose is not in the contract's tree: use one."


def _unit_not_enrolled(facts: GateFacts) -> Refusal | None:
    missing = {terms.unit for terms in facts.plan.units} - facts.certificates.keys()
    if not missing:
        return None
    return "unit.not_enrolled", f"Not enrolled: {_listed(missing)}; enrol it or leave it out."


def _unit_revoked(facts: GateFacts) -> Refusal | None:
    revoked = {terms.unit for terms in facts.plan.units} & facts.revoked_units
    if not revoked:
        return None
    return (
        "unit.revoked",
        f"Left, or their keys are revoked: {_listed(revoked)}; enrol them anew or leave them out.",
    )


def _unit_public_n_differs(facts: GateFacts) -> Refusal | None:
    differing = {
        terms.unit
        for terms in facts.plan.units
        if (certificate := facts.certificates.get(terms.unit)) is not None
        and terms.public_n != public_n_of(certificate.size_band)
    }
    if not differing:
        return None
    return (
        "unit.public_n_differs",
        f"public_n is not 1.5 times the lower end of the declared band: {_listed(differing)}.",
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


RULES: tuple[Callable[[GateFacts], Refusal | None], ...] = (
    _author_unknown,
    _contract_unknown,
    _contract_field_unknown,
    _contract_sensitive_input,
    _contract_purpose_unknown,
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
)
