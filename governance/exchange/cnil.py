"""The CNIL's PIA file in and out: pure functions between its bytes and the DPIA record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from fedcore import canonical
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import Measure, Risk, Unmapped
from fedcore.errors import InvalidRecordError
from fedcore.record import first_problem
from governance.exchange.cnil_reading import Reading, read_cnil
from governance.exchange.cnil_table import OUR_KEY, OUR_SCHEMA, Loss
from governance.exchange.cnil_writing import PREFIX, dump_cnil, write_cnil
from governance.exchange.richtext import harmless

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 50
# What the format cannot say and a record must.
NEEDED = ("bindings", "dpia_id", "version", "valid_until")
_Item = TypeVar("_Item", Measure, Risk)
_GROUPS = {"measures", "risks", "unmapped", "rights"}


@dataclass(frozen=True)
class Imported:
    """The record that a file became, and what did not come with it."""

    record: Dpia
    losses: tuple[Loss, ...]


def export_cnil(record: Dpia) -> tuple[bytes, tuple[Loss, ...]]:
    """Return a CNIL PIA file of a record, and what only our own key in it holds.

    Guarantees: `import_cnil` of those bytes is the record again; all texts are escaped.
    """
    document, losses = write_cnil(record)
    return dump_cnil(document), losses


def import_cnil(data: bytes, given: Mapping[str, Any], onto: Dpia | None = None) -> Imported:
    """Return the record of a CNIL PIA file.

    Args:
        data: the file, of the first or the present version of the format.
        given: fields of the record that the caller states; they come before all others.
        onto: the record as it was before the file was edited elsewhere; by default the one that
            the file carries itself. What the file has not changed is taken from it.

    Guarantees: no markup is in the record; every key that has no field is in `unmapped`; a level
        of risk that the file leaves open is taken at its worst.
    Raises: InvalidRecordError `cnil.malformed`, `cnil.incomplete`, `cnil.too_large`,
        `record.not_json`, `record.invalid`.
    """
    document = canonical.parse(data, MAX_FILE_BYTES)
    _verify_shallow(document)
    ours = document.get(OUR_KEY) if isinstance(document, dict) else None
    ours = ours if isinstance(ours, dict) and ours.get("schema") == OUR_SCHEMA else {}
    if onto is None and "record" in ours:
        onto = Dpia.from_json(ours["record"])
    ids = write_cnil(onto)[0][OUR_KEY]["ids"] if onto is not None else {}
    reading = read_cnil(document, ids)
    fields = reading.fields | {"unmapped": _unmapped(reading)}
    if onto is not None:
        fields = _merged(onto, _reread(onto), fields)
    fields |= given
    lacking = [name for name in NEEDED if name not in fields]
    if lacking:
        raise InvalidRecordError(
            "cnil.incomplete", f"the file cannot say {', '.join(lacking)}: state them"
        )
    losses = (
        () if onto is not None and fields == _fields(onto) else tuple(dict.fromkeys(reading.losses))
    )
    try:
        return Imported(Dpia.model_validate(fields), losses)
    except ValidationError as error:
        raise InvalidRecordError("record.invalid", f"dpia/2: {first_problem(error)}") from error


def _verify_shallow(document: Any) -> None:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise InvalidRecordError("cnil.malformed", f"it is nested more than {MAX_DEPTH} deep")


def _fields(record: Dpia) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Dpia.model_fields if name != "schema_name"}


def _reread(record: Dpia) -> dict[str, Any]:
    """Return what the file of this record says, without our own key."""
    document = json.loads(dump_cnil(write_cnil(record)[0]))
    reading = read_cnil(document, document[OUR_KEY]["ids"])
    return reading.fields | {"unmapped": _unmapped(reading)}


def _merged(onto: Dpia, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record's fields with those changes that were made to its file."""
    fields = _fields(onto)
    changed = {name: value for name, value in now.items() if value != before[name]}
    fields |= {name: value for name, value in changed.items() if name not in _GROUPS}
    if "unmapped" in changed:
        others = tuple(item for item in onto.unmapped if not item.key.startswith(PREFIX))
        fields["unmapped"] = others + now["unmapped"]
    if changed.get("rights") and onto.rights is not None:
        unasked = {"automated_decisions": onto.rights.automated_decisions}
        fields["rights"] = changed["rights"].model_copy(update=unasked)
    elif "rights" in changed:
        fields["rights"] = changed["rights"]
    if "measures" in changed or "risks" in changed:
        fields |= _merged_risks(onto, before, now)
    return fields


def _merged_risks(onto: Dpia, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {measure.id: measure.kind for measure in onto.measures}
    measures = [
        measure.model_copy(update={"kind": kinds.get(measure.id, measure.kind)})
        for measure in _changed(onto.measures, before["measures"], now["measures"])
    ]
    present = {measure.id for measure in measures}
    risks = [
        risk.model_copy(update={"measures": tuple(m for m in risk.measures if m in present)})
        for risk in _changed(onto.risks, before["risks"], now["risks"])
    ]
    return {"measures": tuple(measures), "risks": tuple(risks)}


def _changed(
    mine: tuple[_Item, ...], before: tuple[_Item, ...], now: tuple[_Item, ...]
) -> list[_Item]:
    """Return my items with the changes between two readings; what was in neither stays."""
    old = {item.id: item for item in before}
    new = {item.id: item for item in now}
    kept = [
        new[item.id] if item.id in new and new[item.id] != old.get(item.id) else item
        for item in mine
        if item.id in new or item.id not in old
    ]
    known = {item.id for item in mine}
    return kept + [item for item in now if item.id not in known]


def _unmapped(reading: Reading) -> tuple[Unmapped, ...]:
    found = []
    for section, value in reading.left.items():
        if not value:
            continue
        text = json.dumps(harmless(value, escape=False), ensure_ascii=False)
        if len(text) > 200_000:
            raise InvalidRecordError(
                "cnil.too_large", f"`{section}` holds more than a record can keep beside its fields"
            )
        found.append(Unmapped(key=PREFIX + section, json_text=text))
    return tuple(found)
