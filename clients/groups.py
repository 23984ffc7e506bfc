"""A unit's part in a group: opt-outs given at one unit, which act at all that hold the group's key.

Guarantees: what another unit was told acts here once a bulletin shows it; each is signed by the
    unit that it was told at, sealed by somebody with the group's key, and none in between is
    missing; without the key, or without all that the newest bulletin shows, nobody is read. One
    without the seal is passed over when somebody with the key has set it aside, and not before.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from clients.durable import (
    closed_on_error,
    connect,
    damage_named,
    storage_named,
    transaction,
)
from clients.group_events import open_sealed
from clients.keyring import KeyRing
from clients.pseudonyms import Pseudonymiser, check_of, load_key
from clients.state import StateDir
from fedcore.bulletins import AnyBulletin, Bulletin
from fedcore.contracts import Contract, SubjectRule, purpose_line
from fedcore.errors import (
    FedError,
    InvalidRecordError,
    MismatchError,
    RollbackError,
    SignatureError,
    TrustError,
)
from fedcore.group_opt_outs import (
    GroupOptOut,
    GroupPart,
    GroupSeen,
    GroupSetAside,
    excluded_by_group,
    is_sealed,
    standing_of,
    verify_seal,
)
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record

# What was set aside has its GroupSetAside in its place among the events; what is unsealed and was
# not set aside is kept as evidence, and for who sets it aside.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS events (unit TEXT NOT NULL, sequence INTEGER NOT NULL, "
    "envelope BLOB NOT NULL, PRIMARY KEY (unit, sequence))",
    "CREATE TABLE IF NOT EXISTS unsealed (unit TEXT NOT NULL, sequence INTEGER NOT NULL, "
    "envelope BLOB NOT NULL, PRIMARY KEY (unit, sequence))",
)
_FORGOTTEN = "the bulletin forgets that the unit is in a group"


class GroupStore:
    """The group's key and its opt-outs, as this unit holds them.

    Attributes:
        key: the group's key; None for a unit that has joined none.
    """

    def __init__(
        self, state: StateDir, unit: str, node_keys: tuple[str, ...], realm: Realm
    ) -> None:
        """Open what there is; `node_keys` are those that the unit's node has and had.

        Raises: InvalidRecordError as `load_key`; TrustError `group.corrupt`.
        """
        self._unit, self._own_keys, self._realm = unit, node_keys, realm
        self.key = load_key(state.group_key) if state.group_key.exists() else None
        if self.key is not None:
            with _damage():
                self._connection = connect(state.group)
                with closed_on_error(self._connection):
                    for statement in _SCHEMA:
                        self._connection.execute(statement)

    def close(self) -> None:
        """Close the file."""
        if self.key is not None:
            self._connection.close()

    def seen(self, part: GroupPart | None) -> tuple[GroupSeen, ...] | None:
        """Return what a request says is held here; None for a unit that has joined no group.

        Args: `part` is that of the newest bulletin: what governance has of this unit's own.
        """
        if self.key is None:
            return None
        held = self._held()
        if self._unit in held:
            held[self._unit] = min(held[self._unit], _last(part, self._unit))
        return tuple(GroupSeen(unit=u, sequence=s) for u, s in sorted(held.items()) if s)

    def take(self, part: GroupPart | None, before: GroupPart | None) -> bool:
        """Store what a bulletin brings; `before` is the part of the one in force.

        Returns: whether this is all that it shows; if not, the next one brings more.
        Raises: RollbackError `bulletin.rollback`, `group.withheld`; MismatchError
            `group.key_other`, `group.other_group`, `opt_out.sequence_gap`; SignatureError;
            InvalidRecordError `group.key_lost`. Nothing changes in these cases. SignatureError
            `group.unsealed` that names the first that has to be set aside, once all that could be
            believed before it is stored.
        """
        _verify_follows(part, before)
        held = self._held()
        if part is None and held:
            # The bulletin in force may be lost, what it brought is not.
            raise RollbackError("group.withheld", _FORGOTTEN)
        if part is None:
            return True
        self._verify_key(part)
        for source in part.sources:
            if source.unit != self._unit and held.get(source.unit, 0) > source.last_sequence:
                raise RollbackError("bulletin.rollback", "the bulletin forgets group opt-outs")
        with _storage(), transaction(self._opened()):
            stopped = self._store_all(part)
        if stopped is not None:
            raise _unsealed(stopped)
        if self.holds(part):
            return True
        if self._held() == held:
            raise RollbackError("group.withheld", "the bulletin leaves out group opt-outs")
        return False

    def holds(self, part: GroupPart) -> bool:
        """Return whether all is here that a bulletin shows."""
        held = self._held()
        return all(held.get(source.unit, 0) >= source.last_sequence for source in part.sources)

    def excluded(self, part: GroupPart | None, contract: Contract, purpose: str) -> frozenset[str]:
        """Return the pseudonyms under the group's key that must not be read for a purpose.

        Raises: InvalidRecordError `group.key_lost`; MismatchError `group.key_other`,
            `group.other_rule`; RollbackError `group.withheld`; SignatureError.
        """
        if part is None:
            return frozenset()
        self._verify_key(part)
        if not self.holds(part):
            raise RollbackError(
                "group.withheld", "group opt-outs are missing here: run `fedpact node sync`"
            )
        verify_rule(part, contract)
        standing = standing_of(self.events(part))
        known = [known.id for known in contract.purposes]
        return excluded_by_group(standing, purpose_line(contract.purposes, purpose), known)

    def events(self, part: GroupPart) -> list[GroupOptOut]:
        """Return all group opt-outs that are here, of each unit in sequence, but those that were
        set aside. Raises: SignatureError.
        """
        return list(self._opened_of(part, "", 0))

    def pending(self, part: GroupPart | None, key: SigningKey) -> list[Envelope]:
        """Return this unit's own that governance has not confirmed, signed by this key."""
        if self.key is None or part is None:
            return []
        own = self._opened_of(part, self._unit, _last(part, self._unit))
        return [sign_record(event, key, self._realm) for event in own]

    def count_pending(self, part: GroupPart | None) -> int:
        """Return how many of this unit's own governance has not confirmed."""
        return max(self._held().get(self._unit, 0) - _last(part, self._unit), 0)

    def add(self, event: GroupOptOut, envelope: Envelope) -> None:
        """Store one of this unit's own; it acts here from now on, and is numbered as the next."""
        with _storage(), transaction(self._opened()):
            self._store(event, envelope)

    def next_sequence(self) -> int:
        """Return the number of this unit's next group opt-out."""
        return self._held().get(self._unit, 0) + 1

    def held(self) -> Mapping[str, int]:
        """Return up to which number each unit's are here; none for a unit in no group."""
        return self._held()

    def unsealed(self) -> list[GroupOptOut]:
        """Return what bulletins brought without the group's seal, and nobody has set aside yet."""
        query = "SELECT envelope FROM unsealed ORDER BY unit, sequence"
        with _damage():
            rows = self._opened().execute(query).fetchall() if self.key else []
            found = [Envelope.from_bytes(bytes(row[0])) for row in rows]
        return [GroupOptOut.from_bytes(envelope.payload_bytes) for envelope in found]

    def own_set_aside(self, part: GroupPart | None) -> list[GroupSetAside]:
        """Return what others of the group said of this unit's own without the seal."""
        if part is None:
            return []
        found = [self._open_set_aside(kept, part) for kept in self._set_aside(part).values()]
        return [said for said in found if said.unit == self._unit]

    def _store_all(self, part: GroupPart) -> GroupOptOut | None:
        """Store what can be believed, of each unit up to the first that cannot; return that one."""
        aside = self._set_aside(part)
        stopped: dict[str, GroupOptOut] = {}
        for envelope in part.events:
            event = self._open(envelope, part)
            kept = envelope if is_sealed(event, self._require_key()) else aside.get(_about(event))
            if kept is None:
                stopped.setdefault(event.unit, event)
                self._note(event, envelope)
            elif event.unit not in stopped:
                self._store(event, kept)
        held = self._held()
        for event in self.unsealed():
            if held.get(event.unit, 0) >= event.sequence:
                place = (event.unit, event.sequence)
                query = "DELETE FROM unsealed WHERE unit = ? AND sequence = ?"
                self._opened().execute(query, place)
        return next(iter(stopped.values()), None)

    def _note(self, event: GroupOptOut, envelope: Envelope) -> None:
        row = (event.unit, event.sequence, envelope.to_bytes())
        self._opened().execute("INSERT OR REPLACE INTO unsealed VALUES (?, ?, ?)", row)

    def _set_aside(self, part: GroupPart) -> dict[tuple[str, int, str], Envelope]:
        """Return what sets each group opt-out aside; what is not to be believed sets none aside."""
        found: dict[tuple[str, int, str], Envelope] = {}
        for envelope in part.set_aside or ():
            try:
                said = self._open_set_aside(envelope, part)
            except FedError:
                continue  # else a unit without the key could stop the others after all
            found.setdefault(said.about, envelope)
        return found

    def _store(self, event: GroupOptOut, envelope: Envelope) -> None:
        expected = self._held().get(event.unit, 0) + 1
        query = "SELECT envelope FROM events WHERE unit = ? AND sequence = ?"
        known = self._opened().execute(query, (event.unit, event.sequence)).fetchone()
        if known and Envelope.from_bytes(bytes(known[0])).digest == envelope.digest:
            return
        if event.sequence != expected:
            raise MismatchError("opt_out.sequence_gap", "these group opt-outs are not the next")
        row = (event.unit, event.sequence, envelope.to_bytes())
        self._opened().execute("INSERT INTO events VALUES (?, ?, ?)", row)

    def _opened_of(self, part: GroupPart, unit: str, after: int) -> Iterator[GroupOptOut]:
        known = set[tuple[str, str, str]]()
        for place, data in self._placed(unit, after):
            with _damage():
                signer, said = open_sealed(data, self._require_key(), self._realm)
            by = said.by if isinstance(said, GroupSetAside) else said.unit
            if (by, said.group, signer) not in known:
                self._verify_said_by(by, said.group, signer, part)
                known.add((by, said.group, signer))
            _verify_place(place, said.unit, said.sequence)
            if isinstance(said, GroupOptOut):
                yield said

    def _open(self, envelope: Envelope, part: GroupPart) -> GroupOptOut:
        """Return a group opt-out that its unit signed; nobody has looked at its seal yet."""
        event = open_envelope(envelope, GroupOptOut, envelope.signer, self._realm)
        self._verify_said_by(event.unit, event.group, envelope.signer, part)
        return event

    def _open_set_aside(self, envelope: Envelope, part: GroupPart) -> GroupSetAside:
        said = open_envelope(envelope, GroupSetAside, envelope.signer, self._realm)
        self._verify_said_by(said.by, said.group, envelope.signer, part)
        verify_seal(said, self._require_key())
        return said

    def _verify_said_by(self, unit: str, group: str, signer: str, part: GroupPart) -> None:
        # The signer says whose it is, and is held against that unit's keys.
        units = {source.unit for source in part.sources if signer in source.node_keys}
        units |= {self._unit} if signer in self._own_keys else set()
        if not units:
            raise SignatureError("unit.key_unknown", "no unit of the group signs with this key")
        if {unit} != units or group != part.group:
            raise MismatchError("group.other_group", "the opt-out is of another group or unit")

    def _verify_key(self, part: GroupPart) -> None:
        if check_of(self._require_key()) != part.key_check:
            raise MismatchError(
                "group.key_other",
                f"group.key is not the key of {part.group}: join with the group's own",
            )

    def _require_key(self) -> bytes:
        if self.key is None:
            raise InvalidRecordError(
                "group.key_lost", "the unit is in a group, and group.key is missing: restore it"
            )
        return self.key

    def _opened(self) -> Any:
        self._require_key()
        return self._connection

    def _held(self) -> dict[str, int]:
        """Return up to which number each unit's are here, without a gap."""
        query = "SELECT unit, MAX(sequence), COUNT(*) FROM events GROUP BY unit"
        with _damage():
            rows = self._opened().execute(query).fetchall() if self.key else []
        if any(last != count for _, last, count in rows):
            raise TrustError("group.corrupt", "the store of group opt-outs lacks some")
        return {unit: last for unit, last, _ in rows}

    def _placed(self, unit: str, after: int) -> list[tuple[tuple[str, int], bytes]]:
        query = (
            "SELECT unit, sequence, envelope FROM events WHERE (unit = ? OR ? = '') "
            "AND sequence > ? ORDER BY unit, sequence"
        )
        with _damage():
            rows = self._opened().execute(query, (unit, unit, after)).fetchall()
            return [((row[0], row[1]), bytes(row[2])) for row in rows]


