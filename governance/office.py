"""What one request works with: its transaction, the service's key, the settings and the time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from fastapi import Request
from sqlmodel import Session

from fedcore.errors import NotFoundError, UnreachableError
from fedcore.handovers import KeyHandover, follow_handovers
from fedcore.record import Realm, Record
from fedcore.signing import Envelope, SigningKey, open_known, sign_record
from governance.settings import GovernanceSettings
from registry import documents
from registry.database import Database

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Desk:
    """One request's transaction and everything that a command may use. Commands never commit."""

    session: Session
    key: SigningKey
    settings: GovernanceSettings
    now: datetime

    @property
    def realm(self) -> Realm:
        """The realm of everything that is signed or believed here."""
        return self.settings.realm

    def issue(self, record: Record, unit: str | None = None, run_id: str | None = None) -> Envelope:
        """Sign a record, store and log it, and return its envelope."""
        envelope = sign_record(record, self.key, self.realm)
        filing = documents.Filing(self.now, unit, run_id)
        documents.append(self.session, type(record), envelope, filing)
        return envelope

    def file(
        self, record: Record, envelope: Envelope, unit: str | None = None, run_id: str | None = None
    ) -> bool:
        """Store and log another party's document; return False when it is known already."""
        filing = documents.Filing(self.now, unit, run_id)
        return documents.append(self.session, type(record), envelope, filing)

    def fetch(self, record_type: type[Record], digest: str) -> Envelope:
        """Return a stored document. Raises: NotFoundError `<kind>.unknown`."""
        envelope = documents.find(self.session, record_type, digest)
        if envelope is None:
            raise unknown(record_type)
        return envelope

    def open_own(self, record_type: type[R], digest: str) -> R:
        """Return a stored record that this service signed; its signature is verified again."""
        return self.open_signed_here(self.fetch(record_type, digest), record_type)

    def open_each(self, wanted: Mapping[str, type[Record]]) -> Mapping[str, Record]:
        """Return those of the named records that are stored as what they are wanted as, signed by
        this service, by digest, in one query. Raises: SignatureError.
        """
        found = documents.find_each(self.session, wanted)
        return {
            digest: self.open_signed_here(envelope, wanted[digest])
            for digest, envelope in found.items()
        }

    def open_signed_here(self, envelope: Envelope, record_type: type[R]) -> R:
        """Return a record that this service signed, with its key or one that it had before.

        Raises: SignatureError.
        """
        if envelope.signer == self.key.public:
            return open_known(envelope, record_type, self.key.public, self.realm)
        keys = follow_handovers(self.key.public, self.handovers(), self.realm)
        return keys.open(envelope, record_type, self.realm)

    def handovers(self) -> tuple[Envelope, ...]:
        """Return all hand-overs of this service's keys, oldest first."""
        return documents.of_kind(self.session, KeyHandover)


def unknown(record_type: type[Record]) -> NotFoundError:
    """Return what is answered about a document that is not here."""
    kind = documents.kind_of(record_type)
    return NotFoundError(f"{kind}.unknown", f"there is no {kind} with this digest")


class Office:
    """The running service: database, key, settings and clock. One request is one desk."""

    def __init__(
        self,
        settings: GovernanceSettings,
        database: Database,
        key: SigningKey,
        clock: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self._database = database
        self._key = key
        self._clock = clock

    @contextmanager
    def reading(self) -> Iterator[Desk]:
        """Give a desk whose transaction sees one state and changes nothing.

        Raises: UnreachableError `governance.key_retired`.
        """
        with self._database.reading() as session:
            yield self._desk(session)

    @contextmanager
    def looking_up(self) -> Iterator[Session]:
        """Give a session that finds out who calls; what they ask for gets a desk of its own, where
        this service's key is looked at.
        """
        with self._database.glancing() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Desk]:
        """Give a desk whose transaction commits at the end, or leaves nothing when it raises.

        Raises: UnreachableError `governance.key_retired`.
        """
        with self._database.writing() as session:
            # The time is taken inside: transactions follow each other, and so do their times.
            yield self._desk(session)

    def _desk(self, session: Session) -> Desk:
        """Return a desk, unless this key has been handed over: what it signed from then on would
        count for nothing, and the log would hold it for ever.
        """
        desk = Desk(session, self._key, self.settings, self._clock())
        if any(handover.signer == self._key.public for handover in desk.handovers()):
            raise UnreachableError(
                "governance.key_retired",
                "governance has another key now: finish `rotate-key`, then restart the service",
            )
        return desk

    @property
    def public_key(self) -> str:
        """The public half of the key that this service signs with."""
        return self._key.public

    def verify_schema(self) -> None:
        """Refuse a database that does not answer or has another schema.

        Raises: UnreachableError `database.unreachable`, `database.schema_differs`.
        """
        self._database.verify_schema()

    def folders(self) -> frozenset[Path]:
        """Return the folders that the service writes to or reads its key from."""
        found = {self.settings.signing_key.parent, self._database.folder}
        return frozenset(folder for folder in found if folder is not None)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


async def office_of(request: Request) -> Office:
    """Return the office of the application that serves a request."""
    office: Office = request.app.state.office
    return office


def required(opened: Mapping[str, Record], record_type: type[R], digest: str) -> R:
    """Return one of the records of `Desk.open_each`. Raises: NotFoundError `<kind>.unknown`."""
    record = opened.get(digest)
    if not isinstance(record, record_type):
        raise unknown(record_type)
    return record
