"""Look the node over, and say what to do about each thing that is found."""

from typing import Annotated, Any

import typer

from clients.commands.options import SettingsOption
from clients.settings import NodeSettings


def doctor(
    settings: SettingsOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at keys, files, ledger, lines, clock, versions, source and budget; spends nothing.

    Ends with exit code 1 when something keeps the node from answering orders.
    """
    import json

    from clients.doctor.examination import examine

    examined = list(examine(NodeSettings.load(settings)))
    rows: list[dict[str, Any]] = [
        {
            "check": one.check,
            "outcome": one.finding.outcome,
            "finding": one.finding.sentence,
            "way_out": one.finding.way_out,
            "code": one.finding.code,
            "keeps_from_starting": one.finding.blocks,
        }
        for one in examined
    ]
    failures = sum(row["outcome"] == "failure" for row in rows)
    if as_json:
        typer.echo(json.dumps({"ok": not failures, "findings": rows}, indent=2))
    else:
        _print(rows)
    if failures:
        raise typer.Exit(1)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "", "finding and way out")
    for row in rows:
        text = f"{row['finding']} ({row['code']})" if row["code"] else row["finding"]
        text += f"\n-> {row['way_out']}" if row["way_out"] else ""
        table.add_row(row["check"], row["outcome"], text)
    console = Console(highlight=False, markup=False)
    console.print(table)
    count = {name: sum(row["outcome"] == name for row in rows) for name in ("failure", "warning")}
    console.print(f"{count['failure']} failures, {count['warning']} warnings, {len(rows)} findings")
