"""What customers say, and what became of it, before it has a pseudonym and a number."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from clients.pseudonyms import normalise
from fedcore.contracts import Contract
from fedcore.errors import DataError
from fedcore.optouts import EFFECTS, Act, Ground, OptOutEvent, Reason

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,79}")
# What a spreadsheet makes of an identifier; the reader refuses such rows of the source as well.
_DECIMAL = re.compile(r"[+-]?\d+([.,]\d+)?[eE][+-]?\d+|[+-]?\d+[.,]\d+")
# A shorter identifier may be part of any word.
_LEAST_TELLING = 4


@dataclass(frozen=True)
class Statement:
    """An objection, a consent, or an act on an objection, about one customer.

    Attributes:
        identifier: the customer's, as the unit writes it; it never leaves the machine.
        purpose: of the contract's tree.
        ground: the legal ground of the objection.
        channel: how it came in, a short name such as `web`.
        received_at: when the unit received it; None for now.
        act: what became of an objection; None for the objection itself.
        reason: why an objection was rejected.
    """

    identifier: str
    purpose: str
    ground: Ground
    channel: str = "unit"
    received_at: datetime | None = None
    act: Act | None = None
    reason: Reason | None = None


class Seen:
    """Which events a unit's store holds, so that the same statement is not taken in twice.

    Two statements are the same when customer, purpose, channel, ground, act and time are.
    """

    def __init__(self) -> None:
        self._marks: set[tuple[object, ...]] = set()
        self.sequence = 0

    def catch_up(self, events: Iterable[OptOutEvent]) -> None:
        """Note the events that came in since."""
        for event in events:
            self._marks.add(_mark(event))
            self.sequence = event.sequence

    def is_new(self, event: OptOutEvent) -> bool:
        """Return whether this is none of those noted, and note it."""
        mark = _mark(event)
        if mark in self._marks:
            return False
        self._marks.add(mark)
        return True


def verify_statement(statement: Statement, contract: Contract, now: datetime) -> None:
    """Refuse what must not become an event; no sentence quotes the identifier.

    Raises: DataError `data.subject_missing`, `opt_out.identifier_decimal`,
        `opt_out.purpose_unknown`, `opt_out.channel_invalid`, `opt_out.channel_personal`,
        `opt_out.from_future`,
        `opt_out.reason_missing`, `opt_out.act_not_open`.
    """
    if statement.act is not None and statement.act not in EFFECTS[statement.ground].acts:
        raise DataError(
            "opt_out.act_not_open",
            f"an objection on ground {statement.ground} cannot be {statement.act}",
        )
    if (statement.act == "rejected") != (statement.reason is not None):
        raise DataError(
            "opt_out.reason_missing", "a rejection, and nothing else, has a reason: see --reason"
        )
    verify_identifier(statement.identifier)
    if statement.purpose not in {known.id for known in contract.purposes}:
        # A file may hold anything in this place, so that its word is not repeated.
        raise DataError(
            "opt_out.purpose_unknown", "the contract has no such purpose: name one of its own"
        )
    if not _CHANNEL.fullmatch(statement.channel):
        raise DataError(
            "opt_out.channel_invalid",
            "the channel must be a short name of small letters, digits, '.', '-' and '_'",
        )
    if _names_the_customer(statement):
        raise DataError(
            "opt_out.channel_personal",
            "the channel holds the customer's identifier, and governance would be told it: name "
            "the way only, such as web",
        )
    if statement.received_at is not None and statement.received_at > now:
        raise DataError("opt_out.from_future", "received_at lies in the future: see zone and clock")


def _names_the_customer(statement: Statement) -> bool:
    """Return whether the channel repeats the identifier, whatever signs stand in between."""
    identifier = _letters(statement.identifier)
    return len(identifier) >= _LEAST_TELLING and identifier in _letters(statement.channel)


def _letters(text: str) -> str:
    folded = text.casefold()
    return folded if folded.isalnum() else "".join(filter(str.isalnum, folded))


def verify_identifier(identifier: str) -> None:
    """Refuse an identifier that is nobody's; no sentence quotes it.

    Raises: DataError `data.subject_missing`, `opt_out.identifier_decimal`.
    """
    if not normalise(identifier):
        raise DataError("data.subject_missing", "a customer identifier is empty")
    if _DECIMAL.fullmatch(normalise(identifier)):
        raise DataError(
            "opt_out.identifier_decimal",
            "the identifier is a number with decimals or an exponent, as a spreadsheet writes it: "
            "it would match nobody; give it as the customer's row has it",
        )


def parse_ground(name: str) -> Ground:
    """Return the legal ground of this name. Raises: DataError `opt_out.ground_unknown`."""
    found: Ground
    for found in get_args(Ground):
        if name == found:
            return found
    raise DataError("opt_out.ground_unknown", f"ground: one of {', '.join(get_args(Ground))}")


def parse_time(text: str) -> datetime:
    """Return a time with its zone, in UTC. Raises: DataError `opt_out.time_invalid`."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise DataError(
        "opt_out.time_invalid", "received_at must be a time with its zone: 2026-03-02T09:00:00Z"
    )


def _mark(event: OptOutEvent) -> tuple[object, ...]:
    return (*event.subject, event.channel, event.act, event.received_at)