def part_of(bulletin: AnyBulletin | None) -> GroupPart | None:
    """Return what a bulletin says of the unit's group; None where there is none."""
    return bulletin.group if isinstance(bulletin, Bulletin) else None


def verify_rule(part: GroupPart, contract: Contract) -> None:
    """Refuse a contract under which the group's pseudonyms would match nobody.

    Raises: MismatchError `group.other_rule`.
    """
    if contract.subject.normaliser != part.normaliser:
        raise MismatchError(
            "group.other_rule", "the contract normalises identifiers by another rule than the group"
        )


def reading_with(
    ring: KeyRing, store: GroupStore, part: GroupPart | None, rule: SubjectRule
) -> Pseudonymiser:
    """Return a pseudonymiser that knows the group's key besides the unit's own."""
    shared = (store.key,) if part is not None and store.key is not None else ()
    return ring.pseudonymiser(rule, shared)


def _verify_follows(part: GroupPart | None, before: GroupPart | None) -> None:
    """Refuse what goes back on the part of the bulletin in force."""
    if before is None:
        return
    if part is None:
        raise RollbackError("group.withheld", _FORGOTTEN)
    if (part.group, part.key_check, part.normaliser) != (
        before.group,
        before.key_check,
        before.normaliser,
    ):
        raise MismatchError("group.other_group", "the bulletin is of another group than before")
    units = {source.unit for source in part.sources}
    if any(s.unit not in units or _last(part, s.unit) < s.last_sequence for s in before.sources):
        raise RollbackError("bulletin.rollback", "the bulletin forgets units or opt-outs")


def _about(event: GroupOptOut) -> tuple[str, int, str]:
    return event.unit, event.sequence, event.digest


def _verify_place(place: tuple[str, int], unit: str, sequence: int) -> None:
    """Refuse what stands in another one's place: it would hide that one."""
    if place != (unit, sequence):
        raise TrustError("group.corrupt", "the store of group opt-outs holds one twice")


def _unsealed(event: GroupOptOut) -> SignatureError:
    return SignatureError(
        "group.unsealed",
        f"group opt-out {event.sequence} of {event.unit} was not made with the group's key: ask "
        f"{event.unit} to give it again, then set this one aside at any unit of the group with "
        f"`fedpact node group set-aside {event.unit}`",
    )


def _last(part: GroupPart | None, unit: str) -> int:
    """Return the number of a unit's newest group opt-out that a bulletin shows."""
    sources = part.sources if part else ()
    return sum(source.last_sequence for source in sources if source.unit == unit)


def _damage() -> AbstractContextManager[None]:
    return damage_named("group.corrupt", "the store of group opt-outs")


def _storage() -> AbstractContextManager[None]:
    return storage_named("group.corrupt", "the store of group opt-outs")
