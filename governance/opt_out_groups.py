"""Groups of units that act on each other's opt-outs: who is in one, and what each is handed."""

from collections.abc import Mapping

from fedcore.bulletins import BulletinRequest, epoch_of
from fedcore.errors import ConflictError, MismatchError, NotFoundError, RefusedError, RollbackError
from fedcore.group_opt_outs import (
    MAX_EVENTS,
    GroupOptOut,
    GroupPart,
    GroupSetAside,
    GroupSource,
    OptOutGroup,
)
from fedcore.permits import Enrolment
from fedcore.signing import Envelope
from governance.auth import open_from_node, verify_not_future, verify_speaks_for
from governance.bodies import GroupRequest
from governance.enrolments import open_enrolment
from governance.memberships import UNKNOWN
from governance.office import Desk
from registry import group_deliveries, opt_out_groups, units
from registry.accounts import Account


def declare(desk: Desk, name: str, asked: GroupRequest, account: Account) -> Envelope:
    """Make a group, or add units to it, and return its signed document; again it changes nothing.

    Guarantees: a group only grows, and keeps its key and rule; a unit is in one group at most; all
        identify customers in one namespace, without which their pseudonyms would never be the same.
    Raises: NotFoundError `unit.unknown`; ConflictError `group.key_differs`, `group.unit_taken`;
        MismatchError `group.other_namespace`.
    """
    digest = opt_out_groups.find(desk.session, name)
    before = desk.open_own(OptOutGroup, digest) if digest else None
    if before and (asked.key_check, asked.normaliser) != (before.key_check, before.normaliser):
        raise ConflictError("group.key_differs", "the group has another key or rule, for good")
    members = set(before.units if before else ()) | set(asked.units)
    if digest and before and members == set(before.units):
        return desk.fetch(OptOutGroup, digest)
    for unit in members:
        other = opt_out_groups.find_of_unit(desk.session, unit)
        if other not in (None, digest):
            raise ConflictError("group.unit_taken", f"{unit} is in another group")
    record = OptOutGroup(
        group=name,
        version=before.version + 1 if before else 1,
        units=tuple(sorted(members)),
        namespace=_namespace(desk, members),
        normaliser=asked.normaliser,
        key_check=asked.key_check,
        decided_by=account.name,
        decided_at=desk.now,
    )
    envelope = desk.issue(record)
    opt_out_groups.put(desk.session, name, record.digest, record.units)
    return envelope


def record_opt_out(desk: Desk, envelope: Envelope) -> None:
    """Store a group opt-out for all units of the group; the same again changes nothing.

    Guarantees: gapless per unit, also under concurrent writers.
    Raises: SignatureError; ExpiredError `request.from_future`; MismatchError `group.other_group`;
        ConflictError `opt_out.sequence_gap`, `opt_out.sequence_known`.
    """
    event, unit = open_from_node(desk, envelope, GroupOptOut)
    verify_speaks_for(unit, event.unit)
    verify_not_future(event.received_at, desk.now)
    digest = opt_out_groups.find_of_unit(desk.session, event.unit)
    if digest is None or desk.open_own(OptOutGroup, digest).group != event.group:
        raise MismatchError("group.other_group", "the unit is not in this group")
    known = opt_out_groups.find_digest(desk.session, event.unit, event.sequence)
    if known == event.digest:
        return
    if known is not None:
        raise ConflictError(
            "opt_out.sequence_known", "this sequence number belongs to another opt-out"
        )
    last = opt_out_groups.last_sequences(desk.session, [event.unit]).get(event.unit, 0)
    if event.sequence != last + 1:
        raise ConflictError("opt_out.sequence_gap", f"the next sequence number is {last + 1}")
    opt_out_groups.append(desk.session, event, envelope, desk.now)


