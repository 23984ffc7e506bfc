"""Many statements of customers at once, from a file that the unit's own systems have written.

Guarantees: a sound line is taken in whatever the other lines are; a faulty one is named by its
    number and the rule, never by what it holds; the same file again changes nothing; after a crash
    each batch is there whole or not at all, and the same call goes on.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clients.site import Site
from clients.statements import Seen, Statement, parse_ground, parse_time, verify_customer
from fedcore.contracts import Contract
from fedcore.errors import DataError
from fedcore.opt_out_batches import MAX_EVENTS
from fedcore.optouts import Said

BATCH = MAX_EVENTS
MAX_LINE = 4096
OBJECTION_COLUMNS = ("identifier", "purpose", "channel", "ground", "received_at")
CONSENT_COLUMNS = ("identifier", "purpose", "channel", "received_at")
_TOO_LONG = b'"'


@dataclass(frozen=True)
class RowFault:
    """A line that was not taken in: its number, counted from 1, the rule and its sentence."""

    line: int
    code: str
    sentence: str


@dataclass(frozen=True)
class Imported:
    """How many statements were new, how many were known already, and which lines were faulty."""

    added: int
    known: int
    faults: tuple[RowFault, ...]


def import_objections(
    site: Site, contract: Contract, path: Path, *, dry_run: bool = False
) -> Imported:
    """Take in a file of objections; with `dry_run` say what that would do.

    Raises: DataError `opt_out.file_unreadable`, `opt_out.header_invalid`: nothing is taken in;
        ConflictError of the store.
    """
    return _import(site, contract, _rows(path, OBJECTION_COLUMNS), dry_run)


def import_consents(
    site: Site, contract: Contract, path: Path, *, dry_run: bool = False
) -> Imported:
    """Take in a file of consents as `import_objections` does.

    Raises: as `import_objections`.
    """
    return _import(site, contract, _rows(path, CONSENT_COLUMNS), dry_run)


def _import(
    site: Site, contract: Contract, rows: Iterable[tuple[int, Statement | DataError]], dry_run: bool
) -> Imported:
    seen, faults = Seen(), list[RowFault]()
    counted, added = 0, 0
    for batch in _batches(_sound(site, contract, rows, faults)):
        counted += len(batch)
        if dry_run:
            added += site.count_new(batch, contract, seen)
        else:
            added += len(site.take_in_verified(batch, contract, seen))
    return Imported(added, counted - added, tuple(faults))


def _sound(
    site: Site,
    contract: Contract,
    rows: Iterable[tuple[int, Statement | DataError]],
    faults: list[RowFault],
) -> Iterator[Statement]:
    # What is said is the same on most lines; of whom and when is not.
    sound, now = set[Said](), site.runtime.clock.now()
    for line, row in rows:
        try:
            if isinstance(row, DataError):
                raise row
            if row.said in sound:
                verify_customer(row, now)
            else:
                site.verify_statement(row, contract)
                sound.add(row.said)
        except DataError as error:
            faults.append(RowFault(line, error.code, error.public))
        else:
            yield row


def _batches(statements: Iterator[Statement]) -> Iterator[list[Statement]]:
    batch: list[Statement] = []
    for statement in statements:
        batch.append(statement)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Statement | DataError]]:
    """Yield the number of each line that is not blank, and its statement or what is wrong."""
    lines = _lines(path)
    _, header = next(lines, (0, None))
    if header is None or sorted(header) != sorted(columns):
        raise DataError(
            "opt_out.header_invalid", f"the first line must name {', '.join(columns)}, and no more"
        )
    places = [header.index(column) for column in columns]
    for number, cells in lines:
        try:
            yield number, _statement(places, cells)
        except DataError as error:
            yield number, error


def _statement(places: list[int], cells: list[str] | None) -> Statement:
    """Return the statement of a line; `places` are those of the columns, in their own order."""
    if cells is None or len(cells) != len(places):
        raise DataError("opt_out.line_invalid", "the line is no row of the table")
    identifier, purpose, channel, *ground, received_at = [cells[place].strip() for place in places]
    return Statement(
        identifier=identifier,
        purpose=purpose,
        channel=channel,
        ground=parse_ground(ground[0]) if ground else "art7_3",
        received_at=parse_time(received_at),
        act=None if ground else "consented",
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str] | None]]:
    """Yield number and cells of each line that is not blank; no cells for one that is no CSV."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_bounded(file), 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, _cells(text)
    except OSError as error:
        raise DataError(
            "opt_out.file_unreadable", f"the file {path.name} cannot be read", str(error)
        ) from error


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines, and what is no row in the place of one that is too long for memory."""
    while line := file.readline(MAX_LINE):
        whole = line
        while not line.endswith(b"\n") and (line := file.readline(MAX_LINE)):
            whole = _TOO_LONG
        yield whole


def _cells(line: bytes) -> list[str] | None:
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        if '"' not in text and "\r" not in text:  # as the reader would, faster
            return text.split(",")
        return next(csv.reader([text], strict=True), None)
    except (UnicodeDecodeError, csv.Error):
        return None
