"""Whether a DPIA allows what is done with a sensitive attribute, besides which groups there are.

A special category needs a point of Art. 9(2) GDPR for the purpose and for the use itself: counting
groups, weighing examples by them in training, and deciding by them are three uses.
"""

from collections.abc import Iterable

from fedcore.contracts import Contract
from fedcore.dpia_record import AnyDpia, Dpia
from fedcore.fairness_bindings import CROSSED, AttributeUse, Use, special_point_of
from fedcore.mitigation import AnyMitigation, CovariancePenalty, Reweighing

Objection = tuple[str, str]


def objection_to_use(
    dpia: AnyDpia, contract: Contract | None, purpose: str, attribute: str, use: Use
) -> Objection | None:
    """Return why a DPIA does not allow a use of an attribute against unfairness, as a reason code
    and a sentence with the way out; or None.

    Guarantees: `fairness.use_not_bound` unless the DPIA binds this use; `fairness.no_basis` for a
        special category as `unfounded` says it, and for a crossing that has one in it.
    """
    bound = bound_use(dpia, attribute, use)
    if bound is None:
        return ("fairness.use_not_bound", use_not_bound_sentence(attribute, use))
    named = set(attribute.split(CROSSED))
    conditioned = named if special_point_of(bound.special_condition) is not None else set()
    if not unfounded(dpia, purpose, special_fields(dpia, contract) & named, conditioned):
        return None
    return ("fairness.no_basis", no_basis_sentence([attribute]))


def bound_use(dpia: AnyDpia, attribute: str, use: Use) -> AttributeUse | None:
    """Return what a DPIA binds about a use of an attribute, or None when it does not bind it."""
    return next(
        (
            each
            for each in dpia.bindings.fairness_mitigation or ()
            if each.attribute == attribute and use in each.uses
        ),
        None,
    )


def looks_of(dpia: AnyDpia) -> int:
    """Return how many curves of thresholds one table gives: one for everybody, and one for each
    attribute whose groups may have their own.
    """
    uses = dpia.bindings.fairness_mitigation or ()
    return 1 + len({each.attribute for each in uses if "decision" in each.uses})


def excess_of(
    bound: AttributeUse, mitigation: AnyMitigation, positive_weight: float | None
) -> str | None:
    """Return how a mitigation is beyond the sizes that a DPIA binds of this use, as a sentence with
    the way out; or None.

    Guarantees: None only when each weight lies between 1 / most and most, where most is the
        `largest_weight` or else 1; when no strength is beyond `largest_strength`, or else 0; and
        when the penalty pulls at no example harder than its own loss can, whose slope at the logit
        is at most 1, or `positive_weight` with the label. Which way a size works is not looked at.
    """
    if isinstance(mitigation, Reweighing):
        return _excess_of_weights(bound.largest_weight or 1.0, mitigation)
    return _excess_of_penalty(
        bound.largest_strength or 0.0, mitigation, min(1.0, positive_weight or 1.0)
    )


def _excess_of_weights(most: float, reweighing: Reweighing) -> str | None:
    if all(1 / most <= each.weight <= most for each in reweighing.weights):
        return None
    return (
        f"A weight is not within {1 / most:.4g} and {most:.4g}, which is what the DPIA binds: take "
        "smaller ones, or have its next version bind another `largest_weight`."
    )


def _excess_of_penalty(most: float, penalty: CovariancePenalty, slope: float) -> str | None:
    if any(abs(each.strength) > most for each in penalty.penalties):
        return (
            f"A strength is beyond {most:.4g}, which is what the DPIA binds: take a smaller one, "
            "or have its next version bind another `largest_strength`."
        )
    if all(abs(penalty.pull(group)) <= slope for group in penalty.attribute.groups):
        return None
    return (
        f"The penalty pulls at the score of a group harder than {slope:.4g}, the most that the "
        "loss does: take a smaller strength, for otherwise the group is what is learnt."
    )


def special_fields(dpia: AnyDpia, contract: Contract | None) -> frozenset[str]:
    """Return the fields that the contract or the DPIA's inventory calls special."""
    fields = () if contract is None else contract.fields
    special = {field.name for field in fields if field.sensitivity == "special"}
    if isinstance(dpia, Dpia):
        assessed = (each for each in dpia.inventory if each.special_category is not None)
        special |= {field for each in assessed for field in each.fields}
    return frozenset(special)


def unfounded(
    dpia: AnyDpia, purpose: str, special: Iterable[str], conditioned: Iterable[str]
) -> set[str]:
    """Return which special attributes a use of lacks a basis: a point of Art. 9(2) of the purpose
    and, as those `conditioned` have, of the attribute, and a bound on what may differ.
    """
    if not _has_condition(dpia, purpose):
        return set(special)
    return set(special) - (set(conditioned) & _compared_in(dpia))


def use_not_bound_sentence(attribute: str, use: Use) -> str:
    """Return the refusal of a use that the DPIA does not bind, with the way out."""
    return (
        f"The DPIA binds no use of {attribute} in {_PLACES[use]}: name it in "
        "`fairness_mitigation`, or leave it out."
    )


def no_basis_sentence(attributes: Iterable[str]) -> str:
    """Return the refusal of attributes for which `unfounded` says so, with the way out."""
    return (
        f"A special category: {', '.join(sorted(attributes))}; have the DPIA bind its fairness and "
        "name a point in `special_condition`, of the purpose and of the attribute, as in "
        '"Art. 9(2)(a)", or leave it out.'
    )


_PLACES: dict[Use, str] = {"training": "training", "decision": "a decision"}


def _has_condition(dpia: AnyDpia, purpose: str) -> bool:
    return isinstance(dpia, Dpia) and any(
        each.purpose == purpose and each.special_point is not None for each in dpia.purposes
    )


def _compared_in(dpia: AnyDpia) -> set[str]:
    """Return the attributes that the DPIA sets bounds for, alone or crossed with others."""
    bounds = dpia.bindings.fairness or ()
    return {name for bound in bounds for name in bound.attribute.split(CROSSED)}
