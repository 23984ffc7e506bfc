"""What customers say, and what became of it, before it has a pseudonym and a number."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, get_args

from clients.pseudonyms import normalise
from fedcore.contracts import Contract
from fedcore.errors import DataError
from fedcore.optouts import EFFECTS, Act, Entry, Ground, Reason, Said

_GROUNDS: dict[str, Ground] = {ground: ground for ground in get_args(Ground)}
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,79}")
# What a spreadsheet makes of an identifier; the reader refuses such rows of the source as well.
_DECIMAL = re.compile(r"[+-]?\d+([.,]\d+)?[eE][+-]?\d+|[+-]?\d+[.,]\d+")

# A shorter identifier may be part of any word.
_LEAST_TELLING = 4


class Statement(NamedTuple):
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

    @property
    def said(self) -> Said:
        """What an event of it says."""
        return Said(self.purpose, self.channel, self.ground, self.act, self.reason)


class Seen:
    """Which events a unit's store holds, so that the same statement is not taken in twice.

    Two statements are the same when customer, purpose, channel, ground, act and time are.
    """

    def __init__(self) -> None:
        self._marks: dict[Said, set[bytes]] = {}
        self.sequence = 0

    def catch_up(self, entries: Iterable[Entry]) -> None:
        """Note the events that came in since."""
        for entry in entries:
            self.is_new(entry)
            self.sequence += 1

    def is_new(self, entry: Entry) -> bool:
        """Return whether this is none of those noted, and note it."""
        marks = self._marks.get(entry.said)
        if marks is None:
            # The reason of a rejection makes no other statement of it.
            marks = self._marks.setdefault(entry.said._replace(reason=None), set())
            self._marks[entry.said] = marks
        before = len(marks)
        marks.add(bytes.fromhex(entry.pseudonym) + entry.received_us.to_bytes(8, signed=True))
        return len(marks) > before


def verify_statement(statement: Statement, contract: Contract, now: datetime) -> None:
    """Refuse what must not become an event; no sentence quotes the identifier.

    Raises: DataError `opt_out.purpose_unknown`, `opt_out.channel_invalid`,
        `opt_out.reason_missing`, `opt_out.act_not_open`, and as `verify_customer`.
    """
    verify_said(statement.said, contract)
    verify_customer(statement, now)


def verify_customer(statement: Statement, now: datetime) -> None:
    """Refuse a statement of nobody, one that names its customer, or one of a time to come.

    Raises: DataError `opt_out.channel_personal`, `opt_out.from_future`, and as `verify_identifier`.
    """
    verify_identifier(statement.identifier)
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
    channel = _letters(statement.channel)
    if len(channel) < _LEAST_TELLING:
        return False
    identifier = _letters(statement.identifier)
    return len(identifier) >= _LEAST_TELLING and identifier in channel


def _letters(text: str) -> str:
    folded = text.casefold()
    return folded if folded.isalnum() else "".join(filter(str.isalnum, folded))


def verify_identifier(identifier: str) -> None:
    """Refuse an identifier that is nobody's; no sentence quotes it.

    Raises: DataError `data.subject_missing`, `opt_out.identifier_decimal`.
    """
    value = normalise(identifier)
    if not value:
        raise DataError("data.subject_missing", "a customer identifier is empty")
    if _DECIMAL.fullmatch(value):
        raise DataError(
            "opt_out.identifier_decimal",
            "the identifier is a number with decimals or an exponent, as a spreadsheet writes it: "
            "it would match nobody; give it as the customer's row has it",
        )


def verify_said(statement: Said, contract: Contract) -> None:
    """Refuse what no customer can say under a contract, and no unit decide.

    Raises: DataError `opt_out.purpose_unknown`, `opt_out.channel_invalid`,
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


def parse_ground(name: str) -> Ground:
    """Return the legal ground of this name. Raises: DataError `opt_out.ground_unknown`."""
    found = _GROUNDS.get(name)
    if found is None:
        raise DataError("opt_out.ground_unknown", f"ground: one of {', '.join(_GROUNDS)}")
    return found


def parse_time(text: str) -> datetime:
    """Return a time with its zone, in UTC. Raises: DataError `opt_out.time_invalid`."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:  # most are, and there may be a million
            return moment
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise DataError(
        "opt_out.time_invalid", "received_at must be a time with its zone: 2026-03-02T09:00:00Z"
    )
