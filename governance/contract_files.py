"""A contract as a person writes it: YAML or JSON, and the JSON Schema that editors hold it against.

Guarantees: a YAML file means what it says or is refused: each value has one reading under YAML 1.1,
    YAML 1.2 and to a person. Bare `no`, `on`, `1_000`, `012`, `12:30` and dates are refused, as are
    aliases, tags and a key that occurs twice. What is not bare stays text, letter by letter.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.errors import InvalidRecordError

SUFFIXES = (".yaml", ".yml")
MAX_YAML_BYTES = 1024 * 1024
_MAX_DEPTH = 20
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LIKE_A_NUMBER = re.compile(r"[-+.]?[0-9][0-9a-fA-FoxXeE_.,:+ TZ-]*|[-+]?\.(inf|nan)", re.I)
_WORDS = frozenset(
    {"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "=", "<<"}
)


def parse_contract(data: bytes, name: str) -> Contract:
    """Return the contract of a file's bytes; `name` says by its ending whether it is YAML.

    Raises: InvalidRecordError `record.*`, naming the field.
    """
    is_yaml = Path(name).suffix.lower() in SUFFIXES
    return Contract.from_json(parse_yaml(data) if is_yaml else canonical.parse(data))


def load_contract(path: Path) -> Contract:
    """Return the contract of a file.

    Raises: InvalidRecordError `file.unreadable`, and `record.*` that name file and field.
    """
    try:
        return parse_contract(path.read_bytes(), path.name)
    except OSError as error:
        raise InvalidRecordError(
            "file.unreadable", f"{path} cannot be read: name the right file", str(error)
        ) from error
    except InvalidRecordError as error:
        raise InvalidRecordError(error.code, f"{path.name}: {error.public}") from error


def parse_yaml(data: bytes) -> Any:
    """Return the JSON value of one YAML document of texts, numbers, lists and mappings.

    Raises: InvalidRecordError `record.too_large`, `record.not_yaml`, `record.duplicate_key`,
        `record.ambiguous`.
    """
    if len(data) > MAX_YAML_BYTES:
        raise InvalidRecordError(
            "record.too_large", f"the document is larger than {MAX_YAML_BYTES} bytes"
        )
    try:
        events = list(yaml.parse(data.decode("utf-8-sig"), Loader=yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "the document"
        raise InvalidRecordError("record.not_yaml", f"{where} is not valid YAML") from error
    documents = [event for event in events if isinstance(event, yaml.DocumentStartEvent)]
    if len(documents) != 1:
        raise InvalidRecordError("record.not_yaml", "the file does not hold one document")
    inside = iter(events[2:])  # after the starts of stream and document
    return _value(next(inside), inside, ())


def contract_schema() -> dict[str, Any]:
    """Return the JSON Schema of a contract, for editors."""
    schema = Contract.model_json_schema(by_alias=True)
    required = ["schema", *schema["required"]]
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **schema, "required": required}


def _value(event: Any, events: Iterator[Any], path: tuple[str, ...]) -> Any:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _refused(event, path, "has an anchor or an alias; write the value out")
    if event.tag is not None:
        raise _refused(event, path, "has a tag; leave it out")
    if len(path) > _MAX_DEPTH:
        raise _refused(event, path[:1], "is nested too deeply")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, path)
    if isinstance(event, yaml.SequenceStartEvent):
        return _sequence(events, path)
    return _mapping(events, path)


def _sequence(events: Iterator[Any], path: tuple[str, ...]) -> list[Any]:
    found: list[Any] = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        found.append(_value(event, events, (*path, str(len(found)))))
    return found


def _mapping(events: Iterator[Any], path: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
            raise _refused(event, path, "has a key that is no plain text")
        key = event.value
        if key in found:
            raise InvalidRecordError(
                "record.duplicate_key", f"{_place(event, path)} names the key {key} twice"
            )
        found[key] = _value(next(events), events, (*path, key))
    return found


def _scalar(event: Any, path: tuple[str, ...]) -> str | int | float:
    text = str(event.value)
    if event.style is not None:
        return text
    if _NUMBER.fullmatch(text) and len(text) <= 40:
        return _number(event, text, path)
    if text.lower() in _WORDS or _LIKE_A_NUMBER.fullmatch(text):
        raise InvalidRecordError(
            "record.ambiguous",
            f"{_place(event, path)}: programs read {text!r} in different ways; put it in quotes "
            "when a text is meant, write a number in plain digits, or leave the field out",
        )
    return text


def _number(event: Any, text: str, path: tuple[str, ...]) -> int | float:
    value = int(text) if _WHOLE.fullmatch(text) else float(text)
    if abs(value) >= 2**53:
        raise _refused(event, path, "is a number of 2^53 or above")
    return value


def _refused(event: Any, path: tuple[str, ...], problem: str) -> InvalidRecordError:
    return InvalidRecordError("record.not_yaml", f"{_place(event, path)} {problem}")


def _place(event: Any, path: tuple[str, ...]) -> str:
    return f"{'.'.join(path) or 'the document'} (line {event.start_mark.line + 1})"
