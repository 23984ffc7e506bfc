"""Decisions on models that were trained before an opt-out, from a distance."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

import typer
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.model_decisions import DecisionRequest, DecisionView, ModelDecision, Outcome
from fedcore.record import first_problem
from governance.commands.options import ApiKeyFile, Authority, Url, open_line

Named = Annotated[str, typer.Argument(metavar="MODEL:VERSION", help="As in churn:3.")]


def decide(
    about: Annotated[
        tuple[str, int, str, str],
        typer.Argument(
            metavar=f"UNIT UP_TO MODEL:VERSION {'|'.join(get_args(Outcome))}",
            help="The unit, the newest of its opt-outs that was looked at, the model, the outcome.",
        ),
    ],
    url: Url,
    api_key_file: ApiKeyFile,
    reason: Annotated[str, typer.Option(help="Why, without any customer's data; it is signed.")],
    due: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="With retrain_due: until the end of this day, UTC."
        ),
    ] = None,
    ca: Authority = None,
) -> None:
    """Decide what becomes of a model version that was trained before customers objected.

    Decisions before stay in the record; the newest one of each unit is in force. Prints its digest.
    """
    unit, up_to, model, outcome = about
    name, version = parse_model(model)
    request = _request(unit=unit, outcome=outcome, up_to=up_to, reason=reason, due_at=_end_of(due))
    with open_line(url, ca, api_key_file) as gateway:
        before, seen = gateway.see_decisions(name, version)
        for view in before:
            _print(view)
        typer.echo(gateway.decide_model(name, version, request, seen).digest)


def show_decisions(model: Named, url: Url, api_key_file: ApiKeyFile, ca: Authority = None) -> None:
    """Show all that was decided about a model version, oldest first."""
    name, version = parse_model(model)
    with open_line(url, ca, api_key_file) as gateway:
        for view in gateway.see_decisions(name, version)[0]:
            _print(view)


def parse_model(model: str) -> tuple[str, int]:
    """Return name and version of `MODEL:VERSION`. Raises: InvalidRecordError `request.invalid`."""
    name, _, version = model.rpartition(":")
    if not name or not (version.isascii() and version.isdigit()) or int(version) < 1:
        raise InvalidRecordError("request.invalid", f"{model}: must be MODEL:VERSION")
    return name, int(version)


def _request(**values: object) -> DecisionRequest:
    try:
        return DecisionRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidRecordError("request.invalid", first_problem(error)) from error


def _end_of(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC) + timedelta(days=1, seconds=-1)


def _print(view: DecisionView) -> None:
    # For showing it: the signature is not verified.
    found = ModelDecision.from_bytes(view.envelope.payload_bytes)
    state = "in force" if view.in_force else "replaced"
    until = "" if found.due_at is None else f" by {found.due_at.isoformat()}"
    typer.echo(
        f"decision {found.number}, {found.decided_at.isoformat()}, {found.decided_by}, {state}: "
        f"{found.outcome}{until} for {found.unit} up to {found.up_to}: {found.reason}"
    )
