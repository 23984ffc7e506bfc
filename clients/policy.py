"""The unit's own rules over what is signed by others: pure, and always the last word."""

from typing import Literal

from clients.settings import NodeSettings
from fedcore.contracts import Contract, purpose_line
from fedcore.errors import ExpiredError, InvalidRecordError, RefusedError
from fedcore.optouts import Bulletin
from fedcore.permits import Permit, public_n_of
from fedcore.plans import TrainingPlan

Ground = Literal["art21_2", "art21_1", "art7_3", "art17", "art18"]
_GROUNDS: dict[str, Ground] = {
    "art21_2": "art21_2",
    "art21_1": "art21_1",
    "art7_3": "art7_3",
    "art17": "art17",
    "art18": "art18",
}


def verify_policy(
    settings: NodeSettings, permit: Permit, plan: TrainingPlan, contract: Contract
) -> None:
    """Hold a permitted plan against the unit's policy.

    Raises: RefusedError with every reason of `policy.purpose_not_allowed`,
        `policy.cohort_too_small`, `policy.delta_differs`, `policy.public_n_differs`,
        `policy.sensitive_input`.
    """
    reasons: list[tuple[str, str]] = []
    if not set(purpose_line(contract.purposes, plan.purpose)) & set(settings.purposes):
        reasons.append(
            ("policy.purpose_not_allowed", "the unit does not take part in this purpose")
        )
    if permit.minimum_cohort < settings.minimum_cohort:
        reasons.append(("policy.cohort_too_small", "the unit asks for a larger minimum cohort"))
    if plan.privacy.delta != settings.delta:
        reasons.append(
            ("policy.delta_differs", "the plan's delta is not the one of the unit's ledger")
        )
    if plan.public_n(settings.unit) != public_n_of(settings.size_band):
        reasons.append(
            ("policy.public_n_differs", "the plan's public size is not the declared one")
        )
    inputs = {feature.field for feature in plan.features}
    if any(f.name in inputs and f.sensitivity != "none" for f in contract.fields):
        reasons.append(("policy.sensitive_input", "the plan takes a sensitive field as an input"))
    if reasons:
        raise RefusedError(reasons)


def verify_not_revoked(bulletin: Bulletin, permit: Permit) -> None:
    """Refuse a run that governance has stopped. Raises: RefusedError `permit.revoked`."""
    if permit.run_id in bulletin.revoked_runs:
        raise RefusedError([("permit.revoked", "governance has revoked the permit of this run")])


def verify_epoch(bulletin: Bulletin, permit: Permit) -> None:
    """Refuse opt-outs older than the permit asks for. Raises: ExpiredError `bulletin.stale`."""
    if bulletin.epoch < permit.min_opt_out_epoch:
        raise ExpiredError("bulletin.stale", "the permit asks for newer opt-outs than the unit has")


def ground(name: str) -> Ground:
    """Return the legal ground of this name. Raises: InvalidRecordError `opt_out.ground_unknown`."""
    if name not in _GROUNDS:
        raise InvalidRecordError("opt_out.ground_unknown", f"ground: one of {', '.join(_GROUNDS)}")
    return _GROUNDS[name]
