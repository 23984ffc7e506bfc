"""A DPIA record as a CNIL PIA file, with all that was left over when it was read from one."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import Risk
from fedcore.record import Part
from governance.exchange.cnil_table import (
    INEXPRESSIBLE,
    OUR_KEY,
    OUR_SCHEMA,
    RIGHTS,
    RISKS,
    ROWS,
    TEXTS,
    Loss,
    RiskPlace,
)
from governance.exchange.richtext import harmless, html_of_text

PREFIX = "cnil."
_PIA_ID = 1


def write_cnil(record: Dpia) -> tuple[dict[str, Any], tuple[Loss, ...]]:
    """Return the file's JSON value, and what of the record only our own key in it can hold.

    Guarantees: texts are escaped; what was left over at an import stands in its place again.
    """
    left = _left_over(record)
    status = "pia.status", "written as 0, being written: acts of this house are not in the format"
    losses = [Loss(*status)] + [
        Loss(name, "the format has no place for it; it is under our own key only")
        for name in INEXPRESSIBLE
        if getattr(record, name)
    ]
    numbers = {measure.id: number for number, measure in enumerate(record.measures, 1)}
    placed = _placed_risks(record)
    kept_back = [risk.id for risk in record.risks if risk not in placed.values()]
    why = "the format has one risk for each of three events; it is under our own key only"
    losses += [Loss(f"risks.{id_}", why) for id_ in kept_back]
    evaluations, dropped = _evaluations(placed, left.get("evaluations", []), numbers)
    losses += dropped
    document = harmless(left.get("file", {}), escape=True) | {
        "pia": _pia(record, left.get("pia", {})),
        "answers": list(_answers(record, placed, left.get("answers", {}))),
        "measures": list(_measures(record, left.get("measures", {}))),
        "evaluations": evaluations,
        "comments": [
            harmless(comment, escape=True) | {"pia_id": _PIA_ID}
            for comment in left.get("comments", [])
        ],
        OUR_KEY: {"schema": OUR_SCHEMA, "record": record.to_json(), "ids": _ids(numbers, placed)},
    }
    return document, tuple(losses)


def dump_cnil(document: Mapping[str, Any]) -> bytes:
    """Return the file's bytes. No `<` is in them, wherever a reader may embed them."""
    text = json.dumps(document, ensure_ascii=False, indent=1)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").encode()


def _left_over(record: Dpia) -> dict[str, Any]:
    return {
        item.key.removeprefix(PREFIX): json.loads(item.json_text)
        for item in record.unmapped
        if item.key.startswith(PREFIX)
    }


