"""What a CNIL PIA file says, in the terms of the record; and all that is left over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcore.dpia_sections import Consultation, Measure, Rights, Risk
from fedcore.errors import InvalidRecordError
from governance.exchange.cnil_table import OUR_KEY, RIGHTS, RISKS, ROWS, TEXTS, Loss, RiskPlace
from governance.exchange.richtext import text_of_html

MAX_TEXT = 4000
UNSAID = "Not said in the imported file."
_REST = "rest_of_text"
_SECTIONS = ("answers", "measures", "evaluations", "comments")
_KINDS = {"PIA_TEC": "technical", "PIA_SEC": "technical", "PIA_ORG": "organisational"}
_KEPT_ONLY = "kept for the next export; the record has no place for it"


@dataclass
class Reading:
    """The fields that the file fills in, what is left over by section, and what is lost."""

    fields: dict[str, Any] = field(default_factory=dict)
    left: dict[str, Any] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)


def read_cnil(document: Any, ids: Mapping[str, str]) -> Reading:
    """Return what a file says; `ids` are our ids of its measures and risks, where they are known.

    Guarantees: every key of the file is mapped or left over.
    Raises: InvalidRecordError `cnil.malformed`.
    """
    if not isinstance(document, dict) or not isinstance(document.get("pia"), dict):
        raise _malformed("it has no `pia`")
    reading = Reading()
    sections = {name: _items(document, name) for name in _SECTIONS}
    known = {"pia", OUR_KEY, *_SECTIONS}
    reading.left["file"] = {key: value for key, value in document.items() if key not in known}
    _read_pia(reading, document["pia"])
    numbers = _read_measures(reading, sections["measures"], ids)
    gauges = _read_evaluations(reading, sections["evaluations"], numbers)
    answers = _by_reference(sections["answers"])
    _read_texts(reading, answers)
    _read_rights(reading, answers)
    _read_risks(reading, answers, gauges, ids)
    reading.left["answers"] = {reference: rest for reference, rest in answers.items() if rest}
    reading.left["comments"] = [_without(comment, "pia_id") for comment in sections["comments"]]
    if reading.left["comments"]:
        reading.losses.append(Loss("comments", _KEPT_ONLY))
    return reading


def _malformed(what: str) -> InvalidRecordError:
    return InvalidRecordError("cnil.malformed", f"this is no CNIL PIA file: {what}")


def _items(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = document.get(name)
    items = [] if items is None else items
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _malformed(f"`{name}` is not a list of objects")
    return items


def _without(item: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in keys}


def _by_reference(answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the answers by reference; files of the first version write it as a text."""
    found: dict[str, Any] = {}
    for answer in answers:
        reference = str(answer.get("reference_to", ""))
        if not reference or reference in found:
            raise _malformed(f"no or two answers to {reference[:20] or 'one question'}")
        data = answer.get("data")
        kept = _without(answer, "pia_id", "reference_to")
        found[reference] = kept | {"data": dict(data)} if isinstance(data, dict) else kept
    return found


def _take(answers: dict[str, Any], reference: int, key: str) -> Any:
    """Take a value out of an answer's data, so that the rest is what is left over."""
    data = answers.get(str(reference), {}).get("data")
    return data.pop(key, None) if isinstance(data, dict) else None


def _text(reading: Reading, place: str, source: Any, left: dict[str, Any]) -> str | None:
    """Return a text as the record holds it; what is beyond its length is left over."""
    if not isinstance(source, str):
        return None
    text = text_of_html(source)
    if "<" in source:
        reading.losses.append(Loss(place, "formatting: the record holds plain text"))
    if len(text) > MAX_TEXT:
        reading.losses.append(Loss(place, f"cut after {MAX_TEXT} characters; the rest is kept"))
        left[_REST] = text[MAX_TEXT:]
    return text[:MAX_TEXT] or None


def _answer_text(
    reading: Reading, answers: dict[str, Any], reference: int, place: str
) -> str | None:
    source = _take(answers, reference, "text")
    return _text(reading, place, source, answers.get(str(reference), {}))


