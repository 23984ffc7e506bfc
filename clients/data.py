"""The only reader of raw customer rows: contract, retention, opt-outs and duplicates are applied
here, once.

Guarantees: one Example for each customer, also where the contract lets a customer have several
    rows; no excluded customer is ever yielded; a row past retention is as if it were not there; a
    faulty row drops its customer and is counted locally, and never changes what the others yield;
    the order of Examples is that of the customers' identifiers, so that it does not depend on the
    file's.
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cells import DUPLICATE, field_cells, label_cells, subject_cells
from clients.customer_rows import CUSTOMER, DAY, rows_of_crowded, take_rows, whole_customers
from clients.features import encode
from clients.pseudonyms import Pseudonymiser, normalise
from clients.row_days import ALL_DAYS, Days, split_by_age
from clients.sources import Rows, Source, load_rows
from clients.splits import EVERYTHING, Extent
from fedcore.contracts import Contract, RowsRule
from fedcore.errors import DataError
from fedcore.plans import Feature

_IDENTIFIER = "\x00identifier"
_ORDER = "\x00order"
_LABEL = "\x00label"
RowFound = Literal["none", "past_retention", "present"]


@dataclass(frozen=True)
class Faults:
    """How many rows break which rule in which column; and, which are no faults, how many rows are
    past retention and how many customers have more rows than count. Stays on the node.
    """

    counts: tuple[tuple[str, str, int], ...]
    past_retention: int = 0
    crowded: int = 0

    def sentence(self) -> str:
        """Return columns, rules and counts, never values."""
        return "; ".join(f"{column}: {rule} ({count} rows)" for column, rule, count in self.counts)


@dataclass(frozen=True)
class Inputs:
    """What a model takes of a row, and of which rows.

    Attributes:
        features: the inputs of the plan.
        absent: the fields that the plan says this unit lacks; what the source holds of them is in
            no Example.
        extent: the part of the source that is read.
        challenger: what a second model takes of the same rows.
        groups: fields whose cells are read besides, to tell groups by; never inputs.
    """

    features: tuple[Feature, ...]
    absent: frozenset[str] = frozenset()
    extent: Extent = EVERYTHING
    challenger: "Inputs | None" = None
    groups: tuple[str, ...] = ()

    @property
    def fields(self) -> set[str]:
        """The fields that the source must have."""
        own = {feature.field for feature in self.features} - self.absent
        return own | set(self.groups) | (self.challenger.fields if self.challenger else set())

    @property
    def all_absent(self) -> frozenset[str]:
        """The fields by which no row is told from another one of its customer."""
        return self.absent | (self.challenger.all_absent if self.challenger else frozenset())


@dataclass(frozen=True)
class Reading:
    """Every row of a source within retention, and what the contract says of it. Stays on the node.

    Attributes:
        rows: the cells as text.
        cells: a field's cells as the contract means them; none of a field that is absent here.
        label: 1 for the positive label, else 0.
        subject: pseudonyms; null where the identifier is empty.
        former: for each row the customer's pseudonyms under the former keys that still count.
        broken: by column and rule, which rows break it.
        past_retention: how many rows were left out as past it.
    """

    rows: Rows
    cells: Mapping[str, pl.Series]
    label: pl.Series
    subject: pl.Series
    former: Sequence[tuple[str, ...]]
    broken: Mapping[tuple[str, str], pl.Series]
    past_retention: int

    def kept(self, is_left_out: Callable[..., bool]) -> pl.Series:
        """Return which rows are of nobody who is left out; one without an identifier is kept.

        Args: `is_left_out` says of all pseudonyms of a customer, the present one first, whether the
            customer must be left out.
        """
        pairs = zip(self.subject, self.former, strict=True)
        keep = [now is None or not is_left_out(now, *former) for now, former in pairs]
        return pl.Series(keep, dtype=pl.Boolean)

    def sound(self) -> pl.Series:
        """Return which rows break no rule."""
        sound = pl.Series([True] * len(self.label), dtype=pl.Boolean)
        for broken in self.broken.values():
            sound &= ~broken
        return sound

    def faults(self) -> Faults:
        """Return how many rows break which rule."""
        counts = {found: int(rows.sum()) for found, rows in self.broken.items()}
        counts["line", "is no row of the table"] = self.rows.malformed
        found = tuple((c, rule, count) for (c, rule), count in sorted(counts.items()) if count)
        return Faults(found, self.past_retention)


@dataclass(frozen=True, repr=False)
class Examples:
    """What a model may learn from: features (rows, d), labels (rows,), and a commitment to them.

    Attributes:
        identifiers: the customers', in the same order, for the unit's own record of readings.
        counts: how many rows each customer has, beside each other; None where all have one.
        most: the contract's most rows of a customer.
        challenger: the features that a second model takes of the same rows.
        groups: the cells of the fields that groups are told by, of the same rows.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.float64]
    identifiers: tuple[str, ...] = ()
    counts: NDArray[np.int64] | None = None
    most: int = 1
    challenger: NDArray[np.float64] | None = None
    groups: pl.DataFrame | None = None

    @property
    def customers(self) -> int:
        """How many there are: each is one Example, and is sampled and clipped as one."""
        return len(self.labels if self.counts is None else self.counts)

    @property
    def shares(self) -> NDArray[np.float64] | None:
        """What each row counts in its customer's mean, shape (rows,); None where all have one."""
        return None if self.counts is None else np.repeat(1.0 / self.counts, self.counts)

    def commitment(self) -> tuple[str, bytes]:
        """Return an HMAC-SHA256 of the examples and its fresh 256-bit key, which stays at the unit.

        Without the key nobody can test a guess of the rows, however many of them are known.
        """
        key = os.urandom(32)
        mac = hmac.new(key, digestmod=hashlib.sha256)
        parts = (self.features, self.labels, self.counts, self.challenger)
        for part in (one for one in parts if one is not None):
            mac.update(repr(part.shape).encode())
            mac.update(part.tobytes())
        if self.groups is not None:
            mac.update(self.groups.write_csv().encode())
        return mac.hexdigest(), key


