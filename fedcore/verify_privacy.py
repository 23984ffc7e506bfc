"""Checks of a bundle: does the stated epsilon follow from the receipts, and was it allowed?"""

from collections.abc import Mapping, Sequence

from fedcore.errors import MismatchError
from fedcore.models import EpsilonClaim
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.verify_documents import Documents
from fedcore.verify_runs import RunDocuments

EPSILON_TOLERANCE = 1e-6


def events_by_unit(run: RunDocuments) -> Mapping[str, tuple[PrivacyEvent, ...]]:
    """Return what each unit of the cohort was charged for, from its receipts alone."""
    events: dict[str, tuple[PrivacyEvent, ...]] = {grant.unit: () for grant in run.permit.cohort}
    for receipt in run.receipts:
        events[receipt.unit] = (*events[receipt.unit], receipt.event)
    return events


def verify_epsilon(documents: Documents) -> None:
    """Hold the model version's epsilon against the receipts and the permit.

    Raises: MismatchError `model.epsilon_differs`, `permit.epsilon_exceeded`.
    """
    verify_stated_epsilon(documents, documents.model_version.epsilon)


def verify_evaluation_epsilon(documents: Documents) -> None:
    """Hold what each evaluation states against its receipts and permit, and what training and
    evaluations have charged together against the caps on a whole ledger that the permits name.

    The last of the runs was reserved under one of these caps, whichever it was, with all others in
    the ledger: so the largest one bounds them.
    Raises: as `verify_epsilon`; MismatchError `permit.cap_exceeded`.
    """
    for run in documents.evaluations:
        verify_stated_epsilon(run, run.evaluation.epsilon)
    caps = [run.permit.ledger_caps for run in documents.runs]
    bounds = [None if each is None else each.history for each in caps]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds):
        return
    for total in total_epsilon(documents):
        if total.claim > max(known) + EPSILON_TOLERANCE:
            raise MismatchError(
                "permit.cap_exceeded",
                f"training and evaluations charged {total.claim:.4f} to {total.unit}, whose whole "
                f"ledger may hold {max(known):.4f}",
            )


def total_epsilon(documents: Documents) -> tuple[EpsilonClaim, ...]:
    """Return what training and evaluations of the model have charged to each unit together, at the
    delta of the training's permit.
    """
    total: dict[str, tuple[PrivacyEvent, ...]] = {}
    for run in documents.runs:
        for unit, events in events_by_unit(run).items():
            total[unit] = (*total.get(unit, ()), *events)
    delta = documents.permit.delta
    return tuple(
        EpsilonClaim(unit=unit, claim=renyi_epsilon(events, delta), pld=pld_epsilon(events, delta))
        for unit, events in total.items()
    )


def verify_stated_epsilon(run: RunDocuments, said: Sequence[EpsilonClaim]) -> None:
    """Hold what governance states of a run against its receipts and its permit.

    Raises: as `verify_epsilon`.
    """
    stated = {claim.unit: claim for claim in said}
    if len(stated) != len(said):
        raise MismatchError("model.epsilon_differs", "a unit's epsilon is stated twice")
    grants = {grant.unit: grant.epsilon for grant in run.permit.cohort}
    if set(stated) - set(grants):
        raise MismatchError("model.epsilon_differs", "the epsilon of another unit is stated")
    for unit, events in events_by_unit(run).items():
        claim = renyi_epsilon(events, run.permit.delta)
        if claim > grants[unit] + EPSILON_TOLERANCE:
            raise MismatchError(
                "permit.epsilon_exceeded", f"{unit} spent {claim:.4f}, permitted {grants[unit]:.4f}"
            )
        _verify_claim(unit, stated.get(unit), claim, pld_epsilon(events, run.permit.delta))


def _verify_claim(unit: str, stated: EpsilonClaim | None, claim: float, pld: float) -> None:
    shown = (0.0, 0.0) if stated is None else (stated.claim, stated.pld)
    if any(
        not abs(said - found) <= EPSILON_TOLERANCE
        for said, found in zip(shown, (claim, pld), strict=True)
    ):
        raise MismatchError(
            "model.epsilon_differs",
            f"the receipts of {unit} lead to epsilon {claim:.6f} (PLD {pld:.6f}), stated are "
            f"{shown[0]:.6f} (PLD {shown[1]:.6f})",
        )
