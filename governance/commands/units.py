"""Units from a distance: enrol them, list them, revoke their keys."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.named_files import verify_absent, write_new
from governance.commands.options import ApiKeyFile, Authority, Url, open_line

if TYPE_CHECKING:
    from fedcore.permits import Enrolment
    from fedcore.record import Realm
    from fedcore.signing import Envelope

_LARGEST_REQUEST = 64 * 1024


def enrol(
    request: Annotated[Path, typer.Argument(help="The request that `node enrol` has written.")],
    url: Url,
    api_key_file: ApiKeyFile,
    out: Annotated[Path, typer.Option(help="Where the signed answer for the unit is written.")],
    words: Annotated[
        str | None,
        typer.Option(help="The eight words that the unit's operator has read out to you."),
    ] = None,
    ca: Authority = None,
) -> None:
    """Enrol a unit's node after its operator has read the eight words out to you.

    Ask for them in person or by a telephone number that you know to be the unit's: whoever could
    swap the request on its way could send you the words as well.
    """
    from fedcore.fingerprints import verify_words, words_of
    from fedcore.permits import UnitCertificate
    from fedcore.signing import open_envelope

    verify_absent(out)
    envelope = _read_request(request)
    with open_line(url, ca, api_key_file) as gateway:
        about = gateway.fetch_about()
        enrolment = _open_request(envelope, about.realm)
        _show(enrolment)
        typed = words or typer.prompt("Eight words, as the unit's operator reads them")
        verify_words(typed, words_of(enrolment, about.public_key, about.realm))
        answer = gateway.enrol(envelope)
    certificate = open_envelope(answer, UnitCertificate, about.public_key, about.realm)
    if certificate.enrolment != enrolment.digest:
        raise MismatchError(
            "enrolment.other_answer", "governance has certified another request than this one"
        )
    write_new(out, answer.to_bytes(), "file.unwritable")
    typer.echo(f"{enrolment.unit} is enrolled; give its operator the answer {out}")


def list_units(url: Url, api_key_file: ApiKeyFile, ca: Authority = None) -> None:
    """List all units that were ever enrolled."""
    from fedcore.handovers import follow_handovers
    from fedcore.permits import UnitCertificate

    with open_line(url, ca, api_key_file) as gateway:
        about, units = gateway.fetch_about(), gateway.list_units()
        keys = follow_handovers(about.public_key, gateway.fetch_handovers(), about.realm)
    rows = [("unit", "state", "size band", "enrolled at (UTC)", "node key", "transport key")]
    for unit in units:
        found = keys.open(unit.certificate, UnitCertificate, about.realm)
        rows.append(
            (
                found.unit,
                "out" if unit.revoked else "takes part",
                str(found.size_band),
                f"{found.issued_at:%Y-%m-%d %H:%M}",
                found.node_key,
                "yes" if found.transport_key else "none",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def revoke_node(
    unit: Annotated[str, typer.Argument(help="The unit whose node is not to be believed.")],
    url: Url,
    api_key_file: ApiKeyFile,
    reason: Annotated[str, typer.Option(help="Why; it is signed and stays in the log.")],
    ca: Authority = None,
) -> None:
    """Revoke the key of a unit's node: from now on nothing that it signs is accepted.

    What it signed before stays what it was. The unit can be enrolled again with fresh keys.
    """
    with open_line(url, ca, api_key_file) as gateway:
        gateway.revoke_node(unit, reason)
    typer.echo(
        f"the key of {unit} is revoked; have the federation operator run `fedpact server admit`"
    )


def _read_request(path: Path) -> "Envelope":
    from fedcore.signing import Envelope

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "enrolment.unreadable", f"{path} cannot be read: name the request's file", str(error)
        ) from error
    if len(data) > _LARGEST_REQUEST:
        raise InvalidRecordError(
            "enrolment.unreadable", f"{path} is too large for a request: is it the right file?"
        )
    return Envelope.from_bytes(data)


def _open_request(envelope: "Envelope", realm: "Realm") -> "Enrolment":
    from fedcore.permits import Enrolment
    from fedcore.signing import open_envelope

    return open_envelope(envelope, Enrolment, envelope.signer, realm)


def _show(enrolment: "Enrolment") -> None:
    typer.echo(f"unit:              {enrolment.unit}")
    typer.echo(f"legal entity:      {enrolment.legal_entity}")
    typer.echo(
        f"customers:         {enrolment.size_band} to {2 * enrolment.size_band}, as declared"
    )
    typer.echo(f"identified by:     {enrolment.subject_namespace}")
    typer.echo(f"requested at:      {enrolment.requested_at:%Y-%m-%d %H:%M} UTC")