def _read_pia(reading: Reading, pia: dict[str, Any]) -> None:
    left = dict(pia)
    title = _text(reading, "title", left.pop("name", None), left)
    reading.fields["title"] = title or UNSAID
    consulted = left.get("concerned_people_searched_opinion")
    place = "concerned_people_opinion" if consulted else "concerned_people_searched_content"
    text = _text(reading, "consultation", left.get(place), left)
    if isinstance(consulted, bool) and text:
        left = _without(left, "concerned_people_searched_opinion", place)
        reading.fields["consultation"] = Consultation(consulted=consulted, text=text)
    else:
        reading.fields["consultation"] = None
    acts = [key for key in left if key.startswith(("dpo", "author", "evaluator", "validator"))]
    if acts:
        why = "kept, but not as acts: advice and approval are given here by people themselves"
        reading.losses.append(Loss(", ".join(sorted(acts)), why))
    reading.left["pia"] = left


def _read_measures(
    reading: Reading, measures: Iterable[dict[str, Any]], ids: Mapping[str, str]
) -> dict[str, str]:
    """Read the measures and return our ids of them by the file's."""
    numbers: dict[str, str] = {}
    reading.left["measures"] = {}
    found: list[Measure] = []
    for position, measure in enumerate(measures, 1):
        number = str(measure.get("id", f"x{position}"))
        plain = f"measure-{number}" if number.isascii() and number.isdigit() else ""
        id_ = ids.get(f"measure {number}") or plain[:40] or f"measure-x{position}"
        if id_ in numbers.values():
            raise _malformed(f"two measures of one id, {id_}")
        numbers[number] = id_
        left = _without(measure, "id", "pia_id", "title", "content")
        title = _text(reading, f"measures.{id_}.title", measure.get("title"), {}) or UNSAID
        text = _text(reading, f"measures.{id_}", measure.get("content"), left) or title
        kind = _KINDS.get(str(left.get("placeholder")).removeprefix("knowledge_base.slugs.")[:7])
        if kind is None:
            kind = "organisational"
            why = "the file does not say whether technical or organisational: taken for the latter"
            reading.losses.append(Loss(f"measures.{id_}.kind", why))
        found.append(
            Measure.model_validate({"id": id_, "title": title, "text": text, "kind": kind})
        )
        reading.left["measures"][id_] = left
    reading.fields["measures"] = tuple(found)
    return numbers


def _read_evaluations(
    reading: Reading, evaluations: Iterable[dict[str, Any]], numbers: Mapping[str, str]
) -> dict[str, Any]:
    """Leave the evaluations over, under our ids of measures; return the residual gauges."""
    gauges: dict[str, Any] = {}
    left = []
    places = {place.evaluation for place in RISKS}
    for evaluation in evaluations:
        reference = str(evaluation.get("reference_to"))
        kept = _without(evaluation, "pia_id")
        if reference in places and isinstance(kept.get("gauges"), dict):
            gauges[reference] = kept["gauges"]
            kept["gauges"] = _without(kept["gauges"], "x", "y")
        number = reference.removeprefix("3.1.")
        if number != reference and number in numbers:
            kept["reference_to"] = f"3.1.{numbers[number]}"
        left.append(kept)
    if left:
        reading.losses.append(
            Loss("evaluations", _KEPT_ONLY + ", but for residual levels of risks")
        )
    reading.left["evaluations"] = left
    return gauges


def _read_texts(reading: Reading, answers: dict[str, Any]) -> None:
    for reference, place in TEXTS.items():
        reading.fields[place] = _answer_text(reading, answers, reference, place)
    for reference, place in ROWS.items():
        data = answers.get(str(reference), {}).get("data")
        if isinstance(data, dict) and data.get("text"):
            why = f"answer {reference} is free text, the record has rows: kept, to be written anew"
            reading.losses.append(Loss(place, why))


