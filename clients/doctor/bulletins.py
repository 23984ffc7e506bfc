"""How fresh are the unit's opt-outs, as governance has confirmed them?"""

from collections.abc import Iterator
from contextlib import closing

from clients.bulletin import BulletinStore
from clients.doctor.findings import Circumstances, Finding, ok, passing, refused, warning
from clients.groups import GroupStore, part_of
from fedcore.errors import ExpiredError, FedError
from fedcore.group_opt_outs import GroupPart

_SYNC = "fedpact node sync; the node does it by itself while governance is reachable"


def check_bulletin(found: Circumstances) -> Iterator[Finding]:
    """Verify the opt-out store, and look at the age of its bulletin."""
    if not found.has_state:
        return
    try:
        with closing(_opened(found)) as store:
            pending, part = store.count_pending(), part_of(store.latest())
            yield from _freshness(found, store)
        with closing(_group(found)) as group:
            pending += group.count_pending(part)
            yield from _of_group(group, part)
    except FedError as error:
        yield refused(error)
        return
    if pending:
        yield warning(f"{pending} opt-outs act here, but governance has not heard of them", _SYNC)


def _of_group(group: GroupStore, part: GroupPart | None) -> Iterator[Finding]:
    for event in group.unsealed():
        yield passing(
            "group.unsealed",
            f"group opt-out {event.sequence} of {event.unit} was not made with the group's key: no "
            "bulletin that shows it is taken over",
            f"ask {event.unit} to give it again, then fedpact node group set-aside {event.unit}",
        )
    for said in group.own_set_aside(part):
        yield warning(
            f"group opt-out {said.sequence} of this unit acts at no other: {said.by} found it "
            "without the group's seal",
            "fedpact node group opt-out, once more; ask them which digest they were shown",
        )


def _freshness(found: Circumstances, store: BulletinStore) -> Iterator[Finding]:
    if store.latest() is None:
        yield warning("no bulletin was pulled yet", _SYNC)
        return
    try:
        bulletin = store.verify_fresh(found.clock)
        until = f"{bulletin.valid_until:%Y-%m-%d %H:%M:%S} UTC"
        yield ok(f"opt-outs are confirmed, the bulletin is valid until {until}")
    except ExpiredError as error:
        if error.code == "bulletin.stale":
            yield warning("the bulletin is stale: the node refuses orders until a new one", _SYNC)
        else:
            yield passing(error.code, error.public, "set this machine's clock")


def _opened(found: Circumstances) -> BulletinStore:
    settings = found.settings
    key, former = found.state.node_key().public, found.state.former_keys()
    return BulletinStore(found.state.bulletin, settings.unit, key, settings.realm, former)


def _group(found: Circumstances) -> GroupStore:
    settings = found.settings
    keys = (found.state.node_key().public, *found.state.former_keys())
    return GroupStore(found.state, settings.unit, keys, settings.realm)
