"""A DPIA as it is read: each field with its words, the article that asks for it, and its value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from governance.console.rendering import show_words
from governance.decisions.card_parts import show_at

# Above so many columns a table cannot be read, and each item is shown as a list of its own.
MAX_COLUMNS = 6
NOTHING = "—"
_GROUPS = (
    (
        "What is processed",
        (
            "title",
            "description",
            "responsibilities",
            "standards",
            "entities",
            "screening",
            "inventory",
            "life_cycle",
            "assets",
        ),
    ),
    (
        "Why it is necessary",
        ("purposes", "necessity", "minimisation", "accuracy", "retention", "legal_basis"),
    ),
    (
        "The persons concerned",
        ("rights", "data_subject_rights", "profiling", "consultation", "processors", "transfers"),
    ),
    ("Risks and measures", ("risks", "measures", "actions", "review_triggers")),
    ("What machines are held to", ("bindings",)),
)
REST = "The record itself"


@dataclass(frozen=True)
class Column:
    """What one column of a table holds, and the article that asks for it."""

    label: str
    article: str


@dataclass(frozen=True)
class Entry:
    """A field of the record.

    Attributes:
        kind: how `value` is shown: `missing`, `text`, `items` (texts), `table` (rows of texts under
            `columns`), `group` (entries) or `groups` (a list of entries for each item).
        written: whether anybody has written it.
    """

    name: str
    label: str
    article: str
    kind: Literal["missing", "text", "items", "table", "group", "groups"]
    value: Any = None
    columns: tuple[Column, ...] = ()

    @property
    def written(self) -> bool:
        """Whether anybody has written this field."""
        return self.kind != "missing"


@dataclass(frozen=True)
class Section:
    """Fields that are read together."""

    title: str
    entries: tuple[Entry, ...]


def sections_of(record: BaseModel) -> tuple[Section, ...]:
    """Return all fields of a record.

    Guarantees: every field is in exactly one section, also one that these sections do not know.
    """
    entries = {entry.name: entry for entry in _entries(record)}
    named = [
        Section(title, tuple(entries.pop(name) for name in names if name in entries))
        for title, names in _GROUPS
    ]
    return (*named, Section(REST, tuple(entries.values())))


def show_value(value: Any, field: FieldInfo) -> str:
    """Return a value that is not a section of its own, as text."""
    if value is None or value == ():
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return show_at(value)
    if isinstance(value, BaseModel):
        return "; ".join(f"{entry.label}: {_flat(entry)}" for entry in _entries(value))
    if isinstance(value, tuple):
        return ", ".join(show_value(item, field) for item in value)
    closed = get_origin(field.annotation) is Literal
    return str(value).replace("_", " ") if closed else str(value)


def _flat(entry: Entry) -> str:
    return entry.value if entry.kind == "text" else NOTHING


def _entries(record: BaseModel) -> tuple[Entry, ...]:
    fields = type(record).model_fields
    return tuple(_entry(name, getattr(record, name), field) for name, field in fields.items())


def _entry(name: str, value: Any, field: FieldInfo) -> Entry:
    label, article = show_words(name.removesuffix("_name")), _article(field)
    if value is None:
        return Entry(name, label, article, "missing")
    if isinstance(value, BaseModel):
        return Entry(name, label, article, "group", _entries(value))
    if not isinstance(value, tuple):
        return Entry(name, label, article, "text", show_value(value, field))
    if not value:
        # An absent tuple has not been written; an empty one that may be absent says "none".
        said = field.default is None
        return Entry(name, label, article, "text" if said else "missing", "None.")
    if isinstance(value[0], BaseModel):
        return _many(name, field, value)
    return Entry(name, label, article, "items", [show_value(item, field) for item in value])


def _many(name: str, field: FieldInfo, items: Sequence[BaseModel]) -> Entry:
    label, article = show_words(name), _article(field)
    fields = type(items[0]).model_fields
    if len(fields) > MAX_COLUMNS:
        return Entry(name, label, article, "groups", [_entries(item) for item in items])
    columns = tuple(Column(show_words(key), _article(value)) for key, value in fields.items())
    rows = [
        [show_value(getattr(item, key), value) for key, value in fields.items()] for item in items
    ]
    return Entry(name, label, article, "table", rows, columns)


def _article(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra.get("asked_by", "")) if isinstance(extra, dict) else ""
