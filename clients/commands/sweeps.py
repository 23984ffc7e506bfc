"""Delete what may no longer be kept; keep what the law wants kept."""

from typing import Annotated

import typer

from clients import runtime
from clients.commands.options import SettingsOption
from clients.settings import NodeSettings

_Who = Annotated[str, typer.Option(help="Who says so: a name and an office.")]
_Reason = Annotated[str, typer.Option(help="Why, such as the number of the case.")]


def sweep(
    settings: SettingsOption,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go; delete nothing.")
    ] = False,
) -> None:
    """Delete the stored answers whose retention is over; the ledger says which, and stays."""
    from clients.sweeps import NEVER
    from clients.sweeps import sweep as sweep_now

    loaded = NodeSettings.load(settings)
    clock = runtime.SEAM.current(loaded.realm).clock
    judged_at, found = sweep_now(loaded, clock, dry_run=dry_run)
    for answers in found:
        days = "no retention is said" if answers.days is None else f"kept {answers.days} days"
        held = ", under a legal hold" if answers.held else ""
        typer.echo(
            f"{answers.run_id}: {answers.kept} answers, {len(answers.due)} past ({days}{held})"
        )
    gone = sum(len(answers.due) for answers in found if not answers.held)
    typer.echo(f"{'would delete' if dry_run else 'deleted'}: {gone} answers")
    if judged_at == NEVER:
        typer.echo("governance has signed no time here yet, so nothing is past: fedpact node sync")
    elif judged_at < clock.now():
        typer.echo(f"by the newest time that governance has signed, {judged_at.isoformat()}")


def add_hold(
    settings: SettingsOption,
    who: _Who,
    reason: _Reason,
    run: Annotated[str | None, typer.Option(help="Only this run; everything without it.")] = None,
) -> None:
    """Keep what belongs to a run, or everything, until the hold is released."""
    from clients.state import StateDir
    from fedcore.holds import open_holds

    loaded = NodeSettings.load(settings)
    at = runtime.SEAM.current(loaded.realm).clock.now()
    with open_holds(StateDir(loaded.state_dir).holds) as holds:
        number = holds.add(run, who, reason, at)
    typer.echo(f"hold {number}: {run or 'everything'} is kept")


def release_hold(
    settings: SettingsOption,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As `hold show` tells it.")],
    who: _Who,
    reason: _Reason,
) -> None:
    """Let a hold go; the next sweep deletes what is due."""
    from clients.state import StateDir
    from fedcore.holds import open_holds

    loaded = NodeSettings.load(settings)
    at = runtime.SEAM.current(loaded.realm).clock.now()
    with open_holds(StateDir(loaded.state_dir).holds) as holds:
        holds.release(number, who, reason, at)
    typer.echo(f"hold {number} is released")


def show_holds(settings: SettingsOption) -> None:
    """List all holds that ever were."""
    from clients.state import StateDir
    from fedcore.holds import lines_of, open_holds

    with open_holds(StateDir(NodeSettings.load(settings).state_dir).holds) as holds:
        lines = lines_of(holds.all())
    typer.echo("\n".join(lines) or "there are no holds")
