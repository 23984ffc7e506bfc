"""Groups of units at governance: who is in one, and what is taken and handed out."""

import hashlib

import pytest

from fedcore.errors import (
    ConflictError,
    ForbiddenError,
    MismatchError,
    NotFoundError,
    RefusedError,
    RollbackError,
    SignatureError,
)
from fedcore.group_opt_outs import (
    GroupOptOut,
    GroupSeen,
    GroupSetAside,
    OptOutGroup,
    excluded_by_group,
    standing_of,
)
from fedcore.record import Realm
from fedcore.signing import open_envelope

CHECK = "ab" * 32


def declare(world, *units, name="retail", check=CHECK, role="compliance"):
    found = world.gateway(role).declare_group(name, units, "trim-upper/1", check)
    return open_envelope(found, OptOutGroup, found.signer, Realm.SIMULATION)


def event(world, unit, sequence, **changes):
    values = {
        "group": "retail",
        "unit": unit,
        "sequence": sequence,
        "pseudonym": hashlib.sha256(f"group {unit} {sequence}".encode()).hexdigest(),
        "purpose": "marketing",
        "channel": "web",
        "ground": "art21_2",
        "received_at": world.clock.now,
        "seal": "00" * 32,
    }
    return GroupOptOut(**{**values, **changes})


def hand_over(world, unit, sequence, signer=None, **changes):
    signed = world.sign(event(world, unit, sequence, **changes), signer or unit)
    world.gateway().submit_group_opt_out(signed)


def test_a_group_only_grows_and_keeps_its_key(world):
    first = declare(world, "south", "north")
    assert (first.version, first.units, first.namespace) == (1, ("north", "south"), "crm")
    assert declare(world, "north", "south") == first
    world.enrol("east")
    second = declare(world, "east", "north")
    assert (second.version, second.units) == (2, ("east", "north", "south"))
    assert declare(world, "north", "south") == second
    with pytest.raises(ConflictError, match=r"group\.key_differs"):
        declare(world, "north", "south", check="cd" * 32)


def test_a_unit_is_in_one_group_and_must_be_enrolled(world):
    declare(world, "north", "south")
    world.enrol("east")
    with pytest.raises(ConflictError, match=r"group\.unit_taken"):
        declare(world, "east", "south", name="other")
    with pytest.raises(NotFoundError, match=r"unit\.unknown"):
        declare(world, "east", "nowhere", name="other")
    with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
        declare(world, "north", "east", role="operator")
    assert world.newest_bulletin("east").group is None


def test_opt_outs_of_a_group_are_gapless_and_of_its_units_only(world):
    with pytest.raises(MismatchError, match=r"group\.other_group"):
        hand_over(world, "north", 1)
    declare(world, "north", "south")
    with pytest.raises(ConflictError, match=r"opt_out\.sequence_gap"):
        hand_over(world, "north", 2)
    hand_over(world, "north", 1)
    hand_over(world, "north", 1)
    with pytest.raises(ConflictError, match=r"opt_out\.sequence_known"):
        hand_over(world, "north", 1, purpose="churn-prediction")
    with pytest.raises(MismatchError, match=r"group\.other_group"):
        hand_over(world, "north", 2, group="other")
    with pytest.raises(SignatureError, match=r"unit\.other_unit"):
        hand_over(world, "south", 1, signer="north")
    hand_over(world, "south", 1)
    hand_over(world, "north", 2)


def test_each_unit_is_handed_what_it_lacks_of_all_and_nobody_else_anything(world):
    world.enrol("east")
    declare(world, "north", "south")
    for sequence in (1, 2):
        hand_over(world, "north", sequence)
    hand_over(world, "south", 1)
    with pytest.raises(RefusedError, match=r"group\.not_joined"):
        world.bulletin("south")
    assert world.newest_bulletin("east").group is None

    def handed(*seen):
        names = tuple(GroupSeen(unit=unit, sequence=sequence) for unit, sequence in seen)
        part = world.newest_bulletin("south", group_seen=names).group
        opened = [GroupOptOut.from_bytes(each.payload_bytes) for each in part.events]
        assert {s.unit: s.last_sequence for s in part.sources} == {"north": 2, "south": 1}
        return [(one.unit, one.sequence) for one in opened]

    assert handed() == [("north", 1), ("north", 2), ("south", 1)]
    assert handed(("north", 1), ("south", 1)) == [("north", 2)]
    with pytest.raises(RollbackError, match=r"bulletin\.rollback"):
        handed(("north", 3))
    held = (GroupSeen(unit="north", sequence=1),)
    with pytest.raises(RollbackError, match=r"bulletin\.rollback"):  # as a restored database would
        world.newest_bulletin("east", group_seen=held)
    with pytest.raises(RefusedError, match=r"bulletin\.node_outdated"):
        world.bulletin("south", group_seen=())


def test_what_units_set_aside_is_logged_and_handed_to_whom_it_concerns(world):
    world.enrol("east")
    declare(world, "north", "south")
    for sequence in (1, 2):
        hand_over(world, "north", sequence)

    def set_aside(by, sequence, signer=None, **changes):
        about = event(world, "north", sequence)
        values = {
            "group": "retail",
            "by": by,
            "unit": "north",
            "sequence": sequence,
            "event": about.digest,
            "decided_at": world.clock.now,
            "seal": "00" * 32,
        }
        said = GroupSetAside(**{**values, **changes})
        world.gateway().set_aside_group_opt_out(world.sign(said, signer or by))

    set_aside("south", 2)
    set_aside("south", 2)
    set_aside("north", 2)
    for changes in ({"group": "other"}, {"unit": "east"}):
        with pytest.raises(MismatchError, match=r"group\.other_group"):
            set_aside("south", 1, **changes)
    with pytest.raises(MismatchError, match=r"group\.other_group"):
        set_aside("east", 1)
    with pytest.raises(MismatchError, match=r"group\.set_aside_other"):
        set_aside("south", 1, event="sha256:" + "ab" * 32)
    with pytest.raises(MismatchError, match=r"group\.set_aside_other"):
        set_aside("south", 3)
    entries = world.get("/v1/log/entries", "auditor")["entries"]
    kinds = [item["entry"]["kind"] for item in entries]
    assert kinds.count("group-set-aside") == 2

    def handed(unit, *seen):
        names = tuple(GroupSeen(unit=unit, sequence=sequence) for unit, sequence in seen)
        part = world.newest_bulletin(unit, group_seen=names).group
        found = [GroupSetAside.from_bytes(each.payload_bytes) for each in part.set_aside or ()]
        return [(one.by, one.sequence) for one in found]

    both = [("north", 2), ("south", 2)]
    assert handed("south", ("north", 1)) == both
    assert handed("south", ("north", 2)) == []
    assert handed("north", ("north", 2)) == both


def test_a_purpose_that_the_contract_does_not_know_counts_as_all_purposes():
    """Another unit's contract may have another tree: whom it means must not be read on a guess."""
    standing = {("south", "a", "marketing", "gpc"), ("south", "b", "winback", "gpc")}
    known = ("marketing", "churn", "analytics")
    assert excluded_by_group(standing, ("churn", "marketing"), known) == {"a", "b"}
    assert excluded_by_group(standing, ("analytics",), known) == {"b"}
    assert excluded_by_group(standing, ("analytics",), (*known, "winback")) == set()


def test_what_one_unit_takes_back_leaves_what_another_was_told(world):
    said = [event(world, unit, 1, pseudonym="ab" * 32) for unit in ("north", "south")]
    back = event(world, "south", 2, pseudonym="ab" * 32, act="withdrawn")
    assert standing_of([*said, back]) == {said[0].about}
