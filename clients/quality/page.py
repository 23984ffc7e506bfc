"""The quality report on a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from clients.quality.report import Report


def print_report(report: Report) -> None:
    """Print head, findings, fields and associations of a report."""
    console = Console(highlight=False, markup=False)
    console.print(report["notice"])
    label = report["label"]
    console.print(
        f"{report['source']} under {report['contract_name']}: {report['rows']} rows, "
        f"{label['positive']} positive, {label['negative']} negative; left out on Art. 17 or 18: "
        f"{report['left_out']}"
    )
    findings = Table("code", "field", "rows", "measured", "way out")
    for one in report["findings"]:
        measured = ", ".join(f"{name} {_told(value)}" for name, value in one["measures"].items())
        row = (one["code"], one["field"] or "", str(one["rows"]), measured, one["way_out"])
        findings.add_row(*row)
    console.print(findings)
    console.print(_fields(report["fields"]))
    if report["associations"]:
        console.print(_associations(report["associations"]))
        console.print(_predictions(report["predictions"]))


def _fields(fields: list[dict[str, Any]]) -> Table:
    table = Table("field", "missing", "distinct", "1 %", "median", "99 %", "AUC", "V with label")
    for one in fields:
        quantiles = one["quantiles"] or {}
        numbers = [_told(quantiles.get(name)) for name in ("0.01", "0.5", "0.99")]
        ties = [_told(one["label_auc"]), _told(one["label_v"])]
        table.add_row(one["field"], str(one["missing"]), str(one["distinct"]), *numbers, *ties)
    return table


def _associations(pairs: list[dict[str, Any]]) -> Table:
    table = Table("input", "sensitive", "rows", "V", "shared information")
    for pair in pairs:
        ties = [_told(pair["cramers_v"]), _told(pair["shared_information"])]
        table.add_row(pair["field"], pair["sensitive"], str(pair["rows"]), *ties)
    return table


def _predictions(predictions: list[dict[str, Any]]) -> Table:
    table = Table("sensitive", "level", "held-out rows", "AUC of all inputs", "standard error")
    for one in predictions:
        numbers = [_told(one["auc"]), _told(one["standard_error"])]
        table.add_row(one["sensitive"], one["level"], str(one["rows"]), *numbers)
    return table


def _told(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"
