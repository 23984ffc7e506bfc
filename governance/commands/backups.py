"""The service's database, kept in a file and brought back."""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.tomlfile import load_toml
from governance.commands.options import SettingsPath
from governance.settings import GovernanceSettings


def backup(
    settings: SettingsPath,
    file: Annotated[Path, typer.Argument(help="Where the backup is written; a new file.")],
) -> None:
    """Write the whole database to one file, while the service may go on. Keys are not in it."""
    from governance.app import utc_now
    from governance.backups import back_up

    seal = back_up(load_toml(settings, GovernanceSettings), file, utc_now())
    typer.echo(f"{file}: {seal.lines} lines, with the log at {seal.log.size} entries")


def restore(
    settings: SettingsPath,
    file: Annotated[Path, typer.Argument(help="A file that `backup` has written.")],
) -> None:
    """Fill the empty database that the settings name, SQLite or PostgreSQL, from a backup.

    Nothing is restored that does not verify. Nodes that saw more of the log than the backup has
    will refuse governance (`log.rollback`): tell the units before you serve.
    """
    from governance.backups import restore as bring_back

    seal = bring_back(load_toml(settings, GovernanceSettings), file)
    typer.echo(f"restored and verified: the log at {seal.log.size} entries, of {seal.made_at}")
