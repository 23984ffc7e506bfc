"""A ledger as one file, to be handed on and verified anywhere: entries without stored replies.

The file is canonical JSON: `schema` (`ledger-export/1`), `unit`, `namespace`, `cap` (`epsilon`,
`delta`), `start` and `head` (each `sequence`, `hash`), and `entries`, the bodies in their order.
The hash of an entry is sha256(hash of the one before || sha256(canonical bytes of its body)).
"""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clients.budget import Cap, Reserved
from clients.ledger import Ledger
from clients.ledger_entries import Entry, chain, read_entry
from clients.reservations import Reservations
from fedcore import canonical
from fedcore.bulletins import WitnessedHead
from fedcore.errors import FedError, TrustError

SCHEMA = "ledger-export/1"


@dataclass(frozen=True)
class Export:
    """A ledger that was read from a file and verified."""

    unit: str
    namespace: str
    cap: Cap
    head: WitnessedHead
    entries: tuple[Entry, ...]
    reserved: tuple[Reserved, ...]


def export_ledger(ledger: Ledger) -> bytes:
    """Return a ledger as the bytes of a file."""
    entries, start = ledger.entries(), ledger.start
    first, cap = entries[0].body, ledger.cap
    return canonical.encode(
        {
            "schema": SCHEMA,
            "unit": first["unit"],
            "namespace": first["namespace"],
            "cap": {"epsilon": cap.epsilon, "delta": cap.delta},
            "start": start.model_dump(mode="json"),
            "head": ledger.head().model_dump(mode="json"),
            "entries": [entry.body for entry in entries],
        }
    )


def read_export(data: bytes) -> Export:
    """Return the ledger in a file, after its chain was hashed again from its start to its head.

    Raises: TrustError `ledger.corrupt`.
    """
    try:
        return _read(canonical.decode(data, canonical.MAX_LOCAL_BYTES))
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise _corrupt(str(error)) from error
    except FedError as error:
        raise _corrupt(error.public) from error


def _read(value: dict[str, Any]) -> Export:
    if value["schema"] != SCHEMA or set(value) != _NAMES:
        raise ValueError("another schema")
    start = WitnessedHead.model_validate(value["start"])
    newest, entries, reservations = start, list[Entry](), Reservations()
    for body in value["entries"]:
        data = canonical.encode(body)
        found = chain(newest.hash, data)
        entries.append(read_entry(newest, newest.sequence + 1, data, found))
        reservations.note(entries[-1])
        newest = WitnessedHead(sequence=newest.sequence + 1, hash=found)
    first = entries[0].body
    if newest != WitnessedHead.model_validate(value["head"]):
        raise ValueError("the entries do not lead to the head")
    if (value["unit"], value["namespace"]) != (first["unit"], first["namespace"]):
        raise ValueError("the file and its first entry name two customer bases")
    reserved = tuple(reservations.listed())
    cap = Cap(**value["cap"])
    return Export(value["unit"], value["namespace"], cap, newest, tuple(entries), reserved)


_NAMES = {"schema", "unit", "namespace", "cap", "start", "head", "entries"}


def _corrupt(detail: str) -> TrustError:
    return TrustError(
        "ledger.corrupt", "the file is no sound copy of a ledger: export it again", detail
    )