def _read_rights(reading: Reading, answers: dict[str, Any]) -> None:
    texts: dict[str, str | None] = {}
    for reference, names in RIGHTS.items():
        text = _answer_text(reading, answers, reference, "rights")
        texts |= dict.fromkeys(names, text)
    reading.fields["rights"] = None
    if not any(texts.values()):
        return
    needed = [name for name in Rights.model_fields if name != "consent"]
    for name in needed:
        if not texts.get(name):
            texts[name] = UNSAID
            reading.losses.append(Loss(f"rights.{name}", "the file does not say: to be written"))
    reading.fields["rights"] = Rights.model_validate(texts)


def _read_risks(
    reading: Reading, answers: dict[str, Any], gauges: Mapping[str, Any], ids: Mapping[str, str]
) -> None:
    titles: dict[str, str] = {}
    for measure in reading.fields["measures"]:
        if titles.setdefault(measure.title, measure.id) != measure.id:
            why = "several measures have this title; risks that name it mean the first"
            reading.losses.append(Loss(f"measures.{measure.id}.title", why))
    found = (_read_risk(reading, answers, place, titles) for place in RISKS)
    reading.fields["risks"] = tuple(
        _rated(reading, risk, gauges.get(place.evaluation, {}), ids)
        for place, risk in zip(RISKS, found, strict=True)
        if risk is not None
    )


def _read_risk(
    reading: Reading, answers: dict[str, Any], place: RiskPlace, titles: Mapping[str, str]
) -> dict[str, Any] | None:
    lists = {part: _list(answers, place.list_reference(part)) for part in ("impacts", "threats")}
    lists["sources"] = _list(answers, place.list_reference("sources"))
    named = _list(answers, place.list_reference("measures"))
    texts = [
        _answer_text(reading, answers, reference, f"risks.{place.event}")
        for reference in (place.severity, place.likelihood)
    ]
    levels = [
        _take(answers, reference, "gauge") for reference in (place.severity, place.likelihood)
    ]
    if not (any(lists.values()) or named or any(texts) or any(levels)):
        return None
    for title in named:
        if title not in titles:
            why = "a measure is named that the file does not have"
            reading.losses.append(Loss(f"risks.{place.event}.measures", why))
    text = "\n\n".join(text for text in texts if text) or UNSAID
    if len(text) > MAX_TEXT:
        answers[str(place.severity)][_REST] = text[MAX_TEXT:]
        reading.losses.append(Loss(f"risks.{place.event}", "cut; the rest is kept"))
    return {
        "event": place.event,
        "text": text[:MAX_TEXT],
        **lists,
        "measures": tuple(dict.fromkeys(titles[title] for title in named if title in titles)),
        "severity_before": levels[0],
        "likelihood_before": levels[1],
    }


def _list(answers: dict[str, Any], reference: int) -> tuple[str, ...]:
    items = _take(answers, reference, "list")
    items = items if isinstance(items, list) else []
    texts = [text_of_html(item)[:MAX_TEXT] for item in items if isinstance(item, str)]
    return tuple(text for text in texts if text)


def _rated(
    reading: Reading, risk: dict[str, Any], residual: Mapping[str, Any], ids: Mapping[str, str]
) -> Risk:
    """Return the risk with all four levels: one that the file leaves open is taken at its worst."""
    place = f"risks.{risk['event']}"
    for axis, key in (("x", "severity"), ("y", "likelihood")):
        before, after = risk[f"{key}_before"], residual.get(axis)
        if not _is_level(before):
            before = 4
            reading.losses.append(Loss(f"{place}.{key}_before", "not rated: taken as 4, maximum"))
        if not _is_level(after):
            after = before
            reading.losses.append(Loss(f"{place}.{key}_after", "not rated: taken as not lowered"))
        risk |= {f"{key}_before": before, f"{key}_after": after}
    return Risk.model_validate(risk | {"id": ids.get(f"risk {risk['event']}") or risk["event"]})


def _is_level(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4
