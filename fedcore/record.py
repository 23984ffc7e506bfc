"""What every signed document shares: frozen, closed, versioned, canonical."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from fedcore import canonical
from fedcore.errors import InvalidRecordError

# Where a record remembers its digest: with the underscore it is in no dump, comparison or copy.
_DIGEST = "_digest"
# What pydantic calls it when a value is none that has named fields.
_NO_OBJECT = frozenset({"model_type", "model_attributes_type", "dict_type"})
_OF_A_LIST = re.compile(r"^(Tuple|List|Set|Frozenset|Dictionary) should have")


class Realm(StrEnum):
    """Where a document is valid. Nothing of one realm is ever accepted in the other."""

    PRODUCTION = "production"
    SIMULATION = "simulation"


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time must say its zone")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time must be in the years 1 to 9999 of UTC") from error


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Hex256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PublicKey = Hex256
At = Annotated[datetime, AfterValidator(_utc)]
Positive = Annotated[float, Field(gt=0)]
Counter = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Part(BaseModel):
    """A value inside a document: frozen, and refuses fields that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class Record(Part):
    """A signed document's content; a subclass states `schema_name` as `<name>/<version>`.

    Guarantees: equal records have equal bytes; `from_bytes(to_bytes())` is the identity; a document
        of another schema, with an unknown field, or in a non-canonical form is refused.
    """

    schema_name: str = Field(alias="schema")

    @classmethod
    def schema_id(cls) -> str:
        """Return `<name>/<version>`."""
        return str(cls.model_fields["schema_name"].default)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the record of canonical bytes.

        Raises: InvalidRecordError that names the first bad field and its rule.
        """
        return cls.from_json(canonical.parse(data), data)

    @classmethod
    def from_json(cls, value: Any, data: bytes | None = None) -> Self:
        """Return the record of a JSON value; with `data`, also hold it against those exact bytes.

        Raises: InvalidRecordError that names the first bad field and its rule.
        """
        if not isinstance(value, dict) or value.get("schema") != cls.schema_id():
            raise InvalidRecordError(
                "record.unknown_schema", f"expected a document of schema {cls.schema_id()}"
            )
        try:
            record = cls.model_validate(value)
        except ValidationError as error:
            raise InvalidRecordError(
                "record.invalid", f"{cls.schema_id()}: {first_problem(error)}"
            ) from error
        if data is not None and record.to_bytes() != data:
            raise InvalidRecordError(
                "record.not_canonical", f"{cls.schema_id()}: a value is not in its canonical form"
            )
        return record

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON value, schema included, absent optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self.to_json())

    @property
    def digest(self) -> str:
        """The digest of the canonical bytes: the document's identity, worked out once."""
        known: str | None = self.__dict__.get(_DIGEST)
        if known is None:
            known = self.__dict__[_DIGEST] = canonical.digest(self.to_bytes())
        return known

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, and so with another digest."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop(_DIGEST, None)
        return copied


def first_problem(error: ValidationError) -> str:
    """Return `field: rule` of the first validation problem, without the value that was given; of a
    problem of the whole the rule, which names its fields itself.
    """
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step) for step in problem["loc"])
    rule = rule_of(problem["type"], problem["msg"])
    return f"{place}: {rule}" if place else rule


def rule_of(kind: str, message: str) -> str:
    """Return a rule in words for whoever wrote the document: without names of classes, nor of the
    library's own steps.
    """
    if kind in _NO_OBJECT:
        return "must be a JSON object"
    rule = message.removeprefix("Value error, ")
    return _OF_A_LIST.sub("must have", rule).replace(" after validation", "")
