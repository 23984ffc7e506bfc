"""The kill switch from a distance."""

from typing import Annotated, cast, get_args

import typer

from fedcore.errors import InvalidRecordError
from fedcore.stops import StopScope
from governance.commands.options import ApiKeyFile, Authority, Url, open_line

Why = Annotated[str, typer.Option("--reason", help="Why; it is signed and logged.")]
Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="unit:U|purpose:P|task:T|dpia:D",
        help="Stop only what this unit, purpose, task or DPIA takes part in.",
    ),
]


def stop_all(
    url: Url, api_key_file: ApiKeyFile, reason: Why, only: Only = None, ca: Authority = None
) -> None:
    """Stop every run at once and let none begin, until another person lifts the stop.

    Nodes learn of it with their next bulletin. Prints the digest that `lift-stop` takes.
    """
    scope, subject = ("all", None) if only is None else parse_scope(only)
    with open_line(url, ca, api_key_file) as gateway:
        typer.echo(gateway.stop(scope, subject, reason).digest)


def lift_stop(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="What `stop-all` has printed.")],
    url: Url,
    api_key_file: ApiKeyFile,
    reason: Why,
    ca: Authority = None,
) -> None:
    """End a stop that another person has made; runs that it stopped need new permits."""
    with open_line(url, ca, api_key_file) as gateway:
        gateway.lift_stop(digest, reason)
    typer.echo(f"{digest} is lifted")


def parse_scope(only: str) -> tuple[StopScope, str | None]:
    """Return scope and subject of `unit:U`, `purpose:P`, `task:T` or `dpia:D`.

    Raises: InvalidRecordError `request.invalid`.
    """
    scope, _, subject = only.partition(":")
    if scope not in set(get_args(StopScope)) - {"all"} or not subject:
        raise InvalidRecordError(
            "request.invalid", f"{only} is not unit:U, purpose:P, task:T, dpia:D"
        )
    return cast("StopScope", scope), subject
