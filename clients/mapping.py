"""What a unit calls the contract's columns and values: public constants of its settings.

A cell is translated by itself: which customers there are changes nobody's translation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from fedcore.contracts import Contract, ContractField
from fedcore.errors import DataError

Spellings = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ColumnMapping:
    """The unit's names for the contract's.

    Attributes:
        columns: the source's column for a column of the contract; others have the contract's name.
        values: by column of the contract, the source's spellings of each of its values.
        absent: the fields of the contract that the unit has declared to lack; never found out from
            rows.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Spellings] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def present(self, contract: Contract) -> tuple[ContractField, ...]:
        """Return the contract's fields that the source has."""
        return tuple(known for known in contract.fields if known.name not in self.absent)

    def verify_has(self, fields: set[str]) -> None:
        """Refuse a plan that reads what the unit has declared to lack.

        Raises: DataError `data.field_absent`.
        """
        lacking = sorted(fields & set(self.absent))
        if lacking:
            raise DataError(
                "data.field_absent",
                f"the plan reads what this unit lacks: {', '.join(lacking)}. Have the plan say so, "
                "or take it out of absent_fields when the source has it",
            )

    def source_columns(self, columns: list[str]) -> list[str]:
        """Return what these columns of the contract are called in the source, in their order.

        Raises: DataError `data.column_mapped_twice` when two of them would be read from one.
        """
        named = [self.columns.get(column, column) for column in columns]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise DataError(
                "data.column_mapped_twice",
                f"two of the contract's columns are read from one of the source: "
                f"{', '.join(twice)}. Name another one for each under `columns`",
            )
        return named

    def translate(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the cells with the contract's values for the spellings that are declared."""
        tables = {
            column: {text: value for value, found in spellings.items() for text in found}
            for column, spellings in self.values.items()
            if column in frame.columns
        }
        return frame.with_columns(pl.col(name).replace(table) for name, table in tables.items())

    def verify_fits(self, contract: Contract) -> None:
        """Refuse spellings where a contract has no list of values, those that mean two things, and
        the absence of what every unit must have.

        Raises: DataError `data.mapping_unfit`, `data.absence_not_allowed`.
        """
        needed = [f.name for f in contract.fields if f.availability is None]
        missed = [name for name in needed if name in self.absent]
        if missed:
            raise DataError(
                "data.absence_not_allowed",
                f"absent_fields: the contract wants at every unit: {', '.join(missed)}",
            )
        listed = _listed_values(contract)
        for column in (contract.subject.column, *_day_columns(contract), *contract.field_by_name):
            if column in self.values and column not in listed:
                raise DataError(
                    "data.mapping_unfit",
                    f"values.{column}: only categories and the label have spellings: take it out",
                )
        for column in self.values.keys() & listed.keys():
            _verify_one_meaning(column, self.values[column], listed[column])

    def unknown_names(self, contract: Contract) -> list[str]:
        """Return what is declared here and means nothing under a contract, for the operator.

        It is no fault: another version of the contract may have it.
        """
        listed = _listed_values(contract)
        named = {contract.subject.column, contract.label.name, *contract.field_by_name}
        known = named.union(_day_columns(contract))
        columns = [f"columns.{name}" for name in self.columns if name not in known]
        values = [
            f"values.{column}.{value}"
            for column, spellings in self.values.items()
            for value in spellings
            if value not in listed.get(column, ())
        ]
        fields = contract.field_by_name
        absent = [f"absent_fields.{name}" for name in self.absent if name not in fields]
        return sorted(columns + values + absent)


def _day_columns(contract: Contract) -> tuple[str, ...]:
    return (contract.row_day.column,) if contract.row_day else ()


def _listed_values(contract: Contract) -> dict[str, tuple[str, ...]]:
    fields = {field.name: field.categories for field in contract.fields if field.categories}
    return {**fields, contract.label.name: (contract.label.positive, contract.label.negative)}


def _verify_one_meaning(column: str, spellings: Spellings, values: tuple[str, ...]) -> None:
    """A value of the contract that stands for another one, must have a spelling of its own."""
    for value, found in spellings.items():
        for text in found:
            if text != value and text in values and text not in spellings:
                raise DataError(
                    "data.mapping_unfit",
                    f"values.{column}: {text!r} is a value of the contract itself, and is said to "
                    f"mean {value!r}: say what stands for {text!r}, or take it out",
                )
