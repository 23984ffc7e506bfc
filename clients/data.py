"""The only reader of raw customer rows: contract, retention, opt-outs and duplicates are applied
here, once.

Guarantees: one Example for each customer; no excluded customer is ever yielded; a row past
    retention is as if it were not there; a faulty row drops its customer and is counted locally,
    and never changes what the others yield; the order of Examples is that of the customers'
    identifiers, so that it does not depend on the file's.
"""

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.features import encode
from clients.pseudonyms import Pseudonymiser, normalise
from clients.row_days import split_by_age
from clients.sources import Source, load_rows
from fedcore.contracts import Contract, ContractField
from fedcore.errors import DataError
from fedcore.plans import Feature

_SUBJECT = "\x00subject"
_ORDER = "\x00order"
_LABEL = "\x00label"
_DUPLICATE = "one customer has several rows"
_DECIMAL = r"^[+-]?\d+([.,]\d+)?[eE][+-]?\d+$|^[+-]?\d+[.,]\d+$"


@dataclass(frozen=True)
class Faults:
    """How many rows break which rule in which column, and how many are past retention, which is no
    fault. Stays on the node.
    """

    counts: tuple[tuple[str, str, int], ...]
    past_retention: int = 0

    def sentence(self) -> str:
        """Return columns, rules and counts, never values."""
        return "; ".join(f"{column}: {rule} ({count} rows)" for column, rule, count in self.counts)


@dataclass(frozen=True)
class Inputs:
    """What a model takes of a row.

    Attributes:
        features: the inputs of the plan.
        absent: the fields that the plan says this unit lacks; what the source holds of them is in
            no Example.
    """

    features: tuple[Feature, ...]
    absent: frozenset[str] = frozenset()

    @property
    def fields(self) -> set[str]:
        """The fields that the source must have."""
        return {feature.field for feature in self.features} - self.absent


@dataclass(frozen=True)
class Examples:
    """What a model may learn from: features (n, d), labels (n,), and a commitment to both."""

    features: NDArray[np.float64]
    labels: NDArray[np.float64]

    def commitment(self) -> tuple[str, bytes]:
        """Return an HMAC-SHA256 of the examples and its fresh 256-bit key, which stays at the unit.

        Without the key nobody can test a guess of the rows, however many of them are known.
        """
        key = os.urandom(32)
        mac = hmac.new(key, digestmod=hashlib.sha256)
        for part in (self.features, self.labels):
            mac.update(repr(part.shape).encode())
            mac.update(part.tobytes())
        return mac.hexdigest(), key


def check_source(
    source: Source, contract: Contract, pseudonymiser: Pseudonymiser, today: date
) -> Faults:
    """Hold the whole source against the contract, for the operator.

    Args: `today` is the day in UTC, by which rows past retention are told.
    Returns: the faults of single rows within retention, none when every one is sound.
    Raises: DataError when no row could be used at all: `data.unreadable`, `data.column_missing`,
        `data.empty`, and for settings that do not fit `data.column_mapped_twice`,
        `data.mapping_unfit`, `data.absence_not_allowed`.
    """
    table, faults = _examined(source, contract, pseudonymiser, today)
    if table.is_empty() and not faults.counts:
        within = " within retention" if faults.past_retention else ""
        raise DataError("data.empty", f"the source {source.name} has no rows{within}")
    return faults


def load_examples(
    source: Source,
    contract: Contract,
    inputs: Inputs,
    pseudonymiser: Pseudonymiser,
    is_excluded: Callable[[str], bool],
    today: date,
) -> Examples:
    """Return the Examples of all customers who are sound, within retention and not excluded.

    Args:
        is_excluded: says of a pseudonym whether its customer must be left out.
        today: the day in UTC, of a clock that was held against governance's signed time.
    Guarantees: a source that has lost its last row since it was checked has no Examples, so that
        nobody outside can tell.
    Raises: DataError as `check_source`, but for `data.empty`, and `data.field_absent`;
        MismatchError when the plan does not fit the contract.
    """
    source.mapping.verify_has(inputs.fields)
    frame, _ = _examined(source, contract, pseudonymiser, today)
    keep = [not is_excluded(pseudonym) for pseudonym in frame[_SUBJECT]]
    rows = frame.filter(pl.Series(keep, dtype=pl.Boolean)).sort(_ORDER)
    labels = rows[_LABEL].to_numpy().astype(np.float64)
    return Examples(features=encode(rows, inputs.features, contract, inputs.absent), labels=labels)


