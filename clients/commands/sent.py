"""Show every message that left this site."""

from functools import lru_cache
from typing import Annotated, Any

import typer

from clients.commands.options import SettingsOption
from clients.sent import SentLine
from clients.settings import NodeSettings

_NOTES = (
    "Listed before it is handed over: a crash or a dead line may leave an entry without a message.",
    "epsilon: of that one answer by itself; what all of them add up to is the ledger's to say "
    "(fedpact node ledger show). A repeat has the same bytes and is not charged again.",
    "bytes: of the content. Not listed: what the transport adds, and connections that carry "
    "nothing (the doctor's); what Flower's SuperNode sends for itself (registration, heartbeats, "
    "bare error codes); the constant node.unavailable that goes out when this list cannot be "
    "written; and files that people carry, such as the enrolment request.",
)


def sent(
    settings: SettingsOption,
    run: Annotated[str | None, typer.Option(help="Only messages of this run.")] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Only so many, counted from the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List every message that left: when, to whom, what, how large, its digest and epsilon."""
    import json

    from clients.sent import journal_path, load_departures

    loaded = NodeSettings.load(settings)
    rows = _rows(load_departures(journal_path(loaded.state_dir)), loaded.delta)
    chosen = [row for row in rows if run in (None, row["run"])][-(last or 0) :]
    if as_json:
        typer.echo(json.dumps({"messages": chosen, "notes": _NOTES}, indent=2))
    else:
        _print(chosen, len(rows))


def _rows(lines: list[SentLine], delta: float) -> list[dict[str, Any]]:
    from fedcore.privacy.accounting import renyi_epsilon
    from fedcore.privacy.events import PrivacyEvent

    @lru_cache
    def epsilon(event: str) -> float:
        return renyi_epsilon([PrivacyEvent.model_validate_json(event)], delta)

    charged: set[str | None] = set()
    rows = []
    for line in lines:
        departure = line.departure
        is_repeat = departure.event is not None and departure.digest in charged
        charged |= {departure.digest} if departure.event else set()
        rows.append(
            {
                "number": line.number,
                "at": departure.at.isoformat(),
                "to": departure.recipient,
                "kind": departure.kind,
                "run": departure.run_id,
                "round": departure.round,
                "bytes": departure.size,
                "epsilon": epsilon(departure.event) if departure.event else None,
                "repeat": is_repeat,
                "digest": departure.digest,
            }
        )
    return rows


def _print(rows: list[dict[str, Any]], total: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("no.", "at", "to", "kind", "run", "round", "bytes", "epsilon", "digest")
    for row in rows:
        names = ("to", "kind", "run", "round", "bytes")
        cells = ["" if row[name] is None else str(row[name]) for name in names]
        at = f"{row['at'][:19]}Z"
        table.add_row(str(row["number"]), at, *cells, _epsilon(row), (row["digest"] or "")[7:19])
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    console.print(f"{len(rows)} of {total} messages; whole digests with --json")
    for note in _NOTES:
        console.print(note)


def _epsilon(row: dict[str, Any]) -> str:
    if row["epsilon"] is None:
        return ""
    return "repeat" if row["repeat"] else f"{row['epsilon']:.4f}"
