"""Incidents from a distance, each with its clock."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.gateway import OfficeGateway
from fedcore.incidents import (
    Incident,
    IncidentFacts,
    IncidentOpening,
    IncidentUpdate,
    IncidentView,
    StopTarget,
)
from fedcore.record import first_problem
from fedcore.signing import Envelope
from governance.commands.options import ApiKeyFile, Authority, Url, open_line, parse_file
from governance.commands.stops import parse_scope
from governance.duty_clock import say_duty

incident = typer.Typer(
    help="Record breaches of personal data (Art. 33, 34 GDPR).", no_args_is_help=True
)

_LISTS = ("data_categories", "subject_categories", "units", "models", "runs")

Number = Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="What `open` has printed.")]
Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="A field of what is known, a list with commas; or `@FILE.json` for many; repeatable.",
    ),
]
Stops = Annotated[
    list[str] | None,
    typer.Option(
        "--stop",
        metavar="all|unit:U|purpose:P|task:T|dpia:D",
        help="Stop this at once, until another person lifts it; repeatable.",
    ),
]


@incident.command("open")
def open_incident(
    url: Url,
    api_key_file: ApiKeyFile,
    known: Facts = None,
    stop: Stops = None,
    ca: Authority = None,
) -> None:
    """Open an incident. Prints its number and its clock."""
    opening = IncidentOpening(facts=_read_facts({}, known), stop=_targets(stop))
    with open_line(url, ca, api_key_file) as gateway:
        number = read_incident(gateway.open_incident(opening)).number
        _print_clock(gateway.fetch_incident(number))


@incident.command("update")
def update_incident(
    number: Number,
    url: Url,
    api_key_file: ApiKeyFile,
    known: Facts = None,
    stop: Stops = None,
    ca: Authority = None,
) -> None:
    """Add what has become known since; what is not set stays as it was."""
    with open_line(url, ca, api_key_file) as gateway:
        _update(gateway, number, known, _targets(stop))


@incident.command("close")
def close_incident(
    number: Number, url: Url, api_key_file: ApiKeyFile, known: Facts = None, ca: Authority = None
) -> None:
    """Close an incident whose duties are met; a later update opens it again."""
    with open_line(url, ca, api_key_file) as gateway:
        _update(gateway, number, known, close=True)


@incident.command("list")
def list_incidents(url: Url, api_key_file: ApiKeyFile, ca: Authority = None) -> None:
    """List all incidents, each with its clock."""
    with open_line(url, ca, api_key_file) as gateway:
        for view in gateway.list_incidents():
            _print_clock(view)


@incident.command("show")
def show_incident(number: Number, url: Url, api_key_file: ApiKeyFile, ca: Authority = None) -> None:
    """Show all that is known of an incident, its clock, and the documents of its phases."""
    with open_line(url, ca, api_key_file) as gateway:
        found = gateway.fetch_incident(number)
    _print_clock(found)
    facts = read_incident(found.envelope).facts.model_dump(mode="json", exclude_none=True)
    for name, value in facts.items():
        typer.echo(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")
    for envelope in found.phases:
        phase = read_incident(envelope)
        typer.echo(
            f"  phase {phase.phase}, {phase.reported_at.isoformat()}, {phase.reported_by}: "
            f"{envelope.digest}"
        )
        for stop in phase.stops:
            typer.echo(f"    pulled the stop {stop}")


def read_incident(envelope: Envelope) -> Incident:
    """Return the incident that an envelope holds, for showing it: its signature is not verified."""
    return Incident.from_bytes(envelope.payload_bytes)


def _update(
    gateway: OfficeGateway,
    number: int,
    known: Iterable[str] | None,
    stop: tuple[StopTarget, ...] = (),
    *,
    close: bool = False,
) -> None:
    seen = gateway.fetch_incident(number)
    before = read_incident(seen.envelope).facts.model_dump(mode="json", exclude_none=True)
    update = IncidentUpdate(facts=_read_facts(before, known), close=close, stop=stop)
    gateway.update_incident(number, update, seen.document)
    _print_clock(gateway.fetch_incident(number))


def _read_facts(before: Mapping[str, Any], known: Iterable[str] | None) -> IncidentFacts:
    values = dict(before)
    for text in known or ():
        values |= _read_fields(text)
    try:
        return IncidentFacts.model_validate(values)
    except ValidationError as error:
        raise InvalidRecordError("request.invalid", first_problem(error)) from error


def _read_fields(text: str) -> dict[str, Any]:
    if text.startswith("@"):
        content = parse_file(Path(text[1:]))
        if not isinstance(content, dict):
            raise InvalidRecordError("request.invalid", f"{text[1:]}: must hold a JSON object")
        return content
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRecordError("request.invalid", f"--set {text}: must be FIELD=VALUE or @FILE")
    if name in _LISTS:
        return {name: [item.strip() for item in value.split(",") if item.strip()]}
    return {name: value or None}


def _targets(stop: Iterable[str] | None) -> tuple[StopTarget, ...]:
    pairs = [("all", None) if text == "all" else parse_scope(text) for text in stop or ()]
    try:
        return tuple(
            StopTarget.model_validate({"scope": scope, "subject": subject})
            for scope, subject in pairs
        )
    except ValidationError as error:
        raise InvalidRecordError("request.invalid", f"--stop: {first_problem(error)}") from error


def _print_clock(view: IncidentView) -> None:
    incident_now = read_incident(view.envelope)
    typer.echo(f"incident {view.number}, {incident_now.status}: {incident_now.facts.title}")
    for duty in view.duties:
        typer.echo(f"  {say_duty(duty, datetime.now(UTC))}")
