"""What became of opt-outs, from a distance."""

from typing import TYPE_CHECKING, Annotated

import typer

from governance.commands.options import ApiKeyFile, Authority, Url, open_line
from governance.decisions.enforcement import say_decided

if TYPE_CHECKING:
    from fedcore.enforcement import GroupOptOutStatus, OptOutStatus

opt_outs = typer.Typer(help="See how units' opt-outs act.", no_args_is_help=True)


@opt_outs.command("status")
def show_status(
    unit: Annotated[str, typer.Argument(help="The unit whose opt-outs they are.")],
    url: Url,
    api_key_file: ApiKeyFile,
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Only the opt-out with this number of the unit's.")
    ] = None,
    ca: Authority = None,
) -> None:
    """Say when opt-outs were received, since when they act, and what was trained before; and since
    when units of its group act on what the unit was told for all of them.

    Nobody is named, not even by a pseudonym: the unit knows whose number it is.
    """
    with open_line(url, ca, api_key_file) as gateway:
        if sequence is not None:
            _print(gateway.fetch_opt_out(unit, sequence))
            return
        for status in gateway.list_opt_outs(unit):
            _print(status)
        for told in gateway.list_group_opt_outs(unit):
            _print_for_group(told)


@opt_outs.command("group")
def declare_group(
    name: Annotated[str, typer.Argument(help="The group.")],
    unit: Annotated[list[str], typer.Option(help="A unit of it; give it for each.")],
    key_check: Annotated[str, typer.Option(help="What `node group create-key` has printed.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Have units act on each other's group opt-outs, for good; have all of them join before.

    A unit of a group reads no rows before its node has the group's key.
    """
    with open_line(url, ca, api_key_file) as gateway:
        gateway.declare_group(name, unit, "trim-upper/1", key_check)
    typer.echo(f"{name}: {', '.join(sorted(unit))} act on each other's group opt-outs")


def _print(status: "OptOutStatus") -> None:
    act = f", {status.act}" if status.act else ""
    typer.echo(f"{status.unit} {status.sequence}: {status.purpose}, {status.ground}{act}")
    typer.echo(f"  received at the unit {status.received_at.isoformat()}")
    typer.echo(f"  recorded here        {status.recorded_at.isoformat()}")
    held = "held by no bulletin yet"
    if status.confirmed_at is not None:
        held = f"held by a bulletin since {status.confirmed_at.isoformat()}"
    late = "in time" if status.within_sla else "LATE"
    typer.echo(f"  {held}: {status.lag_s / 3600:.1f} h of {status.sla_s / 3600:.0f} h, {late}")
    typer.echo(f"  {status.state} since event {status.newest}: {status.sentence}")
    for model in status.trained_before:
        typer.echo(
            f"  trained before: {model.name} {model.version}, in {model.rounds} exchanges of run "
            f"{model.run_id}"
        )
        typer.echo(f"    {say_decided(model)}")


def _print_for_group(status: "GroupOptOutStatus") -> None:
    act = f", {status.act}" if status.act else ""
    typer.echo(
        f"{status.unit}, for its group, {status.sequence}: {status.purpose}, {status.ground}{act}"
    )
    typer.echo(f"  received at the unit {status.received_at.isoformat()}")
    typer.echo(f"  recorded here        {status.recorded_at.isoformat()}")
    if status.set_aside_by:
        typer.echo(f"  without the group's seal, by {', '.join(status.set_aside_by)}")
    for one in status.acts_at:
        round_ = "no round since"
        if one.first_round is not None:
            round_ = f"first in round {one.first_round.round} of run {one.first_round.run_id}"
        typer.echo(f"  {one.unit}: by its bulletins since {one.since.isoformat()}, {round_}")
