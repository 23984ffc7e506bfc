"""The table of groups that an evaluation plan asks for, told from plan and contract alone."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

from fedcore.contracts import Contract, ContractField
from fedcore.errors import MismatchError
from fedcore.evaluations import FairnessTerms, GroupField
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout


def layout_of(terms: FairnessTerms, contract: Contract) -> TableLayout:
    """Return the public shape of the table: each field's groups crossed, in their order.

    A category is a group by its own name, and merged ones by all of theirs with " or " between
    them, at the place of the first. Of a numeric field the groups are the intervals between its
    edges and bounds, as "0 to 25"; a value on an edge is in the one above it.
    Raises: MismatchError `evaluation.groups_unfit` for a field that the contract lacks, groups that
        it cannot have, fewer than two of them, or too many intersections.
    """
    found = [(group.field, _groups(group, field_of(group, contract))) for group in terms.fields]
    try:
        attributes = tuple(SensitiveAttribute(name=name, groups=groups) for name, groups in found)
        return TableLayout(attributes=attributes, threshold=terms.threshold)
    except ValueError as error:
        raise _unfit("the groups make no table") from error


def field_of(group: GroupField, contract: Contract) -> ContractField:
    """Return the contract's field that people are told apart by. Raises: as `layout_of`."""
    field = contract.field_by_name.get(group.field)
    if field is None:
        raise _unfit(f"the contract has no field {group.field}")
    return field


def groups_of_cells(
    group: GroupField, field: ContractField, cells: Iterable[float | str | None]
) -> list[str]:
    """Return the group of each cell; what the contract has for an empty one stands for it.

    Guarantees: a cell's group depends on that cell only.
    Raises: as `layout_of`.
    """
    names = _groups(group, field)
    known = _of_categories(group, field)
    filled = (field.missing if cell is None else cell for cell in cells)
    return [
        known[cell] if isinstance(cell, str) else names[bisect_right(group.edges, cell or 0.0)]
        for cell in filled
    ]


def _groups(group: GroupField, field: ContractField) -> tuple[str, ...]:
    if field.kind == "categorical":
        found = tuple(dict.fromkeys(_of_categories(group, field).values()))
    else:
        bounds = (field.lower or 0.0, *group.edges, field.upper or 0.0)
        if group.merged or any(low >= high for low, high in pairwise(bounds)):
            raise _unfit(f"the edges of {field.name} do not rise inside its bounds")
        found = tuple(f"{low:.15g} to {high:.15g}" for low, high in pairwise(bounds))
    if len(set(found)) < 2 or len(set(found)) < len(found):
        raise _unfit(f"{field.name} has no two groups of different names")
    return found


def _of_categories(group: GroupField, field: ContractField) -> dict[str, str]:
    merged = [category for one in group.merged for category in one]
    is_own = len(set(merged)) == len(merged) and set(merged) <= set(field.categories)
    if field.kind == "categorical" and (group.edges or not is_own):
        raise _unfit(f"{field.name} has no such categories to merge, or not each once")
    names = {category: " or ".join(one) for one in group.merged for category in one}
    return {category: names.get(category, category) for category in field.categories}


def _unfit(text: str) -> MismatchError:
    return MismatchError("evaluation.groups_unfit", f"{text}: mend the plan's groups")
