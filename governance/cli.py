"""Run the governance service."""

import json
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from fedcore.errors import ConflictError
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedcore.tomlfile import load_toml
from fedcore.version import VERSION
from governance.accounts import bootstrap
from governance.app import create_app, utc_now
from governance.settings import GovernanceSettings
from registry.database import Database

SETTINGS_FILE = "governance.toml"

app = typer.Typer(
    help="Run the governance service.", no_args_is_help=True, pretty_exceptions_enable=False
)
SettingsPath = Annotated[
    Path, typer.Option("--settings", "-s", help="The settings file that `init` has written.")
]
Directory = Annotated[
    Path, typer.Option("--directory", "-d", help="Where settings, key and database are made.")
]
Versions = Annotated[
    list[str] | None, typer.Option("--accept-version", help="Node software to accept; repeatable.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="PostgreSQL instead of SQLite in the directory."),
]
RealmOption = Annotated[Realm, typer.Option("--realm", help="Where signed documents are valid.")]


@app.command()
def init(
    directory: Directory,
    accept_version: Versions = None,
    database_url: DatabaseUrl = None,
    realm: RealmOption = Realm.PRODUCTION,
) -> None:
    """Make key, database and settings, and print the first administrator's API key, once."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / SETTINGS_FILE
    if path.exists():
        raise ConflictError("settings.exist", f"{path} exists already: serve it, or choose another")
    settings = GovernanceSettings(
        database_url=database_url or f"sqlite:///{(directory / 'governance.db').resolve()}",
        signing_key=(directory / "governance.pem").resolve(),
        realm=realm,
        accepted_versions=tuple(accept_version or [VERSION]),
    )
    key = _own_key(settings.signing_key)
    api_key = _own_database(settings)
    path.write_text(_toml_of(settings), encoding="utf-8")
    typer.echo(f"settings:   {path}")
    typer.echo(f"public key: {key.public}")
    typer.echo(f"API key of the account admin, shown this once: {api_key}")


@app.command()
def serve(settings: SettingsPath) -> None:
    """Bring the database to the newest schema and serve until interrupted."""
    loaded = load_toml(settings, GovernanceSettings)
    database = Database(loaded.database_url)
    try:
        database.migrate()
    finally:
        database.close()
    uvicorn.run(
        create_app(loaded, utc_now), host=loaded.host, port=loaded.port, server_header=False
    )


@app.command()
def key(settings: SettingsPath) -> None:
    """Print the public key, by which all signatures of this service are verified."""
    loaded = load_toml(settings, GovernanceSettings)
    typer.echo(SigningKey.load(loaded.signing_key).public)


def _own_key(path: Path) -> SigningKey:
    """Return the key at `path`, made if there is none: an interrupted `init` can be repeated."""
    if not path.exists():
        SigningKey.generate().save(path)
    return SigningKey.load(path)


def _own_database(settings: GovernanceSettings) -> str:
    database = Database(settings.database_url)
    try:
        database.migrate()
        return bootstrap(database, utc_now())
    finally:
        database.close()


def _toml_of(settings: GovernanceSettings) -> str:
    """Return the settings that have no default, as TOML; JSON strings and arrays are TOML."""
    values = {
        "database_url": settings.database_url,
        "signing_key": str(settings.signing_key),
        "realm": settings.realm.value,
        "accepted_versions": list(settings.accepted_versions),
    }
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
