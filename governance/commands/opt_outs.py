"""What became of opt-outs, from a distance."""

from typing import TYPE_CHECKING, Annotated

import typer

from governance.commands.options import ApiKeyFile, Authority, Url, open_line

if TYPE_CHECKING:
    from fedcore.enforcement import OptOutStatus

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
    """Say when opt-outs were received, since when they act, and what was trained before.

    Nobody is named, not even by a pseudonym: the unit knows whose number it is.
    """
    with open_line(url, ca, api_key_file) as gateway:
        if sequence is not None:
            _print(gateway.fetch_opt_out(unit, sequence))
            return
        for status in gateway.list_opt_outs(unit):
            _print(status)


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
            f"  trained before: {model.name} {model.version}, in {model.rounds} rounds of run "
            f"{model.run_id}"
        )
