"""The service's signing key, handed over to the next one."""

from typing import Annotated

import typer

from fedcore.tomlfile import load_toml
from governance.commands.options import SettingsPath
from governance.settings import GovernanceSettings


def rotate_key(
    settings: SettingsPath,
    reason: Annotated[
        str, typer.Option(help="Why; everybody can read it.")
    ] = "a regular change of keys",
) -> None:
    """Replace the signing key. Stop the service before, and start it again after."""
    from governance.app import utc_now
    from governance.handovers import rotate_key as hand_over

    done = hand_over(load_toml(settings, GovernanceSettings), reason, utc_now)
    if done.finished:
        typer.echo("an interrupted hand-over is finished now")
    typer.echo(f"old public key: {done.old_key}")
    typer.echo(f"new public key: {done.new_key}")
    typer.echo("Start the service again. Nodes and servers of version 0.2 learn the new key")
    typer.echo("from it, and accept it because the old one has signed it; older ones need it in")
    typer.echo("their settings. Publish the new key: whoever verifies evidence should have it, and")
    typer.echo("must, if the old one was stolen.")
