"""The service on its host: make it, run it, show its key, make a one-time code."""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.record import Realm
from fedcore.tomlfile import load_toml
from fedcore.version import COMPATIBLE_VERSIONS
from governance.commands.options import SettingsPath
from governance.settings import GovernanceSettings

Directory = Annotated[
    Path, typer.Option("--directory", "-d", help="Where settings, keys and database are made.")
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="A name or address that others reach it by; repeatable."),
]
Versions = Annotated[
    list[str] | None, typer.Option("--accept-version", help="Node software to accept; repeatable.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="PostgreSQL instead of SQLite in the directory."),
]
Certificate = Annotated[
    Path | None,
    typer.Option("--tls-certificate", help="A certificate of your own; without it one is made."),
]
CertificateKey = Annotated[
    Path | None, typer.Option("--tls-key", help="The key of your own certificate.")
]


def init(  # noqa: PLR0913 - one for each thing that the operator says
    *,
    directory: Directory,
    host: Hosts = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port of the service.")] = 8330,
    accept_version: Versions = None,
    database_url: DatabaseUrl = None,
    realm: Annotated[Realm, typer.Option(help="Where documents are valid.")] = Realm.PRODUCTION,
    tls_certificate: Certificate = None,
    tls_key: CertificateKey = None,
) -> None:
    """Make keys, certificate, database and settings, and a one-time code for the first admin."""
    from governance.app import utc_now
    from governance.founding import Wishes, found

    wishes = Wishes(
        hosts=tuple(host or ()),
        port=port,
        realm=realm,
        accepted_versions=tuple(accept_version or COMPATIBLE_VERSIONS),
        database_url=database_url,
        certificate=tls_certificate,
        key=tls_key,
    )
    made = found(directory, wishes, utc_now())
    typer.echo(f"settings:      {made.settings}")
    if tls_certificate is None:
        typer.echo(f"TLS authority: {made.settings.parent / 'tls-ca.pem'}  (for everyone's --ca)")
    typer.echo(f"public key:    {made.public_key}")
    typer.echo(f"one-time code: {made.code}")
    typer.echo("Within 24 hours: serve, and `fedpact governance claim` with this code.")


def code(settings: SettingsPath) -> None:
    """Make a fresh one-time code, as long as there is no account; the one before counts no more."""
    from governance.app import utc_now
    from governance.claims import issue_code
    from registry.database import Database

    database = Database(load_toml(settings, GovernanceSettings).database_url)
    try:
        database.migrate()
        fresh = issue_code(database, utc_now())
    finally:
        database.close()
    typer.echo(f"one-time code: {fresh}")


def renew_certificate(settings: SettingsPath, host: Hosts = None) -> None:
    """Issue a fresh TLS certificate from the authority that `init` has made; then restart.

    Nobody has to be given anything: everyone trusts the authority, which stays.
    """
    from governance.app import utc_now
    from governance.founding import renew_certificate as renew

    loaded = load_toml(settings, GovernanceSettings)
    typer.echo(f"fresh certificate: {renew(loaded, tuple(host or ()), utc_now())}")


def serve(settings: SettingsPath) -> None:
    """Bring the database to the newest schema and serve until interrupted."""
    from governance.app import utc_now
    from governance.serving import serve_until_interrupted

    serve_until_interrupted(load_toml(settings, GovernanceSettings), utc_now)


def key(settings: SettingsPath) -> None:
    """Print the public key, by which all signatures of this service are verified."""
    from fedcore.signing import SigningKey

    typer.echo(SigningKey.load(load_toml(settings, GovernanceSettings).signing_key).public)
