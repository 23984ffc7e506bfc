"""A unit's membership: set up, enrolled, with new keys, out."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients import runtime
from clients.commands.options import SettingsOption
from clients.settings import NodeSettings

if TYPE_CHECKING:
    from fedcore.membership import LeaveAnswer
    from fedcore.signing import Envelope


def init(settings: SettingsOption) -> None:
    """Make the state directory that the settings name: fresh keys and an empty ledger."""
    from clients.state import create_state

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    state = create_state(loaded.state_dir, loaded.unit, loaded.subject_namespace, now)
    typer.echo(f"state directory: {state.root}  (back it up: a lost key or ledger is not replaced)")
    typer.echo(f"node key:        {state.node_key().public}")


def enrol(
    settings: SettingsOption,
    legal_entity: Annotated[str, typer.Option(help="The legal name of the controller.")],
    out: Annotated[Path, typer.Option(help="Where the request is written.")],
    new_keys: Annotated[
        bool,
        typer.Option(
            "--new-keys", help="Make fresh keys: the unit's key was revoked, or the unit has left."
        ),
    ] = False,
) -> None:
    """Write the enrolment request, to hand to governance, and show its eight words.

    Read the words out to whoever enrols the unit, in person or by telephone, when they ask.
    """
    from clients.handovers import KeyStore
    from clients.membership import request_enrolment, request_with_new_keys
    from fedcore.atomic import write_atomically
    from fedcore.fingerprints import words_of
    from fedcore.permits import Enrolment

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    make = request_with_new_keys if new_keys else request_enrolment
    request = make(loaded, legal_entity, now)
    write_atomically(out, request.to_bytes())
    record = Enrolment.from_bytes(request.payload_bytes)
    words = words_of(record, KeyStore(loaded).load().current, loaded.realm)
    typer.echo(f"enrolment request of {loaded.unit}: {out}")
    typer.echo(f"its eight words: {words}")
    typer.echo("Do not send the words along: read them out when governance asks for them.")


def accept(
    settings: SettingsOption,
    answer: Annotated[Path, typer.Argument(help="The answer that `governance enrol` has written.")],
) -> None:
    """Take over governance's answer to the enrolment request; it is verified first."""
    from clients.membership import accept as take_over

    certificate = take_over(NodeSettings.load(settings), _read(answer))
    typer.echo(f"{certificate.unit} is enrolled since {certificate.issued_at:%Y-%m-%d %H:%M} UTC")


def rotate(
    settings: SettingsOption,
    legal_entity: Annotated[
        str | None,
        typer.Option(help="As at enrolment; only for nodes that were enrolled by version 0.1."),
    ] = None,
) -> None:
    """Change the node's keys at governance and here; interrupted, the same command completes it.

    Stop the node first, and start it afterwards. A run whose permit names the old key ends for this
    unit: let it finish before.
    """
    from clients.membership import rotate as change_keys

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    certificate = change_keys(loaded, now, legal_entity)
    typer.echo(f"{certificate.unit} has new keys since {certificate.issued_at:%Y-%m-%d %H:%M} UTC")
    typer.echo(f"node key: {certificate.node_key}")


def leave(
    settings: SettingsOption,
    reason: Annotated[str, typer.Option(help="Why; it is signed and stays in the log.")],
) -> None:
    """Leave: hand over the last opt-outs and a last statement, and have the unit's key revoked.

    Shows which models have learnt from this unit's customers: those stay as they are, and what
    becomes of them is to be agreed with governance. Stop the node first.
    """
    from clients.membership import leave as end_membership
    from clients.membership import repeat_leave
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    answer = repeat_leave(loaded)
    if answer is None:
        with closing(Site(loaded)) as site:
            answer = end_membership(site, reason, site.runtime.clock.now())
    _show(loaded.unit, answer)


def _show(unit: str, answer: "LeaveAnswer") -> None:
    typer.echo(f"{unit} has left: governance accepts nothing more that its node signs")
    if not answer.models:
        typer.echo("no registered model has learnt from its customers")
    for model in answer.models:
        typer.echo(f"trained with its customers: {model.name} {model.version} (run {model.run_id})")
    typer.echo("keep the state directory as long as the law asks for: ledger and keys are evidence")


def _read(path: Path) -> "Envelope":
    from fedcore.errors import InvalidRecordError
    from fedcore.signing import Envelope

    try:
        return Envelope.from_bytes(path.read_bytes())
    except OSError as error:
        raise InvalidRecordError(
            "certificate.unreadable", f"{path} cannot be read: name the answer's file", str(error)
        ) from error
