"""The data contract: what a customer row is, in public constants only."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import Name, Part, Record, Text

Basis = Literal[
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_task",
    "legitimate_interests",
]
Normaliser = Literal["trim-upper/1"]
SpecialCondition = Literal[
    "explicit_consent",
    "employment_law",
    "vital_interests",
    "not_for_profit_body",
    "manifestly_public",
    "legal_claims",
    "substantial_public_interest",
    "health_care",
    "public_health",
    "archiving_or_research",
]


class Purpose(Part):
    """A node of the closed tree of purposes. An opt-out of a purpose covers all below it."""

    id: Name
    text: Text
    parent: Name | None = None
    basis: Basis


class SubjectRule(Part):
    """The column that names the customer, and how its value is normalised for a pseudonym."""

    column: Text
    namespace: Name
    normaliser: Normaliser


class Table(Part):
    """What the one table of customers is called, and what it holds; its key is the subject's
    column: one row for each customer, unless the contract says `rows_per_customer`.
    """

    name: Text
    text: Text | None = None


class FieldBasis(Part):
    """The legal basis that a field is held on, and of a special one what Art. 9(2) allows it by,
    points (a) to (j) in their order.
    """

    basis: Basis
    condition: SpecialCondition | None = None


class ContractField(Part):
    """One column with its public bounds or categories.

    `missing_value` is the public constant that stands for an empty numeric cell, and
    `missing_category` the category that stands for an empty categorical one; without it an empty
    cell breaks the contract. A field without `availability` is at every unit; of one that may be
    absent at a unit, the plan says what happens there. Sensitive, special and forbidden fields are
    never inputs of a model.
    """

    name: Text
    kind: Literal["numeric", "categorical"]
    unit: Text | None = None
    lower: float | None = None
    upper: float | None = None
    missing_value: float | None = None
    categories: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    missing_category: Text | None = None
    availability: Literal["may_be_absent"] | None = None
    sensitivity: Literal["none", "sensitive", "special", "forbidden"] = "none"
    legal_basis: FieldBasis | None = None

    @model_validator(mode="after")
    def _bounds_or_categories(self) -> Self:
        if self.kind == "categorical":
            if len(self.categories) < 2 or len(set(self.categories)) != len(self.categories):
                raise ValueError(f"field {self.name}: needs at least two distinct categories")
            return self
        if self.lower is None or self.upper is None or not self.lower < self.upper:
            raise ValueError(f"field {self.name}: needs public bounds with lower < upper")
        if self.missing_value is not None and not self.lower <= self.missing_value <= self.upper:
            raise ValueError(f"field {self.name}: missing_value lies outside the bounds")
        return self

    @model_validator(mode="after")
    def _missing_category_is_one(self) -> Self:
        stand_in = self.missing_category
        if stand_in is not None and (self.kind != "categorical" or stand_in not in self.categories):
            raise ValueError(f"field {self.name}: missing_category is none of its categories")
        return self

    @model_validator(mode="after")
    def _special_needs_its_condition(self) -> Self:
        needed = self.sensitivity == "special"
        if self.legal_basis is not None and needed != (self.legal_basis.condition is not None):
            raise ValueError(
                f"field {self.name}: legal_basis has a condition of Art. 9(2) where the field is "
                "special, only"
            )
        return self

    @property
    def missing(self) -> float | str | None:
        """What stands for an empty cell; None when an empty cell breaks the contract."""
        return self.missing_category if self.kind == "categorical" else self.missing_value

    def holds(self, value: float | str) -> bool:
        """Return whether a public constant could be a sound cell of this field."""
        if self.kind == "categorical":
            return value in self.categories
        lower, upper = self.lower, self.upper
        return (
            not isinstance(value, str)
            and lower is not None
            and upper is not None
            and lower <= value <= upper
        )


class Label(Part):
    """The binary outcome that is learnt, and over which horizon it is observed."""

    name: Text
    positive: Text
    negative: Text
    horizon_days: Annotated[int, Field(ge=1, le=3660)]


class DayRule(Part):
    """The column that tells a row's day, by which its age is told.

    `iso-day/1`: a cell begins with a calendar day, `YYYY-MM-DD`; nothing else stands in it but a
    time of day (with its zone) behind it, which is not read. The day counts as it is written, and
    is held against today's in UTC.
    """

    column: Text
    rule: Literal["iso-day/1"]


class RowsRule(Part):
    """How many rows of a customer count, and of more which: they become one Example, by their mean.

    `newest/1`: those with the latest days by `row_day`, and of one day as `drawn/1` has it.
    `drawn/1`: those with the least SHA-256 of the identifier with the row's label and fields, which
    is to say any, and always the same ones. Neither looks at where a row stands, or at others'.
    """

    most: Annotated[int, Field(ge=2, le=64)]
    rule: Literal["newest/1", "drawn/1"]


class Contract(Record):
    """What every unit's rows look like. All constants come from public sources, never from rows.

    Guarantees: field names are unique; the purposes form a forest (known parents, no cycle); the
        label, the subject and the day column are no fields; rows are taken by their days only
        where they have some.
    With `row_day` a row that is more than `retention_days` old is read by no node; without it the
    unit itself keeps its source within them. Without `rows_per_customer` a customer has one row,
    and a second one is a fault.
    """

    schema_name: Literal["contract/1"] = Field(default="contract/1", alias="schema")
    contract_id: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    title: Text
    source: Text
    table: Table | None = None
    subject: SubjectRule
    fields: Annotated[tuple[ContractField, ...], Field(min_length=1, max_length=2000)]
    label: Label
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1, max_length=500)]
    retention_days: Annotated[int, Field(ge=1, le=36600)]
    row_day: DayRule | None = None
    rows_per_customer: RowsRule | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        columns = [field.name for field in self.fields] + [self.label.name, self.subject.column]
        columns += [self.row_day.column] if self.row_day else []
        if len(set(columns)) != len(columns):
            raise ValueError("a column is named twice among fields, label, subject and day")
        for purpose in self.purposes:
            purpose_line(self.purposes, purpose.id)
        rows = self.rows_per_customer
        if rows is not None and rows.rule == "newest/1" and self.row_day is None:
            raise ValueError("rows_per_customer: newest/1 needs row_day; or say drawn/1")
        return self

    @property
    def field_by_name(self) -> Mapping[str, ContractField]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}


def purpose_line(purposes: tuple[Purpose, ...], purpose_id: str) -> tuple[str, ...]:
    """Return the purpose and all its ancestors, nearest first.

    An opt-out of any of them excludes a customer from processing for `purpose_id`.
    Raises: ValueError for an unknown purpose or parent, a purpose named twice, or a cycle.
    """
    parents = {purpose.id: purpose.parent for purpose in purposes}
    if len(parents) != len(purposes):
        raise ValueError("a purpose is named twice")
    line: list[str] = []
    step: str | None = purpose_id
    while step is not None:
        if step not in parents:
            raise ValueError(f"purpose {step} is not in the contract's tree")
        if step in line:
            raise ValueError(f"purpose {step} is its own ancestor")
        line.append(step)
        step = parents[step]
    return tuple(line)


def basis_of(purposes: tuple[Purpose, ...], purpose_id: str) -> Basis:
    """Return the legal basis of a purpose. Raises: ValueError for an unknown one."""
    for purpose in purposes:
        if purpose.id == purpose_id:
            return purpose.basis
    raise ValueError(f"purpose {purpose_id} is not in the contract's tree")
