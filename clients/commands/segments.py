"""Tell which segment each of the unit's own customers is in."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from clients.commands.options import SettingsOption
from clients.settings import NodeSettings


def assign(
    settings: SettingsOption,
    bundle: Annotated[Path, typer.Argument(help="The evidence bundle of a segmentation version.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write, with the unit's own keys.")],
    autoencoder: Annotated[
        Path | None,
        typer.Option(help="The evidence bundle of the autoencoder in whose embedding they lie."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a file that is there.")
    ] = False,
) -> None:
    """Write each customer's segment into a file on this machine, for its owner only.

    Customers who have objected to the plan's purpose, or have not consented where it needs consent,
    are not in it. Nothing is sent anywhere. The file is personal data: delete it in time, and make
    it anew after an objection.
    """
    from clients.segments import assign_segments, keep_assignment, open_segments
    from clients.site import Site
    from fedcore.errors import ConflictError

    loaded = NodeSettings.load(settings)
    if out.exists() and not replace:
        raise ConflictError("segments.file_exists", f"{out} is there: name another, or --replace")
    data = _read(bundle)
    embedding = None if autoencoder is None else _read(autoencoder)
    with closing(Site(loaded)) as site:
        signed = open_segments(site, data, embedding)
        found = assign_segments(site, signed)
    keep_assignment(found, out)
    typer.echo(
        f"{out}: {len(found.segments)} customers, segments of {signed.version.name} version "
        f"{signed.version.version}"
    )


def _read(bundle: Path) -> bytes:
    from fedcore.errors import InvalidRecordError

    try:
        return bundle.read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "bundle.unreadable", f"{bundle} cannot be read: name an evidence bundle", str(error)
        ) from error
