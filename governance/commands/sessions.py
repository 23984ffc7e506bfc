"""Signing in from a distance: a password instead of an API key on the disk."""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.named_files import verify_absent
from governance.commands.options import ApiKeyFile, Authority, Url, open_line
from governance.commands.people import Name, RoleName
from governance.commands.session_files import read_session, replace_session

SessionFile = Annotated[
    Path, typer.Option("--session-file", help="The file with the session's tokens.")
]


def set_password(
    url: Url,
    api_key_file: ApiKeyFile,
    retire_api_key: Annotated[
        bool,
        typer.Option("--retire-api-key", help="Make the API key worthless: others have seen it."),
    ] = False,
    ca: Authority = None,
) -> None:
    """Set your account's password; it is asked for. All sessions of the account end."""
    current = typer.prompt(
        "Password until now (none: press return)", default="", hide_input=True, show_default=False
    )
    password = typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    with open_line(url, ca, api_key_file) as gateway:
        gateway.set_password(password, current or None, retire_api_key=retire_api_key)
    ended = ", and its API key opens nothing any more" if retire_api_key else ""
    typer.echo(f"the password is set; every session of the account has ended{ended}")


def sign_in(
    name: Name, role: RoleName, url: Url, session_file: SessionFile, ca: Authority = None
) -> None:
    """Sign in with your password; the session's file stands wherever an API key's file does."""
    verify_absent(session_file)
    password = typer.prompt("Password", hide_input=True)
    with open_line(url, ca, None) as gateway:
        tokens = gateway.sign_in(name, role, password)
    replace_session(session_file, tokens)
    typer.echo(
        f"{name} is signed in as {role} until {tokens.ends_at:%Y-%m-%d %H:%M} UTC: "
        f"use --api-key-file {session_file}"
    )


def sign_out(
    url: Url,
    session_file: SessionFile,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="End every session of the account.")
    ] = False,
    ca: Authority = None,
) -> None:
    """End the session, and remove its file."""
    read_session(session_file)
    with open_line(url, ca, session_file) as gateway:
        gateway.sign_out(everywhere=everywhere)
    session_file.unlink()
    typer.echo("the session has ended")
