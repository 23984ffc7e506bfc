"""Wheels for a machine without internet."""

from pathlib import Path
from typing import Annotated

import typer


def bundle(
    out: Annotated[Path, typer.Option(help="The new folder to fill.")],
    requirement: Annotated[
        str, typer.Option(help="What to install there; it must be installed here.")
    ] = "fedpact[node]",
    fedpact_wheel: Annotated[
        Path | None, typer.Option(help="fedpact's own wheel, when it is neither built nor fetched.")
    ] = None,
    pip_options: Annotated[
        list[str] | None, typer.Argument(help="Options for `pip download`, after `--`.")
    ] = None,
) -> None:
    """Fill a folder with exactly what runs here, to be installed where there is no internet.

    The folder fits machines with this one's Python version, operating system and processor.
    """
    from clients.wheels import INSTALL, SUMS, write_bundle

    made = write_bundle(out, requirement, pip_options or (), fedpact_wheel)
    typer.echo(f"{made.wheels} wheels, {made.size / 2**20:.0f} MiB, in {made.out}")
    typer.echo(f"{SUMS} has sha256 {made.digest}")
    typer.echo(f"how to install them there: {made.out / INSTALL}")
