"""Check of a bundle: does the stated epsilon follow from the receipts, and was it allowed?"""

from collections.abc import Mapping

from fedcore.errors import MismatchError
from fedcore.models import EpsilonClaim
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.verify_documents import Documents

EPSILON_TOLERANCE = 1e-6


def events_by_unit(documents: Documents) -> Mapping[str, tuple[PrivacyEvent, ...]]:
    """Return what each unit of the cohort was charged for, from its receipts alone."""
    events: dict[str, tuple[PrivacyEvent, ...]] = {
        grant.unit: () for grant in documents.permit.cohort
    }
    for receipt in documents.receipts:
        events[receipt.unit] = (*events[receipt.unit], receipt.event)
    return events


def verify_epsilon(documents: Documents) -> None:
    """Hold the model version's epsilon against the receipts and the permit.

    Raises: MismatchError `model.epsilon_differs`, `permit.epsilon_exceeded`.
    """
    stated = {claim.unit: claim for claim in documents.model_version.epsilon}
    if len(stated) != len(documents.model_version.epsilon):
        raise MismatchError("model.epsilon_differs", "the model states a unit's epsilon twice")
    grants = {grant.unit: grant.epsilon for grant in documents.permit.cohort}
    if set(stated) - set(grants):
        raise MismatchError("model.epsilon_differs", "the model states epsilon of another unit")
    for unit, events in events_by_unit(documents).items():
        claim = renyi_epsilon(events, documents.permit.delta)
        if claim > grants[unit] + EPSILON_TOLERANCE:
            raise MismatchError(
                "permit.epsilon_exceeded", f"{unit} spent {claim:.4f}, permitted {grants[unit]:.4f}"
            )
        _verify_claim(unit, stated.get(unit), claim, pld_epsilon(events, documents.permit.delta))


def _verify_claim(unit: str, stated: EpsilonClaim | None, claim: float, pld: float) -> None:
    shown = (0.0, 0.0) if stated is None else (stated.claim, stated.pld)
    if any(
        not abs(said - found) <= EPSILON_TOLERANCE
        for said, found in zip(shown, (claim, pld), strict=True)
    ):
        raise MismatchError(
            "model.epsilon_differs",
            f"the receipts of {unit} lead to epsilon {claim:.6f} (PLD {pld:.6f}), the model states "
            f"{shown[0]:.6f} (PLD {shown[1]:.6f})",
        )
