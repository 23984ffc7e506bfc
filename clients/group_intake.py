"""What is said at this unit for all units of its group: by customers, and of what has no seal."""

from datetime import datetime

from clients.durable import exclusive
from clients.groups import verify_rule
from clients.pseudonyms import Pseudonymiser
from clients.site import Site
from clients.statements import Statement
from fedcore.contracts import Contract
from fedcore.errors import ConflictError, DataError
from fedcore.group_opt_outs import (
    GroupGround,
    GroupOptOut,
    GroupPart,
    GroupSetAside,
    sealed,
    standing_of,
)
from fedcore.signing import sign_record

_GROUNDS: dict[str, GroupGround] = {
    "art21_2": "art21_2",
    "ccpa_120": "ccpa_120",
    "gpc": "gpc",
}
_UNSEALED = "00" * 32


def take_in_for_group(site: Site, statement: Statement, contract: Contract) -> int:
    """Take in an objection for all units of the group, or the customer's word that ends it; it acts
    here at once. Returns: its sequence number.

    Raises: DataError as `verify_statement`, `opt_out.ground_not_of_groups`; ConflictError
        `group.unknown`, and `opt_out.act_not_open` when there is nothing at this unit to take back;
        MismatchError `group.key_other`, `group.other_rule`.
    """
    site.verify_statement(statement, contract)
    if statement.ground not in _GROUNDS:
        raise DataError(
            "opt_out.ground_not_of_groups",
            f"for a whole group there are the grounds {', '.join(_GROUNDS)}: on another one each "
            "unit decides for itself",
        )
    with exclusive(site.state.lock):
        part = site.group_part()
        if part is None:
            raise ConflictError(
                "group.unknown",
                "governance has told this unit of no group: run `fedpact node sync`",
            )
        site.group.excluded(part, contract, statement.purpose)  # key, rule and store are sound
        event = _event(site, statement, contract, part)
        if event.act is not None and event.about not in standing_of(site.group.events(part)):
            raise ConflictError(
                "opt_out.act_not_open", "there is no such objection for the group at this unit"
            )
        site.group.add(event, sign_record(event, site.key, site.settings.realm))
    return event.sequence


def set_aside_unsealed(site: Site, unit: str) -> list[int]:
    """Say to the whole group that what this node found of a unit's without the group's seal is to
    be passed over; governance is told at once.

    Guarantees: it acts on nothing that has the seal, at any unit; nobody without the key says it.
    Returns: the numbers.
    Raises: ConflictError `group.nothing_unsealed`; MismatchError
        `group.set_aside_other` when governance has another one under a number than it showed here.
    """
    found = [event for event in site.group.unsealed() if event.unit == unit]
    if site.group.key is None or not found:
        raise ConflictError(
            "group.nothing_unsealed",
            f"no group opt-out of {unit} was found here without the group's seal",
        )
    for event in found:
        said = GroupSetAside(
            group=event.group,
            by=site.settings.unit,
            unit=unit,
            sequence=event.sequence,
            event=event.digest,
            decided_at=site.runtime.clock.now(),
            seal=_UNSEALED,
        )
        site.set_aside(sign_record(sealed(said, site.group.key), site.key, site.settings.realm))
    return [event.sequence for event in found]


def _event(site: Site, statement: Statement, contract: Contract, part: GroupPart) -> GroupOptOut:
    verify_rule(part, contract)
    key, now = site.group.key or b"", site.runtime.clock.now()
    received_at: datetime = statement.received_at or now
    event = GroupOptOut(
        group=part.group,
        unit=site.settings.unit,
        sequence=site.group.next_sequence(),
        pseudonym=Pseudonymiser(key, contract.subject).pseudonym(statement.identifier),
        purpose=statement.purpose,
        channel=statement.channel,
        ground=_GROUNDS[statement.ground],
        received_at=received_at,
        act="withdrawn" if statement.act == "withdrawn" else None,
        seal=_UNSEALED,
    )
    return sealed(event, key)
