"""Options that several commands take, and the line to a running service."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcore import canonical
from fedcore.errors import InvalidRecordError
from fedcore.keyfiles import read_api_key
from fedcore.named_files import cause_of
from fedcore.urls import split_url
from governance.commands.session_files import current_token, is_session

if TYPE_CHECKING:
    from fedcore.gateway_http import HttpGateway

SettingsPath = Annotated[
    Path, typer.Option("--settings", "-s", help="The settings file that `init` has written.")
]
Url = Annotated[
    str, typer.Option("--url", help="Where governance answers, as in https://host:8330")
]
Authority = Annotated[
    Path | None,
    typer.Option("--ca", help="PEM file of its TLS authority; without it the system's own count."),
]
ApiKeyFile = Annotated[
    Path,
    typer.Option("--api-key-file", help="The file with your account's API key, or your session."),
]


@contextmanager
def open_line(
    url: str, authority: Path | None, api_key_file: Path | None
) -> Iterator["HttpGateway"]:
    """Give the service at an address, under the API key or session of a file, and hang up at the
    end.

    Raises: InvalidRecordError `url.insecure`, `url.invalid`, `tls.ca_unreadable`,
        `key.unreadable`, `key.permissions`, `session.unreadable`; ForbiddenError `session.ended`,
        `session.reused`.
    """
    from fedcore.gateway_http import HttpGateway, open_client

    verify_secure(url)
    credential = None if api_key_file is None else read_api_key(api_key_file)
    with open_client(url, authority) as client:
        if api_key_file is not None and credential is not None and is_session(credential):
            credential = current_token(api_key_file, client)
        yield HttpGateway(client, credential)


def parse_file(path: Path) -> Any:
    """Return the JSON value of a file. Raises: InvalidRecordError `file.unreadable`, `record.*`."""
    try:
        return canonical.parse(path.read_bytes())
    except OSError as error:
        raise InvalidRecordError(
            "file.unreadable",
            f"{path} cannot be read: {cause_of(error)}; name the right file",
            str(error),
        ) from error
    except InvalidRecordError as error:
        raise InvalidRecordError(error.code, f"{path.name}: {error.public}") from error


def verify_secure(url: str) -> None:
    """Refuse to send secrets in the clear.

    Raises: InvalidRecordError `url.insecure`, `url.invalid`.
    """
    parts = split_url(url, "--url")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(parts.hostname)):
        return
    raise InvalidRecordError(
        "url.insecure", f"{url}: an address must begin with https://, for secrets go there"
    )


def _is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
