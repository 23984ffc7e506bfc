"""One pass over what people are to be told: look, write down, send.

A notice is in the outbox before anything is sent, and each attempt is counted before it is made: a
crash at any point leads to the same notice, under the same event id, being sent again.
"""

import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from threading import Event

from fedcore import canonical
from fedcore.errors import FedError, UnreachableError
from governance.decisions.notice_kinds import NoticeTerms
from governance.decisions.notices import decide_next_attempt, decide_notices
from governance.notice_facts import load_notice_facts
from governance.receivers import Receiver
from registry import notices
from registry.database import Database
from registry.notices import Sending, StorageError

_logger = logging.getLogger("fedpact.governance")


@dataclass(frozen=True)
class Pass:
    """What one pass did."""

    noticed: int
    sent: int
    failed: int


def notify(
    database: Database,
    terms: NoticeTerms,
    receivers: Iterable[Receiver],
    clock: Callable[[], datetime],
) -> Pass:
    """Write down what is due and send what has not arrived yet.

    Guarantees: every occasion has one notice with one event id; it goes to each receiver until that
        one has taken it, at least once; a receiver that fails keeps nobody else waiting.
    """
    chosen = tuple(receivers)
    noticed = _write_down(database, terms, [receiver.name for receiver in chosen], clock())
    sent = failed = 0
    for receiver in chosen:
        while (sending := _claim(database, receiver.name, clock())) is not None:
            if not _send(receiver, sending, clock()):
                failed += 1
                break
            with database.writing() as session:
                notices.set_delivered(session, sending, clock())
            sent += 1
    return Pass(noticed, sent, failed)


def notify_until(stop: Event, one_pass: Callable[[], Pass], interval_s: float) -> None:
    """Make passes until told to stop; one that fails is logged, and the next one is made."""
    while not stop.wait(interval_s):
        try:
            one_pass()
        except (FedError, StorageError) as error:
            _logger.warning("a pass over the notices failed: %s", type(error).__name__)


def _write_down(
    database: Database, terms: NoticeTerms, receivers: Iterable[str], now: datetime
) -> int:
    with database.reading() as session:
        facts = load_notice_facts(session, now)
    due = decide_notices(facts, terms, now)
    with database.writing() as session:
        written = 0
        for notice in due:
            event_id = secrets.token_hex(16)
            body = {
                "event_id": event_id,
                "kind": notice.kind,
                "noticed_at": now.isoformat(),
                "schema": "notice/1",
                "subject": notice.subject,
                "text": notice.text,
            }
            if notices.append(session, event_id, notice.occasion, canonical.encode(body), now):
                notices.address(session, event_id, receivers, now)
                written += 1
    return written


def _claim(database: Database, receiver: str, now: datetime) -> Sending | None:
    """Return the next notice for a receiver, its attempt counted; nobody else sends it now."""
    with database.writing() as session:
        sending = notices.find_due(session, receiver, now)
        if sending is not None:
            next_at = decide_next_attempt(sending.attempts, now)
            notices.count_attempt(session, sending, next_at)
    return sending


def _send(receiver: Receiver, sending: Sending, now: datetime) -> bool:
    try:
        receiver.send(sending.event_id, sending.body, now)
    except UnreachableError as error:
        _logger.warning("%s %s", error.public, error.detail)
        return False
    return True
