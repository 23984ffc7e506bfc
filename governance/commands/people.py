"""Accounts from a distance: the first one, others, and their end."""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.errors import ConflictError, FedError, UnreachableError
from fedcore.keyfiles import read_api_key, write_secret
from fedcore.named_files import verify_absent
from governance.commands.options import (
    ApiKeyFile,
    Authority,
    Url,
    open_line,
)
from governance.roles import Role

Out = Annotated[Path, typer.Option(help="Where the API key is written, for its owner only.")]
Name = Annotated[str, typer.Argument(help="Stands for one person, who may have several roles.")]
RoleName = Annotated[Role, typer.Argument(help="What the account may do.")]


def claim(
    url: Url,
    out: Out,
    code: Annotated[
        str,
        typer.Option(
            prompt="One-time code",
            help="What `init` or `code` has shown on the host; asked for when left out.",
        ),
    ],
    name: Annotated[str, typer.Option(help="The name of the first administrator.")] = "admin",
    ca: Authority = None,
) -> None:
    """Become the first administrator. When the answer gets lost, the same command finishes it."""
    from governance.auth import record_of

    begun_before = out.exists()
    api_key = _begun(out) if begun_before else _begin(out)
    kept = record_of(api_key)
    try:
        with open_line(url, ca, None) as gateway:
            gateway.claim(code, name, (kept.key_id, kept.key_hash))
    except UnreachableError:
        raise  # the claim may have arrived: its key must not be lost
    except FedError:
        if not begun_before:
            out.unlink()
        raise
    typer.echo(f"{name} is administrator; the API key is in {out}")


def create_account(  # noqa: PLR0913 - one for each thing that the administrator says
    name: Name,
    role: RoleName,
    *,
    url: Url,
    api_key_file: ApiKeyFile,
    out: Out,
    public_key: Annotated[
        str | None,
        typer.Option(help="64 hex digits; authors and operators sign documents and need one."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="The unit that a unit's operator speaks for.")
    ] = None,
    ca: Authority = None,
) -> None:
    """Make an account, or bring a revoked one back with another API key."""
    verify_absent(out)
    with open_line(url, ca, api_key_file) as gateway:
        api_key = gateway.create_account(name, role, public_key, unit)
    write_secret(out, api_key.encode())
    typer.echo(f"{name} may act as {role}; the API key is in {out}")


def revoke_account(
    name: Name, role: RoleName, url: Url, api_key_file: ApiKeyFile, ca: Authority = None
) -> None:
    """Make an account's API key worthless and end its sessions; `account` brings it back."""
    with open_line(url, ca, api_key_file) as gateway:
        gateway.revoke_account(name, role)
    typer.echo(f"the API key of {name} as {role} opens nothing any more")


def _begin(path: Path) -> str:
    """Return a fresh API key, which is on the disk before anyone hears of it."""
    from governance.auth import make_api_key

    api_key, _ = make_api_key()
    write_secret(path, api_key.encode())
    return api_key


def _begun(path: Path) -> str:
    from governance.auth import API_KEY_FORM

    api_key = read_api_key(path)
    if not API_KEY_FORM.fullmatch(api_key):
        raise ConflictError(
            "file.exists", f"{path} is there already and holds no API key; name another file"
        )
    return api_key