def _merged(made: Mapping[str, Any], left: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was left over with what the record says over it, unless that says nothing."""
    result = dict(harmless(dict(left), escape=True))
    for key, value in made.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = _merged(value, below)
        elif value not in (None, "", []) or key not in result:
            result[key] = value
    return result


def _ids(numbers: Mapping[str, int], placed: Mapping[RiskPlace, Risk]) -> dict[str, str]:
    measures = {f"measure {number}": id_ for id_, number in numbers.items()}
    return measures | {f"risk {place.event}": risk.id for place, risk in placed.items()}


def _placed_risks(record: Dpia) -> dict[RiskPlace, Risk]:
    """Return the first risk of each feared event that the format knows."""
    placed: dict[RiskPlace, Risk] = {}
    for place in RISKS:
        of_event = [risk for risk in record.risks if risk.event == place.event]
        if of_event:
            placed[place] = of_event[0]
    return placed


def _pia(record: Dpia, left: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": _plain(record.title), "status": 0}
    if record.consultation is not None:
        consulted = record.consultation.consulted
        place = "concerned_people_opinion" if consulted else "concerned_people_searched_content"
        made |= {
            "concerned_people_searched_opinion": consulted,
            place: _plain(record.consultation.text),
        }
    defaults = dict.fromkeys(("category", "author_name", "evaluator_name", "validator_name"), "")
    return _merged(made, defaults | dict(left)) | {"id": _PIA_ID}


def _plain(text: str) -> str:
    """Return a text for a place that takes plain text, but may be shown as HTML elsewhere."""
    return str(harmless(text, escape=True))


def _answer(text: str | None, gauge: int | None = None, items: Iterable[str] = ()) -> Any:
    return {"text": text, "gauge": gauge, "list": [_plain(item) for item in items]}


def _answers(
    record: Dpia, placed: Mapping[RiskPlace, Risk], left: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    made: dict[int, dict[str, Any]] = dict(_texts(record))
    for reference, names in RIGHTS.items():
        texts = [getattr(record.rights, name) for name in names] if record.rights else []
        made[reference] = _answer(_rich("\n\n".join(dict.fromkeys(t for t in texts if t))))
    titles = {measure.id: measure.title for measure in record.measures}
    for place, risk in placed.items():
        made |= _risk_answers(place, risk, titles)
    for key in sorted({*map(str, made), *left}):
        kept = dict(left.get(key, {}))
        number = int(key) if key.isascii() and key.isdigit() else None
        data = None if number is None or number not in made else _data(made[number], kept)
        answer = _merged({} if data is None else {"data": data}, kept)
        yield answer | {"pia_id": _PIA_ID, "reference_to": key if number is None else number}


def _data(made: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """Return an answer's data: free text of the file where the record has no rows of its own."""
    below = kept.get("data")
    free = below.get("text") if isinstance(below, dict) else None
    if not made["text"] and isinstance(free, str):
        made["text"] = html_of_text(free)
    elif made["text"] and isinstance(kept.get("rest_of_text"), str):
        made["text"] += html_of_text(kept.pop("rest_of_text"))
    return made


def _rich(text: str | None) -> str | None:
    return html_of_text(text) if text else None


def _texts(record: Dpia) -> Iterator[tuple[int, Any]]:
    for reference, name in TEXTS.items():
        yield reference, _answer(_rich(getattr(record, name)))
    for reference, name in ROWS.items():
        rows = getattr(record, name) or ()
        yield reference, _answer(_rich("\n".join(_row(row, reference) for row in rows)))


def _row(row: Part, reference: int) -> str:
    hidden = {211: {"basis", "legitimate_interest", "special_condition"}, 212: {"text"}}
    values = row.model_dump(mode="json", exclude_none=True, exclude=hidden.get(reference))
    return "; ".join(f"{key}: {_words(value)}" for key, value in values.items() if value != [])


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _risk_answers(
    place: RiskPlace, risk: Risk, titles: Mapping[str, str]
) -> dict[int, dict[str, Any]]:
    measures = [titles[id_] for id_ in risk.measures]
    return {
        place.list_reference("impacts"): _answer(None, items=risk.impacts),
        place.list_reference("threats"): _answer(None, items=risk.threats),
        place.list_reference("sources"): _answer(None, items=risk.sources),
        place.list_reference("measures"): _answer(None, items=measures),
        place.severity: _answer(_rich(risk.text), risk.severity_before),
        place.likelihood: _answer(None, risk.likelihood_before),
    }


def _measures(record: Dpia, left: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for number, measure in enumerate(record.measures, 1):
        kept = dict(left.get(measure.id, {}))
        content = html_of_text(measure.text + str(kept.pop("rest_of_text", "")))
        made = {"title": _plain(measure.title), "content": content, "placeholder": ""}
        yield _merged(made, kept) | {"id": number, "pia_id": _PIA_ID}


def _evaluations(
    placed: Mapping[RiskPlace, Risk], left: Iterable[dict[str, Any]], numbers: Mapping[str, int]
) -> tuple[list[dict[str, Any]], list[Loss]]:
    """Return the evaluations, those of measures under the measures' new numbers."""
    gauges = {
        place.evaluation: {"x": risk.severity_after, "y": risk.likelihood_after}
        for place, risk in placed.items()
    }
    found, losses = [], []
    for kept in left:
        reference = str(kept.get("reference_to"))
        id_ = reference.removeprefix("3.1.")
        if id_ != reference and id_ in numbers:
            kept["reference_to"] = f"3.1.{numbers[id_]}"
        elif id_ != reference and id_.startswith("measure-"):
            losses.append(Loss(f"evaluations.{reference}", "the record has no such measure"))
            continue
        made = {"gauges": gauges.pop(reference)} if reference in gauges else {}
        found.append(_merged(made, kept) | {"pia_id": _PIA_ID})
    for reference, levels in gauges.items():
        new = {"status": 0, "reference_to": reference, "gauges": levels, "global_status": 0}
        found.append(new | {"pia_id": _PIA_ID})
    return found, losses
