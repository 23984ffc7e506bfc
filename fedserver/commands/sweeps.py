"""Delete what may no longer be kept; keep what the law wants kept."""

from functools import partial
from typing import Annotated

import typer

from fedserver.commands.server import SettingsOption
from fedserver.settings import ServerSettings

_Who = Annotated[str, typer.Option(help="Who says so: a name and an office.")]
_Reason = Annotated[str, typer.Option(help="Why, such as the number of the case.")]
_TOLD = {
    "kept": "not past",
    "due": "past",
    "held": "past, under a legal hold",
    "running": "being done",
    "swept": "deleted before",
    "damaged": "damaged (checkpoint.corrupt)",
}


def sweep(
    settings: SettingsOption,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go; delete nothing.")
    ] = False,
) -> None:
    """Delete the weights of checkpoints whose retention is over; a record says which, and stays.

    Exit codes: 0 done; 1 refused, or a checkpoint is damaged.
    """
    from fedserver import runtime
    from fedserver.engine.following import forget_messages
    from fedserver.sweeps import sweep as sweep_now

    loaded = ServerSettings.load(settings)
    surroundings = runtime.SEAM.current(loaded.realm)
    gateway, at = surroundings.gateway(loaded), surroundings.now()
    forget = None if dry_run else partial(forget_messages, loaded)
    judged_at, found = sweep_now(loaded, gateway, at, forget)
    for one in found:
        days = "no retention is said" if one.days is None else f"kept for {one.days} days"
        said = "" if one.state in {"swept", "damaged"} else f", {days}"
        typer.echo(f"{one.run_id}: {_TOLD[one.state]}{said}")
    gone = sum(one.state == "due" for one in found)
    typer.echo(f"{'would delete' if dry_run else 'deleted'}: {gone} checkpoints")
    if judged_at < at:
        typer.echo(f"by the time that governance has signed, {judged_at.isoformat()}")
    if any(one.state == "damaged" for one in found):
        raise typer.Exit(1)


def add_hold(
    settings: SettingsOption,
    who: _Who,
    reason: _Reason,
    run: Annotated[str | None, typer.Option(help="Only this run; everything without it.")] = None,
) -> None:
    """Keep the checkpoint of a run, or all, until the hold is released."""
    from fedserver import runtime
    from fedserver.sweeps import opened_holds

    loaded = ServerSettings.load(settings)
    at = runtime.SEAM.current(loaded.realm).now()
    with opened_holds(loaded.work_dir) as holds:
        number = holds.add(run, who, reason, at)
    typer.echo(f"hold {number}: {run or 'everything'} is kept")


def release_hold(
    settings: SettingsOption,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As `hold show` tells it.")],
    who: _Who,
    reason: _Reason,
) -> None:
    """Let a hold go; the next sweep deletes what is due."""
    from fedserver import runtime
    from fedserver.sweeps import opened_holds

    loaded = ServerSettings.load(settings)
    at = runtime.SEAM.current(loaded.realm).now()
    with opened_holds(loaded.work_dir) as holds:
        holds.release(number, who, reason, at)
    typer.echo(f"hold {number} is released")


def show_holds(settings: SettingsOption) -> None:
    """List all holds that ever were."""
    from fedcore.holds import lines_of
    from fedserver.sweeps import opened_holds

    with opened_holds(ServerSettings.load(settings).work_dir) as holds:
        lines = lines_of(holds.all())
    typer.echo("\n".join(lines) or "there are no holds")
