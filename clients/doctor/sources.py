"""Is the customers' file there, and was it held against the contracts since it last changed?"""

import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clients.doctor.findings import Circumstances, Finding, ok, passing, warning
from clients.handovers import KeyStore
from clients.settings import SqlSource
from clients.sources import source_of, verify_readable
from fedcore.contracts import Contract
from fedcore.errors import DataError, FedError
from fedcore.signing import Envelope

_RECENT = timedelta(days=30)
_CHECK = "fedpact node check"


def check_source(found: Circumstances) -> Iterator[Finding]:
    """Look whether the source can be opened, and by whom; its rows are `node check`'s business."""
    source = found.settings.source
    if isinstance(source, SqlSource):
        yield _database(found)
        return
    try:
        with source.open("rb") as file:
            is_empty = not file.read(1)
        mode = source.stat().st_mode
    except OSError:
        yield passing(
            "data.unreadable",
            f"the source {source} cannot be read",
            "mend path and permissions; the node's user must be able to read it",
        )
        return
    if is_empty:
        yield passing("data.empty", f"the source {source.name} is empty", "export it again")
    elif os.name == "posix" and mode & stat.S_IRWXO:
        yield warning(
            f"everybody on this machine can read the source {source.name}", f"chmod 640 {source}"
        )
    else:
        yield ok(f"the source {source.name} can be read")


def _database(found: Circumstances) -> Finding:
    source = source_of(found.settings)
    try:
        verify_readable(source)
    except DataError as error:
        return passing(
            error.code, error.public, "mend URL, rights and table of `source`; see " + error.code
        )
    return ok(f"the database answers and lets the node read the source {source.name}")


def check_contracts(found: Circumstances) -> Iterator[Finding]:
    """Verify each kept contract, and look whether the source was found fit for it, and when."""
    folder = found.settings.state_dir / "contracts"
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        yield passing(
            "node.unchecked",
            "the source was held against no contract yet, so the node answers no order",
            f"{_CHECK} with the contract that the plans name",
        )
    for path in paths:
        try:
            yield _fitness(found, _contract(found, path.read_bytes()))
        except (FedError, OSError) as error:
            code = error.code if isinstance(error, FedError) else "contract.unreadable"
            yield passing(
                code,
                f"the kept contract {path.name[:12]} does not count",
                f"move contracts/{path.name} away; it is fetched again; see {code}",
            )


def _contract(found: Circumstances, data: bytes) -> Contract:
    keys = KeyStore(found.settings).load()
    return keys.open(Envelope.from_bytes(data), Contract, found.settings.realm)


def _fitness(found: Circumstances, contract: Contract) -> Finding:
    name = f"{contract.contract_id} version {contract.version}"
    if contract.subject.namespace != found.settings.subject_namespace:
        return passing(
            "contract.other_namespace",
            f"{name} identifies customers by another rule",
            "another customer base needs another node",
        )
    if not found.state.checked(contract.digest, found.settings.absent_fields):
        return passing(
            "node.unchecked",
            f"the source was not found fit for {name}",
            f"{_CHECK} --contract {contract.digest}, and mend what it names",
        )
    return _age(found, contract.digest, name)


def _age(found: Circumstances, digest: str, name: str) -> Finding:
    path = found.settings.state_dir / "checks" / f"{digest.removeprefix('sha256:')}.json"
    at = datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["at"])
    changed_at = _changed_at(found.settings.source) or at
    again = f"{_CHECK} --contract {digest}"
    if changed_at > at:
        return warning(f"the source has changed since it was held against {name}", again)
    if found.clock.now() - at > _RECENT:
        return warning(f"the source was last held against {name} on {at:%Y-%m-%d}", again)
    return ok(f"the source fits {name}, checked on {at:%Y-%m-%d}")


def _changed_at(source: Path | SqlSource) -> datetime | None:
    """Return when a file was last written; None when there is none, and for a database."""
    if isinstance(source, SqlSource):
        return None
    try:
        return datetime.fromtimestamp(source.stat().st_mtime, UTC)
    except OSError:
        return None
