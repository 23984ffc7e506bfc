"""DPIAs from and to the files of other tools, on this machine."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from fedcore import canonical
from fedcore.dpia_record import Dpia
from fedcore.dpias import Bindings
from fedcore.errors import InvalidRecordError
from fedcore.named_files import verify_absent, write_new
from fedcore.record import first_problem

if TYPE_CHECKING:
    from governance.exchange.cnil_table import Loss

Out = Annotated[Path, typer.Option(help="The file to write; it must not be there yet.")]


def import_file(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A CNIL PIA file (JSON).")],
    out: Out,
    bindings: Annotated[
        Path | None,
        typer.Option(help="JSON of the bindings, or of a DPIA that has them: as `new` makes."),
    ] = None,
    onto: Annotated[
        Path | None, typer.Option(help="The DPIA as it was, if the file is an edited export of it.")
    ] = None,
    dpia_id: Annotated[str | None, typer.Option(help="The DPIA's id, if it is a new one.")] = None,
    valid_until: Annotated[
        datetime | None, typer.Option(help="When the DPIA expires, if it is a new one; UTC.")
    ] = None,
) -> None:
    """Make a DPIA record of a CNIL PIA file, and say what did not come with it.

    The file cannot say what machines hold runs against: give it with --bindings.
    """
    from governance.exchange.cnil import import_cnil

    verify_absent(out)
    given: dict[str, Any] = {}
    if bindings is not None:
        given["bindings"] = _load_bindings(bindings)
    if dpia_id is not None:
        given |= {"dpia_id": dpia_id, "version": 1}
    if valid_until is not None:
        given["valid_until"] = valid_until.isoformat() + "Z"
    before = None if onto is None else Dpia.from_json(canonical.parse(_read(onto)))
    imported = import_cnil(_read(path), given, before)
    write_new(out, _pretty(imported.record), "file.unwritable")
    typer.echo(f"{imported.record.dpia_id} version {imported.record.version}: {out}")
    _say(imported.losses)


def export_file(
    path: Annotated[Path, typer.Argument(metavar="DPIA.json", help="The DPIA record.")],
    out: Out,
    form: Annotated[Literal["cnil"], typer.Option("--format", help="The tool it is for.")] = "cnil",
) -> None:
    """Write a DPIA record as a file for another tool, and say what that cannot hold."""
    from governance.exchange.cnil import export_cnil

    verify_absent(out)
    record = Dpia.from_json(canonical.parse(_read(path)))
    data, losses = export_cnil(record)
    write_new(out, data, "file.unwritable")
    typer.echo(f"{record.dpia_id} version {record.version}, {form}: {out}")
    _say(losses)


def _say(losses: Iterable["Loss"]) -> None:
    for loss in losses:
        line = f"lost: {loss.field}: {loss.why}"
        # A file's own words may hold what moves a terminal's cursor.
        typer.echo("".join(char if char.isprintable() else "?" for char in line))


def _pretty(record: Dpia) -> bytes:
    return json.dumps(record.to_json(), indent=2, ensure_ascii=False).encode() + b"\n"


def _load_bindings(path: Path) -> Bindings:
    value = canonical.parse(_read(path))
    if isinstance(value, dict) and isinstance(value.get("bindings"), dict):
        value = value["bindings"]
    try:
        return TypeAdapter(Bindings).validate_python(value)
    except ValidationError as error:
        raise InvalidRecordError("record.invalid", f"bindings: {first_problem(error)}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "file.unreadable", f"{path} cannot be read: name the right file", str(error)
        ) from error
