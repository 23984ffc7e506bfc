"""What one request works with: its transaction, the service's key, the settings and the time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from fastapi import Request
from sqlmodel import Session

from fedcore.errors import NotFoundError
from fedcore.record import Realm, Record
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
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
            kind = documents.kind_of(record_type)
            raise NotFoundError(f"{kind}.unknown", f"there is no {kind} with this digest")
        return envelope

    def open_own(self, record_type: type[R], digest: str) -> R:
        """Return a stored record that this service signed; its signature is verified again."""
        return open_envelope(
            self.fetch(record_type, digest), record_type, self.key.public, self.realm
        )


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
        """Give a desk whose transaction sees one state and changes nothing."""
        with self._database.reading() as session:
            yield Desk(session, self._key, self.settings, self._clock())

    @contextmanager
    def writing(self) -> Iterator[Desk]:
        """Give a desk whose transaction commits at the end, or leaves nothing when it raises."""
        with self._database.writing() as session:
            # The time is taken inside: transactions follow each other, and so do their times.
            yield Desk(session, self._key, self.settings, self._clock())

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def office_of(request: Request) -> Office:
    """Return the office of the application that serves a request."""
    office: Office = request.app.state.office
    return office
