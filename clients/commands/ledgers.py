"""Look at the privacy ledger, hand a copy on, and rebuild a lost one."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from clients import runtime
from clients.commands.options import SettingsOption
from clients.settings import NodeSettings

if TYPE_CHECKING:
    from clients.budget import Reserved
    from clients.ledger import Ledger
    from clients.ledger_entries import Entry
    from clients.spending import Part


def show(settings: SettingsOption) -> None:
    """List all entries, and what they add up to, part by part, against the caps."""
    from clients.policy import standing_bounds
    from clients.spending import parts_of

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    with closing(_opened(loaded)) as ledger:
        entries, reserved, cap = ledger.entries(), ledger.reservations(), ledger.cap
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(_listed(entries))
    lines = {one.line for one in reserved if one.line is not None}
    parts = parts_of(reserved, cap, standing_bounds(loaded, now.year, sorted(lines)))
    console.print(_added_up(parts))
    console.print("What is left is a share of each cap's filter: shares add up, epsilon does not.")
    whole = parts[0]
    console.print(
        f"lifetime epsilon charged: {whole.claim:.4f} (the filter's bound) of at most "
        f"{cap.epsilon:g} at delta {cap.delta:g}"
    )
    console.print(f"by PLD, if plans did not depend on outputs: {whole.pld:.4f}")
    console.print("Where later plans were chosen after outputs, what is proved is the cap.")
    for line in _of_lost(reserved):
        console.print(line)


def verify(
    file: Annotated[
        Path | None, typer.Argument(help="A file of `ledger export`; without it, the node's own.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="The node's settings (TOML).")
    ] = None,
) -> None:
    """Hash all entries again: of the node's own ledger, against the last head that governance has
    witnessed, or of an exported file, which needs nothing else.
    """
    if (file is None) == (settings is None):
        raise typer.BadParameter("name either an exported file or --settings")
    if file is not None:
        _verify_file(file)
    elif settings is not None:
        loaded = NodeSettings.load(settings)
        with closing(_opened(loaded)) as opened:
            head, count = opened.head(), len(opened.entries())
            opened.reservations()
        typer.echo(f"ledger of {loaded.unit}: {count} entries, unbroken, head {head.hash}")
        typer.echo("an older copy of the whole directory shows at the next synchronisation only")


def _verify_file(file: Path) -> None:
    from clients.ledger_export import read_export
    from fedcore.errors import InvalidRecordError
    from fedcore.privacy.accounting import renyi_epsilon

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "ledger.unreadable", f"{file} cannot be read: name an exported file", str(error)
        ) from error
    found = read_export(data)
    claim = renyi_epsilon([one.event for one in found.reserved], found.cap.delta)
    count, head = len(found.entries), found.head
    typer.echo(f"ledger of {found.unit}: {count} entries, unbroken, head {head.hash}")
    typer.echo(f"entry {head.sequence} is the newest: hold its hash against what governance has")
    typer.echo(
        f"lifetime epsilon charged: {claim:.4f} (the filter's bound) of at most "
        f"{found.cap.epsilon:g} at delta {found.cap.delta:g}"
    )
    for line in _of_lost(found.reserved):
        typer.echo(line)


def export(
    settings: SettingsOption,
    out: Annotated[Path, typer.Option(help="Where the copy is written.")],
) -> None:
    """Write a copy of the ledger that can be verified anywhere; it holds no stored reply."""
    from clients.ledger_export import export_ledger
    from fedcore.atomic import write_atomically

    with closing(_opened(NodeSettings.load(settings))) as ledger:
        data, head = export_ledger(ledger), ledger.head()
    write_atomically(out, data)
    typer.echo(f"{out}: up to entry {head.sequence}, head {head.hash}")


def close(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    settings: SettingsOption,
) -> None:
    """End a run at this unit, for good: no order of it is answered any more, and what it reserved
    and did not begin is free again. What was begun stays charged.
    """
    from fedcore.errors import MismatchError, NotFoundError

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    with closing(_opened(loaded)) as ledger:
        before = _whole(ledger)
        run = next((one for one in ledger.reservations() if one.run_id == run_id), None)
        if run is None:
            raise NotFoundError("ledger.run_unknown", f"the ledger has no run {run_id}")
        if run.rebuilt:
            text = "the run is of a lost ledger: how often it was answered is not known"
            raise MismatchError("ledger.rebuilt", text)
        closed, after = ledger.close_runs((run_id,), "unit", now), _whole(ledger)
    typer.echo(f"{run_id}: {'closed' if closed else 'closed before'}; no order of it is answered")
    typer.echo(f"lifetime epsilon charged: {before:.4f} before, {after:.4f} now")
    typer.echo("run `fedpact node sync` to have the closing witnessed")


def rebuild(settings: SettingsOption) -> None:
    """Write a lost ledger anew, from all that governance has ever permitted this unit.

    It counts every permitted run whole, also those that never began: more than was spent, never
    less. None of these runs goes on.
    """
    from clients.rebuild import rebuild as write_anew

    loaded = NodeSettings.load(settings)
    runs = write_anew(loaded, runtime.SEAM.current(loaded.realm).clock.now())
    with closing(_opened(loaded)) as ledger:
        whole = _whole(ledger)
    typer.echo(f"rebuilt from {runs} permits: lifetime epsilon {whole:.4f} counts as charged")
    typer.echo("this is at least what was spent: each permitted run counts whole, begun or not")
    typer.echo("none of these runs goes on; run `fedpact node sync` to have the ledger witnessed")


def _of_lost(reserved: Iterable["Reserved"]) -> Iterator[str]:
    count = sum(one.rebuilt for one in reserved)
    if count:
        yield f"{count} runs are of a lost ledger: each counts whole, begun or not"


def _whole(ledger: "Ledger") -> float:
    from fedcore.privacy.accounting import renyi_epsilon

    return renyi_epsilon(ledger.events(), ledger.cap.delta)


def _opened(settings: NodeSettings) -> "Ledger":
    from clients.budget import Cap
    from clients.ledger import Ledger
    from clients.state import StateDir

    cap = Cap(epsilon=settings.epsilon_cap, delta=settings.delta)
    path = StateDir(settings.state_dir).ledger
    return Ledger(path, settings.unit, settings.subject_namespace, cap)


def _listed(entries: Iterable["Entry"]) -> Table:
    table = Table("entry", "at", "kind", "run", "round", "attempt", "exchanges", "event")
    for entry in entries:
        table.add_row(str(entry.sequence), *_cells(entry.body))
    return table


def _added_up(parts: Iterable["Part"]) -> Table:
    table = Table("part", "of", "epsilon", "by PLD", "cap", "left of the cap")
    for part in parts:
        cap = "" if part.cap is None else f"{part.cap:g}"
        left = "" if part.used is None else f"{max(0.0, 1 - part.used):.1%}"
        table.add_row(part.scope, part.of, f"{part.claim:.4f}", f"{part.pld:.4f}", cap, left)
    return table


def _cells(body: dict[str, object]) -> list[str]:
    event = body.get("event")
    told = [body.get(name) for name in ("at", "kind", "run_id", "round", "attempt", "exchanges")]
    text = _event_text(event) if isinstance(event, dict) else str(body.get("why", ""))
    return ["" if value is None else str(value) for value in told] + [text]


def _event_text(event: dict[str, object]) -> str:
    noise, rate, steps = (event[k] for k in ("noise_multiplier", "sampling_rate", "steps"))
    adjacency = str(event["adjacency"]).replace("_", " ")
    return f"{event['mechanism']}, noise {noise}, rate {rate}, {steps} steps, {adjacency}"
