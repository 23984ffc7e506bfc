"""The fields of a DPIA for people: their labels, the articles that ask for them, their values."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fedcore.dpia_record import Dpia
from fedcore.record import Part
from governance.decisions.dpia_changes import ORDER, Change

Labels = Mapping[str, str]
_INTERNAL = "internal control"
_LONGEST_IN_A_PATH = 60


def article_of(field: FieldInfo, labels: Labels) -> str:
    """Return which article asks for a field, or that internal control does."""
    extra = field.json_schema_extra
    article = str(extra.get("asked_by", _INTERNAL)) if isinstance(extra, dict) else _INTERNAL
    return say_article(article, labels)


def say_article(article: str, labels: Labels) -> str:
    """Return an article's name in the labels' language."""
    if article == _INTERNAL:
        return labels["word.internal_control"]
    return article.replace("Recital", labels["word.recital"])


def part_of(annotation: Any) -> type[Part] | None:
    """Return the part that a field holds, one or many of; None when it holds plain values."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    found = (part_of(inner) for inner in get_args(annotation) if get_origin(annotation) != Literal)
    return next((part for part in found if part is not None), None)


def closed_values(annotation: Any) -> tuple[str, ...]:
    """Return the values that a field is closed to; empty when it is open."""
    if get_origin(annotation) == Literal:
        return tuple(str(value) for value in get_args(annotation))
    return tuple(value for inner in get_args(annotation) for value in closed_values(inner))


@cache
def list_parts() -> tuple[type[Part], ...]:
    """Return the record and every part that it is made of."""
    found: dict[type[Part], None] = {}
    pending: list[type[Part]] = [Dpia]
    while pending:
        part = pending.pop(0)
        if part not in found:
            found[part] = None
            inner = (part_of(field.annotation) for field in part.model_fields.values())
            pending += [one for one in inner if one is not None]
    return tuple(found)


def schema_of(labels: Labels) -> dict[str, Any]:
    """Return the record's JSON Schema, each property with its label and the article."""
    schema = Dpia.model_json_schema(by_alias=True)
    definitions = {**schema["$defs"], "Dpia": schema}
    for part in list_parts():
        for name, field in part.model_fields.items():
            described = definitions[part.__name__]["properties"][field.alias or name]
            described["title"] = labels[f"{part.__name__}.{name}"]
            described.setdefault("asked_by", _INTERNAL)
    schema["title"] = labels["Dpia"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def render_dpia(dpia: Dpia, labels: Labels) -> Iterator[str]:
    """Yield the whole record as lines for people, each field with its label and article."""
    yield f"{labels['Dpia']}: {dpia.dpia_id}, {dpia.digest}"
    yield ""
    yield from _part_lines(dpia, labels, "")


def name_path(path: tuple[str, ...], labels: Labels) -> str:
    """Return a path of field names and items' names in words."""
    return " > ".join(words for words, _ in _steps(path, labels))


def describe_change(change: Change, labels: Labels) -> str:
    """Return one difference as a line: where, what it was, what it is, whether it is material."""
    *_, (_, key) = _steps(change.path, labels)
    line = name_path(change.path, labels)
    if change.old is None and change.new is not None:
        line += f": {labels['word.added']}"
        is_in_the_path = change.new == change.path[-1] and len(change.new) <= _LONGEST_IN_A_PATH
        line += "" if is_in_the_path else f" {_say(key, change.new, labels)}"
    elif change.new is None:
        line += f": {labels['word.removed']}"
    elif change.path[-1] != ORDER:
        line += f": {_say(key, change.old, labels)} → {_say(key, change.new, labels)}"
    return f"{line} [{labels['word.material']}]" if change.material else line


def _steps(path: tuple[str, ...], labels: Labels) -> Iterator[tuple[str, str]]:
    """Each step of a path in words, with the key of the labels of its values."""
    part: type[Part] | None = Dpia
    key, names_an_item = "Dpia", False
    for step in path:
        name = "schema_name" if step == "schema" else step
        if part is not None and not names_an_item and name in part.model_fields:
            key = f"{part.__name__}.{name}"
            annotation = part.model_fields[name].annotation
            part, names_an_item = part_of(annotation), _holds_many(annotation)
            yield labels[key], key
            continue
        names_an_item = False
        holder = key if part is None else f"{part.__name__}.id"
        short = step[:_LONGEST_IN_A_PATH] + ("…" if len(step) > _LONGEST_IN_A_PATH else "")
        known = labels["word.order"] if step == ORDER else labels.get(f"{holder}.{step}", short)
        yield known, key


def _holds_many(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_holds_many, get_args(annotation)))


def _say(key: str, value: Any, labels: Labels) -> str:
    """A JSON value in words; a known value of the field `key` by its label."""
    if isinstance(value, bool):
        return labels["word.yes" if value else "word.no"]
    if isinstance(value, dict):
        return "; ".join(_say(key, one, labels) for one in value.values())
    if isinstance(value, list | tuple):
        return ", ".join(_say(key, one, labels) for one in value) or labels["word.none"]
    return labels.get(f"{key}.{value}", str(value))


def _part_lines(part: Part, labels: Labels, indent: str) -> Iterator[str]:
    kind = type(part)
    for name, field in kind.model_fields.items():
        value = getattr(part, name)
        key = f"{kind.__name__}.{name}"
        head = f"{indent}{labels[key]} ({article_of(field, labels)}):"
        if isinstance(value, Part):
            yield head
            yield from _part_lines(value, labels, indent + "    ")
        elif isinstance(value, tuple) and value and isinstance(value[0], Part):
            yield head
            for item in value:
                yield f"{indent}  -"
                yield from _part_lines(item, labels, indent + "    ")
        else:
            nothing = labels["word.absent" if kind is Dpia else "word.none"]
            lacking = value in (None, ()) and value == field.default
            yield f"{head} {nothing if lacking else _say(key, value, labels)}"