def record_set_aside(desk: Desk, envelope: Envelope) -> None:
    """Store and log what a unit says of a group opt-out without the group's seal; once more it
    changes nothing. Whether it is true, only units of the group can tell, and each does.

    Raises: SignatureError; ExpiredError `request.from_future`; MismatchError `group.other_group`,
        `group.set_aside_other`.
    """
    said, unit = open_from_node(desk, envelope, GroupSetAside)
    verify_speaks_for(unit, said.by)
    verify_not_future(said.decided_at, desk.now)
    for named in (said.by, said.unit):
        digest = opt_out_groups.find_of_unit(desk.session, named)
        if digest is None or desk.open_own(OptOutGroup, digest).group != said.group:
            raise MismatchError("group.other_group", "the unit is not in this group")
    if opt_out_groups.find_digest(desk.session, said.unit, said.sequence) != said.event:
        raise MismatchError(
            "group.set_aside_other", "governance has no such group opt-out under this number"
        )
    if not opt_out_groups.has_set_aside(desk.session, said.by, said.unit, said.sequence):
        desk.file(said, envelope, said.unit)
        opt_out_groups.set_aside(desk.session, said)


def group_part(desk: Desk, request: BulletinRequest) -> GroupPart | None:
    """Return what a unit's bulletin says of its group, and None for a unit that is in none.

    Guarantees: a node that would not act on it gets no bulletin, and so reads nobody.
    Raises: RefusedError `group.not_joined`; RollbackError `bulletin.rollback`.
    """
    digest = opt_out_groups.find_of_unit(desk.session, request.unit)
    if digest is None and request.group_seen:
        raise RollbackError("bulletin.rollback", "governance knows no group of this unit")
    if digest is None:
        return None
    if request.group_seen is None:
        reason = (
            "This unit is in a group of opt-outs, on which its node does not act yet: give it the "
            "group's key with `fedpact node group join`, or upgrade it."
        )
        raise RefusedError([("group.not_joined", reason)])
    group = desk.open_own(OptOutGroup, digest)
    seen = {one.unit: one.sequence for one in request.group_seen}
    last = opt_out_groups.last_sequences(desk.session, group.units)
    if any(sequence > last.get(unit, 0) for unit, sequence in seen.items()):
        raise RollbackError("bulletin.rollback", "governance knows fewer opt-outs than the node")
    events: list[Envelope] = []
    for unit in sorted(last):
        room = MAX_EVENTS - len(events)
        events += opt_out_groups.list_after(desk.session, unit, seen.get(unit, 0), room)
    aside = _set_aside(desk, request.unit, {unit: seen.get(unit, 0) for unit in last})
    group_deliveries.note(desk.session, request.unit, last, desk.now, epoch_of(desk.now))
    return GroupPart(
        group=group.group,
        version=group.version,
        normaliser=group.normaliser,
        key_check=group.key_check,
        sources=_sources(desk, group, last),
        events=tuple(events),
        set_aside=aside or None,
    )


def _sources(desk: Desk, group: OptOutGroup, last: Mapping[str, int]) -> tuple[GroupSource, ...]:
    keys = opt_out_groups.node_keys(desk.session, group.units)
    return tuple(
        GroupSource(unit=unit, node_keys=keys[unit], last_sequence=last.get(unit, 0))
        for unit in group.units
    )


def _set_aside(desk: Desk, own: str, seen: Mapping[str, int]) -> tuple[Envelope, ...]:
    """Return what sets aside that which a node has not seen, and then any of its unit's own: it is
    to know of all that, and the others are not to wait for it.
    """
    found: list[Envelope] = []
    for unit in sorted(seen, key=lambda unit: (unit == own, unit)):
        after, room = 0 if unit == own else seen[unit], MAX_EVENTS - len(found)
        found += opt_out_groups.list_set_aside(desk.session, unit, after, room)
    return tuple(found)


def _namespace(desk: Desk, members: set[str]) -> str:
    found = units.list_named(desk.session, tuple(sorted(members)))
    if len(found) < len(members):
        raise NotFoundError(*UNKNOWN)
    namespaces = {
        open_enrolment(desk, desk.fetch(Enrolment, unit.enrolment)).subject_namespace
        for unit in found
    }
    if len(namespaces) > 1:
        raise MismatchError(
            "group.other_namespace", "these units identify customers in different namespaces"
        )
    return namespaces.pop()
