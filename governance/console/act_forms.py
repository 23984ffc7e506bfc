"""The form of an act on a DPIA: what it asks for, and the request that comes of it."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fedcore.dpias import DpiaAct
from fedcore.errors import InvalidRecordError
from fedcore.record import first_problem
from governance.bodies import ActRequest
from governance.decisions.dpia_rules import TAKES

VERDICTS = ("favourable", "unfavourable")
ITEM_VERDICTS = ("acceptable", "improvable", "unacceptable")
# What a condition's field is called is `<field>:<row>`, what is said of an item `<field>:<item>`.
CONDITION_ROWS = tuple(range(1, 6))
_CONDITION_FIELDS = ("id", "text", "owner", "due_at")
_ITEM_FIELDS = ("verdict", "text")


def request_of(act: str, fields: Mapping[str, str]) -> ActRequest:
    """Return an act as the API takes it; a field that was left empty says nothing.

    Raises: InvalidRecordError `request.invalid`.
    """
    values = {"act": act, "note": fields.get("note", ""), **_details(fields)}
    try:
        return ActRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidRecordError("request.invalid", first_problem(error)) from error


def details_of(act: DpiaAct) -> frozenset[str]:
    """Return the names of the details that an act's form asks for."""
    return TAKES.get(act, frozenset())


def _details(fields: Mapping[str, str]) -> dict[str, Any]:
    plain = {name: fields[name] for name in ("entity", "overruling_reason") if fields.get(name)}
    if fields.get("advice"):
        plain["verdict"] = fields["advice"]
    found: dict[str, Any] = {
        "items": _items(fields),
        "conditions": _conditions(fields),
        "fulfilled": [name.partition(":")[2] for name in fields if name.startswith("fulfilled:")],
    }
    return plain | {name: value for name, value in found.items() if value}


def _items(fields: Mapping[str, str]) -> list[dict[str, str]]:
    items = dict.fromkeys(
        name.partition(":")[2]
        for name, value in fields.items()
        if value and name.startswith(tuple(f"item_{field}:" for field in _ITEM_FIELDS))
    )
    return [{"item": item, **_given(fields, "item", _ITEM_FIELDS, item)} for item in items]


def _conditions(fields: Mapping[str, str]) -> list[dict[str, str]]:
    rows = [
        _given(fields, "condition", _CONDITION_FIELDS, str(number)) for number in CONDITION_ROWS
    ]
    for row in rows:
        if "due_at" in row:
            row["due_at"] += "T23:59:59Z"  # a day is over when it is over in UTC
    return [row for row in rows if row]


def _given(
    fields: Mapping[str, str], kind: str, names: tuple[str, ...], key: str
) -> dict[str, str]:
    """Return what was written into the fields `<kind>_<name>:<key>`."""
    given = {name: fields.get(f"{kind}_{name}:{key}", "") for name in names}
    return {name: value for name, value in given.items() if value}
