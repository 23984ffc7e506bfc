"""What differs between two versions of a DPIA, field by field, and whether it is material.

A change is material when it touches what runs are held against: bindings, purposes with their
bases, what data there are, and how long anything is kept (Art. 35(11) GDPR asks for a review when
the risk changes).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.dpia_record import Dpia

# What names an item of a list, so that it is compared with its own older self.
_KEYS = ("id", "field", "purpose", "what", "key", "name", "recipient", "attribute")
_MATERIAL_SECTIONS = {"bindings", "purposes"}
# Of their items only these fields count; that an item comes or goes counts always.
_MATERIAL_FIELDS = {
    "inventory": {"fields", "special_category", "retention_days"},
    "retention": {"days"},
}
ORDER = "(order)"


@dataclass(frozen=True)
class Change:
    """One difference: where, and the JSON values before and after; None is "absent".

    Attributes:
        path: field names and items' names, from the record down; it ends in `ORDER` when
            items stand in another order.
        material: it touches what runs are held against.
    """

    path: tuple[str, ...]
    old: Any
    new: Any
    material: bool


def list_changes(old: Dpia, new: Dpia) -> tuple[Change, ...]:
    """Return every difference between two DPIAs, in the order of the record's fields.

    Guarantees: empty exactly when the two are equal.
    """
    before, after = old.to_json(), new.to_json()
    names = [field.alias or name for name, field in Dpia.model_fields.items()]
    return tuple(
        Change(path, was, is_, _is_material(path))
        for name in names
        for path, was, is_ in _differences((name,), before.get(name), after.get(name))
    )


def material_changes(old: Dpia, new: Dpia) -> tuple[Change, ...]:
    """Return the differences that touch what runs are held against."""
    return tuple(change for change in list_changes(old, new) if change.material)


_Differences = Iterator[tuple[tuple[str, ...], Any, Any]]


def _differences(path: tuple[str, ...], old: Any, new: Any) -> _Differences:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences((*path, name), old.get(name), new.get(name))
        return
    if isinstance(old, list) and isinstance(new, list):
        before, after = _named(old), _named(new)
        if before is not None and after is not None:
            yield from _item_differences(path, before, after)
            return
    yield path, old, new


def _item_differences(
    path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]
) -> _Differences:
    for name in dict.fromkeys([*old, *new]):
        yield from _differences((*path, name), old.get(name), new.get(name))
    kept_before = [name for name in old if name in new]
    kept_after = [name for name in new if name in old]
    if kept_before != kept_after:
        yield (*path, ORDER), kept_before, kept_after


def _named(items: Sequence[Any]) -> dict[str, Any] | None:
    """The items by their names; None when they have none, or two have the same."""
    if all(isinstance(item, str) for item in items):
        plain = {item: item for item in items}
        return plain if len(plain) == len(items) else None
    if not all(isinstance(item, dict) for item in items):
        return None
    keys = [key for key in _KEYS if all(key in item for item in items)]
    if not keys:
        return None
    named = {str(item[keys[0]]): item for item in items}
    return named if len(named) == len(items) else None


def _is_material(path: tuple[str, ...]) -> bool:
    section, rest = path[0], path[1:]
    if path[-1] == ORDER:
        return False
    if section in _MATERIAL_FIELDS:
        return len(rest) < 2 or rest[1] in _MATERIAL_FIELDS[section]
    return section in _MATERIAL_SECTIONS
