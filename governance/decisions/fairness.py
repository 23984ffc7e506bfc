"""Whether a DPIA allows the audit of the sensitive attributes that it names."""

from collections.abc import Iterator

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia

Reason = tuple[str, str]


def list_reasons_against_audit(dpia: Dpia, contract: Contract) -> tuple[Reason, ...]:
    """Return every (code, sentence) that speaks against a fairness audit under this DPIA.

    Guarantees: empty only when a DPIA that binds an audit lists each of its attributes in the
        inventory, and has a condition of Art. 9(2) for each that the inventory or the contract
        calls special. Pure; another reason never makes one go away.
    Args: `contract` is the one that the bindings name.
    """
    audit = dpia.bindings.fairness_audit
    if audit is None or not dpia.bindings.fairness:
        sentence = "The DPIA binds no fairness audit: its next version may."
        return (("fairness.not_bound", sentence),)
    listed = {name for category in dpia.inventory for name in category.fields}
    special = set(_special(dpia, contract))
    unlisted = [one.name for one in audit.attributes if one.name not in listed]
    baseless = [
        one.name
        for one in audit.attributes
        if one.name in special and one.special_condition is None
    ]
    found = [
        (
            "fairness.not_in_inventory",
            f"The DPIA's inventory does not list {name!r}: say in it of which category it is.",
        )
        for name in unlisted
    ]
    found += [
        (
            "fairness.no_basis",
            f"{name!r} is of a special category: the DPIA needs a condition of Art. 9(2) for its "
            "audit.",
        )
        for name in baseless
    ]
    return tuple(found)


def _special(dpia: Dpia, contract: Contract) -> Iterator[str]:
    for category in dpia.inventory:
        if category.special_category is not None:
            yield from category.fields
    for field in contract.fields:
        if field.sensitivity == "special":
            yield field.name