def check_source(
    source: Source,
    contract: Contract,
    pseudonymiser: Pseudonymiser,
    today: date,
    watch: Callable[[Reading], None] = lambda _: None,
) -> Faults:
    """Hold the whole source against the contract, for the operator.

    Args:
        today: the day in UTC, by which rows past retention are told.
        watch: is shown every row within retention, before anything is decided about the source.
    Returns: the faults of single rows within retention, none when every one is sound.
    Raises: DataError when no row could be used at all: `data.unreadable`, `data.column_missing`,
        `data.empty`, and for settings that do not fit `data.column_mapped_twice`,
        `data.mapping_unfit`, `data.absence_not_allowed`.
    """
    reading = _read(source, contract, pseudonymiser, today)
    watch(reading)
    crowded = len(rows_of_crowded(reading.subject, contract))
    faults = replace(reading.faults(), crowded=crowded)
    if reading.label.is_empty() and not faults.counts:
        within = " within retention" if faults.past_retention else ""
        raise DataError("data.empty", f"the source {source.name} has no rows{within}")
    return faults


def load_examples(
    source: Source,
    contract: Contract,
    inputs: Inputs,
    pseudonymiser: Pseudonymiser,
    is_excluded: Callable[..., bool],
    today: date,
) -> Examples:
    """Return the Examples of all customers who are sound, within retention and not excluded.

    Args:
        is_excluded: as for `Reading.kept`.
        today: the day in UTC, of a clock that was held against governance's signed time.
    Guarantees: a source that has lost its last row since it was checked has no Examples, so that
        nobody outside can tell.
    Raises: DataError as `check_source`, but for `data.empty`, and `data.field_absent`;
        MismatchError when the plan does not fit the contract.
    """
    source.mapping.verify_has(inputs.fields)
    reading = _read(source, contract, pseudonymiser, today, inputs.extent.days)
    identifiers = reading.rows.frame[contract.subject.column]
    usable = reading.sound() & reading.kept(is_excluded) & inputs.extent.takes(identifiers)
    if contract.rows_per_customer is not None:
        return _examples_of_several(reading, contract, contract.rows_per_customer, inputs, usable)
    named = {_IDENTIFIER: identifiers, _ORDER: identifiers.str.to_uppercase()}
    table = pl.DataFrame({**named, _LABEL: reading.label, **reading.cells})
    rows = table.filter(usable).sort(_ORDER)
    return replace(_encoded(rows, contract, inputs), identifiers=tuple(rows[_IDENTIFIER]))


def _encoded(rows: pl.DataFrame, contract: Contract, inputs: Inputs) -> Examples:
    """Return the rows as the models take them."""
    other = inputs.challenger
    return Examples(
        features=encode(rows, inputs.features, contract, inputs.absent),
        labels=rows[_LABEL].to_numpy().astype(np.float64),
        challenger=encode(rows, other.features, contract, other.absent) if other else None,
        groups=rows.select(inputs.groups) if inputs.groups else None,
    )