def holds_customer(
    source: Source, contract: Contract, pseudonymiser: Pseudonymiser, identifier: str
) -> bool:
    """Return whether any row of the source, sound or not, is of this customer.

    Raises: DataError `data.unreadable`, `data.column_missing`; and, as nothing can be said then,
        `data.contract_broken` when lines cannot be read as rows.
    """
    rows = load_rows(source, [contract.subject.column])
    if rows.malformed:
        raise DataError(
            "data.contract_broken",
            f"{rows.malformed} lines of the source are no rows, and may be of this customer: mend "
            "the source",
        )
    wanted = pseudonymiser.pseudonym(identifier)
    return any(
        pseudonymiser.pseudonym(cell) == wanted
        for cell in rows.frame[contract.subject.column]
        if normalise(cell or "")
    )


def refuse_faults(faults: Faults) -> None:
    """Raise for the operator when any row is faulty.

    Raises: DataError `data.duplicate_subject`, or `data.contract_broken`.
    """
    if not faults.counts:
        return
    rules = {rule for _, rule, _ in faults.counts}
    code = "data.duplicate_subject" if rules == {_DUPLICATE} else "data.contract_broken"
    raise DataError(
        code,
        f"the source breaks the contract: {faults.sentence()}. Mend the source, or set "
        "faulty_rows = 'drop' to leave these customers out",
    )


def _examined(
    source: Source, contract: Contract, pseudonymiser: Pseudonymiser, today: date
) -> tuple[pl.DataFrame, Faults]:
    source.mapping.verify_fits(contract)
    fields = source.mapping.present(contract)
    columns = [contract.subject.column, contract.label.name, *(field.name for field in fields)]
    columns += [contract.row_day.column] if contract.row_day else []
    rows = load_rows(source, columns)
    frame, undated, past = split_by_age(rows.frame, contract, today)
    faults: Counter[tuple[str, str]] = Counter({("line", "is no row of the table"): rows.malformed})
    for column, rule, broken in undated:
        faults[column, rule] += int(broken.sum())
    sound = pl.Series([True] * frame.height, dtype=pl.Boolean)
    for _, _, broken in undated:
        sound &= ~broken
    cells: dict[str, pl.Series] = {}
    for field in fields:
        cells[field.name], rules = _field_cells(frame[field.name], field)
        for rule, broken in rules.items():
            faults[field.name, rule] += int(broken.sum())
            sound &= ~broken
    label, broken = _label_cells(frame[contract.label.name], contract)
    faults[contract.label.name, "not one of the two labels"] += int(broken.sum())
    sound &= ~broken
    subject, rules = _subjects(frame[contract.subject.column], pseudonymiser)
    for rule, broken in rules.items():
        faults[contract.subject.column, rule] += int(broken.sum())
        sound &= ~broken
    order = frame[contract.subject.column].str.to_uppercase()
    table = pl.DataFrame({_SUBJECT: subject, _ORDER: order, _LABEL: label, **cells}).filter(sound)
    found = tuple((c, rule, count) for (c, rule), count in sorted(faults.items()) if count)
    return table, Faults(found, past)


def _field_cells(column: pl.Series, field: ContractField) -> tuple[pl.Series, dict[str, pl.Series]]:
    """Return the cells and the broken rules; an empty cell stays null, and breaks one only where
    the contract has nothing that stands for it.
    """
    empty = column.is_null()
    broken = empty if field.missing is None else empty & ~empty
    if field.kind == "categorical":
        unknown = ~column.is_in(list(field.categories)).fill_null(value=True)
        return column, {"empty": broken, "category outside the contract": unknown}
    values = column.cast(pl.Float64, strict=False)
    number = values.is_finite().fill_null(value=False)
    outside = number & ((values < field.lower) | (values > field.upper)).fill_null(value=False)
    return values, {
        "empty": broken,
        "not a finite number": ~number & ~empty,
        "outside its bounds": outside,
    }


def _label_cells(column: pl.Series, contract: Contract) -> tuple[pl.Series, pl.Series]:
    positive = (column == contract.label.positive).fill_null(value=False)
    negative = (column == contract.label.negative).fill_null(value=False)
    return positive.cast(pl.Float64), ~(positive | negative)


def _subjects(
    column: pl.Series, pseudonymiser: Pseudonymiser
) -> tuple[pl.Series, dict[str, pl.Series]]:
    """Return pseudonyms and broken rules.

    A number with decimals or an exponent is what a spreadsheet or a column of floats makes of an
    identifier: its pseudonym would no longer be the one that opt-outs were taken in under.
    """
    pseudonyms = pl.Series(
        [pseudonymiser.pseudonym(cell) if normalise(cell or "") else None for cell in column],
        dtype=pl.String,
    )
    empty = pseudonyms.is_null()
    rules = {
        "empty": empty,
        "written as a number with decimals": column.str.contains(_DECIMAL).fill_null(value=False),
        _DUPLICATE: pseudonyms.is_duplicated() & ~empty,
    }
    return pseudonyms, rules
