"""The quality report: made of what the one reader has read, kept at the node, sent to nobody."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import polars as pl

from clients.customer_rows import rows_of_crowded
from clients.data import Reading
from clients.quality.associations import associate, predict
from clients.quality.fields import Column, FieldFacts, examine_field
from clients.quality.findings import Finding
from clients.site import Site
from fedcore.atomic import write_atomically
from fedcore.contracts import Contract

Report = dict[str, Any]

NOTICE = (
    "Personal data of this unit, for its own eyes: it must not leave the node. Nothing of it is "
    "sent by fedpact; delete it when it has served."
)
LABEL_ROWS = 100
RARE_LABEL = 0.01
_CUSTOMER = {
    "empty": "customer.missing_identifier",
    "written as a number with decimals": "customer.decimal_identifier",
    "one customer has several rows": "customer.doubled",
}


def keep_report(
    site: Site, contract: Contract, reading: Reading, is_left_out: Callable[..., bool]
) -> Report:
    """Make the report on what was read, and keep it in place of the one before.

    Guarantees: customers whose data are to be erased or only stored are in no figure of it but how
        many they are; the file is its owner's alone; nothing is sent, logged or charged.
    """
    report = {
        "notice": NOTICE,
        "unit": site.settings.unit,
        "source": site.settings.source.name,
        "contract": contract.digest,
        "contract_name": f"{contract.contract_id} version {contract.version}",
        "made_at": site.runtime.clock.now().isoformat(),
        **examine(reading, contract, is_left_out),
    }
    data = json.dumps(report, indent=2, allow_nan=False).encode()
    write_atomically(site.state.quality(contract.digest), data, 0o600)
    return report


def examine(reading: Reading, contract: Contract, is_left_out: Callable[..., bool]) -> Report:
    """Return figures and findings, without the customers of whom `is_left_out` says yes."""
    kept = reading.kept(is_left_out)
    label = _label(reading, contract).filter(kept)
    columns = _columns(reading, contract, kept)
    fields = [examine_field(column, label) for column in columns]
    pairs, suspected = associate(columns)
    predictions, jointly = predict(columns, reading.subject.filter(kept))
    findings = [
        *_of_source(reading, contract, kept),
        *_of_label(label, contract),
        *(found for field in fields for found in field.findings),
        *suspected,
        *jointly,
    ]
    return {
        "rows": label.len(),
        "left_out": int((~kept).sum()),
        "label": {"positive": int((label == 1).sum()), "negative": int((label == 0).sum())},
        "findings": [asdict(found) | {"way_out": found.way_out} for found in findings],
        "fields": [_plain(field) for field in fields],
        "associations": [asdict(pair) for pair in pairs],
        "predictions": [asdict(prediction) for prediction in predictions],
    }


def _plain(facts: FieldFacts) -> dict[str, Any]:
    return {name: value for name, value in asdict(facts).items() if name != "findings"}


def _label(reading: Reading, contract: Contract) -> pl.Series:
    """Return 1 or 0, null where the label is none of the two."""
    label = reading.label
    for (column, _), broken in reading.broken.items():
        if column == contract.label.name:
            label = label.set(broken, None)
    return label


def _columns(reading: Reading, contract: Contract, kept: pl.Series) -> list[Column]:
    columns = []
    for name, cells in reading.cells.items():
        about = contract.field_by_name[name]
        missing = reading.rows.frame[name].is_null()
        if about.categories:
            is_value = cells.is_in(list(about.categories)).fill_null(value=False)
        else:
            is_value = cells.is_finite().fill_null(value=False)
        faults = {
            rule: int((broken & kept).sum())
            for (column, rule), broken in reading.broken.items()
            if column == name
        }
        values = cells.set(~is_value | missing, None)
        columns.append(Column(about, values.filter(kept), missing.filter(kept), faults))
    return columns


def _of_source(reading: Reading, contract: Contract, kept: pl.Series) -> Iterator[Finding]:
    if reading.rows.malformed:
        yield Finding("source.broken_lines", None, reading.rows.malformed)
    if not len(kept) and not reading.rows.malformed:
        yield Finding("source.empty")
    reported = {contract.label.name, *reading.cells}
    column = contract.subject.column
    for (name, rule), broken in reading.broken.items():
        if name not in reported and (rows := int((broken & kept).sum())):
            code = _CUSTOMER.get(rule, "row.faulty") if name == column else "row.faulty"
            yield Finding(code, name, rows, {"rule": rule})
    if crowded := rows_of_crowded(reading.subject.filter(kept), contract):
        yield Finding("customer.crowded", column, sum(crowded), {"customers": len(crowded)})
    whole = reading.rows.frame.with_columns(reading.subject.alias(column)).filter(kept)
    if surplus := whole.height - whole.n_unique():
        yield Finding("row.doubled", None, surplus)


def _of_label(label: pl.Series, contract: Contract) -> Iterator[Finding]:
    name, rows = contract.label.name, label.len()
    known = rows - label.null_count()
    positive = int((label == 1).sum())
    if label.null_count():
        yield Finding("label.faulty", name, label.null_count())
    if known and not positive:
        yield Finding("label.no_positive", name, known)
    elif known and positive == known:
        yield Finding("label.constant", name, known)
    elif known >= LABEL_ROWS and (share := min(positive, known - positive) / known) < RARE_LABEL:
        yield Finding("label.rare", name, min(positive, known - positive), {"share": share})