def _examples_of_several(
    reading: Reading, contract: Contract, rule: RowsRule, inputs: Inputs, usable: pl.Series
) -> Examples:
    """Return the Examples of customers all of whose rows are usable."""
    frame = reading.rows.frame
    named = {CUSTOMER: [normalise(cell or "") for cell in frame[contract.subject.column]]}
    if contract.row_day is not None:
        named[DAY] = frame[contract.row_day.column].str.slice(0, 10).to_list()
    table = pl.DataFrame({**named, _LABEL: reading.label, **reading.cells})
    content = [_LABEL, *(name for name in reading.cells if name not in inputs.all_absent)]
    whole = table.filter(whole_customers(reading.subject, usable))
    rows, counts = take_rows(whole, rule, content)
    identifiers = tuple(rows[CUSTOMER].unique(maintain_order=True))
    found = _encoded(rows, contract, inputs)
    return replace(found, identifiers=identifiers, counts=counts, most=rule.most)


def holds_customer(
    source: Source, contract: Contract, pseudonymiser: Pseudonymiser, identifier: str
) -> bool:
    """Return whether any row of the source, sound or not, is of this customer.

    Raises: DataError `data.unreadable`, `data.column_missing`; and, as nothing can be said then,
        `data.contract_broken` when lines cannot be read as rows.
    """
    columns = [contract.subject.column]
    return not _rows_of(source, contract, pseudonymiser, identifier, columns).is_empty()


def find_row(
    source: Source, contract: Contract, pseudonymiser: Pseudonymiser, identifier: str, today: date
) -> RowFound:
    """Return what the source holds of a customer now; a row that is present may be faulty.

    Raises: DataError as `holds_customer`.
    """
    columns = [contract.subject.column]
    columns += [contract.row_day.column] if contract.row_day else []
    rows = _rows_of(source, contract, pseudonymiser, identifier, columns)
    if rows.is_empty():
        return "none"
    within, _, _ = split_by_age(rows, contract, today)
    return "past_retention" if within.is_empty() else "present"


def _rows_of(
    source: Source,
    contract: Contract,
    pseudonymiser: Pseudonymiser,
    identifier: str,
    columns: list[str],
) -> pl.DataFrame:
    """Return these columns, the identifier's first, of all rows of a customer."""
    rows = load_rows(source, columns)
    if rows.malformed:
        raise DataError(
            "data.contract_broken",
            f"{rows.malformed} lines of the source are no rows, and may be of this customer: mend "
            "the source",
        )
    wanted = pseudonymiser.pseudonym(identifier)
    is_wanted = [
        bool(normalise(cell or "")) and pseudonymiser.pseudonym(cell) == wanted
        for cell in rows.frame[contract.subject.column]
    ]
    return rows.frame.filter(pl.Series(is_wanted, dtype=pl.Boolean))


def load_identifiers(source: Source, contract: Contract) -> list[str]:
    """Return the customers' identifiers of all rows, sound or not, as the source has them.

    Raises: DataError `data.unreadable`, `data.column_missing`.
    """
    column = load_rows(source, [contract.subject.column]).frame[contract.subject.column]
    return [cell for cell in column if normalise(cell or "")]


def refuse_faults(faults: Faults) -> None:
    """Raise for the operator when any row is faulty.

    Raises: DataError `data.duplicate_subject`, or `data.contract_broken`.
    """
    if not faults.counts:
        return
    rules = {rule for _, rule, _ in faults.counts}
    code = "data.duplicate_subject" if rules == {DUPLICATE} else "data.contract_broken"
    way_out = "Mend the source, or set faulty_rows = 'drop' to leave these customers out"
    if code == "data.duplicate_subject":
        way_out += "; where customers do have several rows, the contract says `rows_per_customer`"
    raise DataError(code, f"the source breaks the contract: {faults.sentence()}. {way_out}")


def _read(
    source: Source,
    contract: Contract,
    pseudonymiser: Pseudonymiser,
    today: date,
    days: Days = ALL_DAYS,
) -> Reading:
    source.mapping.verify_fits(contract)
    fields = source.mapping.present(contract)
    columns = [contract.subject.column, contract.label.name, *(field.name for field in fields)]
    columns += [contract.row_day.column] if contract.row_day else []
    rows = load_rows(source, columns)
    frame, undated, past = split_by_age(rows.frame, contract, today, days)
    broken = {(column, rule): found for column, rule, found in undated}
    cells: dict[str, pl.Series] = {}
    for field in fields:
        cells[field.name], rules = field_cells(frame[field.name], field)
        broken |= {(field.name, rule): found for rule, found in rules.items()}
    label, unknown = label_cells(frame[contract.label.name], contract)
    broken[contract.label.name, "not one of the two labels"] = unknown
    identifiers = frame[contract.subject.column]
    subject, rules = subject_cells(identifiers, pseudonymiser)
    if contract.rows_per_customer is not None:
        del rules[DUPLICATE]
    former = [pseudonymiser.former(cell) if normalise(cell or "") else () for cell in identifiers]
    broken |= {(contract.subject.column, rule): found for rule, found in rules.items()}
    return Reading(Rows(frame, rows.malformed), cells, label, subject, former, broken, past)
