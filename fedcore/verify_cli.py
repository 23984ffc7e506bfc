"""`fedpact verify` and `fedpact log verify`: offline checks with nothing but a public key."""

import json
from pathlib import Path
from typing import Annotated

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from rich.console import Console
from rich.text import Text

from fedcore import canonical
from fedcore.archive import MAX_BUNDLE_BYTES
from fedcore.errors import InvalidRecordError
from fedcore.named_files import cause_of, verify_absent, write_new
from fedcore.record import Realm
from fedcore.signing import Envelope
from fedcore.verify import Report, verify_bundle, verify_log_export

_Key = Annotated[
    Path, typer.Option("--key", help="Governance's public key: a file of 64 hex digits or PEM.")
]
_AskedRealm = Annotated[
    Realm | None, typer.Option("--realm", help="Refuse evidence of any other realm.")
]
_Json = Annotated[Path | None, typer.Option("--json", help="Write the result there as JSON.")]

log = typer.Typer(
    name="log",
    help="Check exports of the governance log.",
    no_args_is_help=True,
    add_completion=False,
)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The evidence bundle of a model version.")],
    key: _Key,
    realm: _AskedRealm = None,
    json_path: _Json = None,
) -> None:
    """Check an evidence bundle offline, and say what that cannot show.

    Exit codes: 0 every check held; 1 a check failed, or a file is not what it should be.
    """
    if json_path is not None:
        verify_absent(json_path)
    report = verify_bundle(_read(bundle, "bundle.unreadable"), load_public_key(key), realm)
    _finish(report, json_path)


@log.callback()
def _group() -> None:
    """Check exports of the governance log."""


@log.command("verify")
def verify_log(
    export: Annotated[Path, typer.Argument(help="A log export.")],
    key: _Key,
    realm: _AskedRealm = None,
    json_path: _Json = None,
    seen: Annotated[
        list[Path] | None,
        typer.Option(help="A signed checkpoint that you have kept; repeatable."),
    ] = None,
) -> None:
    """Hash all entries of a log export again and hold them against what was signed about them.

    That is the checkpoint in it, the cosignatures of nodes in it, and the checkpoints that you have
    kept: only these can show that the log was not rewritten as a whole.
    """
    if json_path is not None:
        verify_absent(json_path)
    kept = [_checkpoint(path) for path in seen or ()]
    try:
        with export.open("rb") as file:
            report = verify_log_export(file, load_public_key(key), realm, kept)
    except OSError as error:
        raise InvalidRecordError(
            "export.unreadable", _unreadable(export, error), str(error)
        ) from error
    _finish(report, json_path)


def load_public_key(path: Path) -> str:
    """Return the Ed25519 public key of a file that holds 64 hex digits or a PEM block, as hex.

    Raises: InvalidRecordError `key.unreadable`.
    """
    data = _read(path, "key.unreadable").strip()
    try:
        if not data.startswith(b"-----"):
            raw = bytes.fromhex(data.decode("ascii"))
            return Ed25519PublicKey.from_public_bytes(raw).public_bytes_raw().hex()
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path, str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _not_a_key(path)
    return key.public_bytes_raw().hex()


def report_json(report: Report) -> dict[str, object]:
    """Return a report as a JSON value."""
    return {
        "ok": report.ok,
        "model": report.model,
        "realm": report.realm,
        "delta": report.delta,
        "epsilon": {
            claim.unit: {"claim": claim.claim, "pld": claim.pld} for claim in report.epsilon
        },
        "epsilon_with_evaluations": {
            claim.unit: {"claim": claim.claim, "pld": claim.pld} for claim in report.total
        },
        "checks": [
            {"name": check.name, "ok": check.ok, "text": check.text} for check in report.checks
        ],
        "cannot_show": list(report.cannot_show),
    }


def _checkpoint(path: Path) -> Envelope:
    """Return the envelope that the route of the checkpoint has answered, whatever its white space.

    Raises: InvalidRecordError.
    """
    return Envelope.from_json(canonical.parse(_read(path, "export.unreadable")))


def _finish(report: Report, json_path: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for check in report.checks:
        mark = Text("ok      ", "green") if check.ok else Text("FAILED  ", "bold red")
        console.print(mark + Text(_printable(f"{check.name}: {check.text}")))
    for line in _summary(report):
        console.print(Text(_printable(line)))
    if json_path is not None:
        text = json.dumps(report_json(report), indent=2) + "\n"
        write_new(json_path, text.encode(), "report.unwritable")
    if not report.ok:
        raise typer.Exit(1)


def _printable(text: str) -> str:
    """Return the text on one line: a document's words never move the cursor or forge a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _summary(report: Report) -> list[str]:
    lines = [""]
    if report.cannot_show:
        lines += ["This cannot show:", *(f"  - {line}" for line in report.cannot_show), ""]
    if report.realm == Realm.SIMULATION:
        lines.append("SIMULATION: this comes from a simulated federation, not from production.")
    if report.model:
        lines.append(f"model {report.model}, delta {report.delta}, epsilon (PLD) per unit:")
        lines += [f"  {item.unit}: {item.claim:.4f} ({item.pld:.4f})" for item in report.epsilon]
    if report.total:
        lines.append("with the model's evaluations, at least:")
        lines += [f"  {item.unit}: {item.claim:.4f} ({item.pld:.4f})" for item in report.total]
    failed = sum(not check.ok for check in report.checks)
    count = len(report.checks)
    lines.append(f"NOT VERIFIED: {failed} of {count} checks failed" if failed else "VERIFIED")
    return lines


def _read(path: Path, code: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise InvalidRecordError(code, f"{path.name} is larger than 512 MiB")
        return path.read_bytes()
    except OSError as error:
        raise InvalidRecordError(code, _unreadable(path, error), str(error)) from error


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {cause_of(error)}; name the right file"


def _not_a_key(path: Path, detail: str = "") -> InvalidRecordError:
    return InvalidRecordError(
        "key.unreadable", f"{path.name} is no Ed25519 public key (64 hex digits or PEM)", detail
    )
