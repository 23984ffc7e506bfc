"""Groups of units at governance: who is in one, and what is taken and handed out."""

import hashlib
from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

from fedcore import gateway_http
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
from governance.cli import app

pytestmark = pytest.mark.databases

CHECK = "ab" * 32
# Statements of a list: the transactions' own, the API key, hand-overs, the unit, and three.
MOST = 9


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


@pytest.fixture
def acting(world, monkeypatch):
    """North was told two, south's bulletin shows the first, and its round came after the second; a
    third was shown before the round was reported, and after it.
    """
    declare(world, "north", "south")
    newest = world.newest_bulletin
    monkeypatch.setattr(world, "bulletin", lambda unit: newest(unit, group_seen=()))
    permit = world.permit()
    hand_over(world, "north", 1)
    world.clock.tick(minutes=1)
    world.shown_at = world.bulletin("south").issued_at
    world.clock.tick(minutes=1)
    hand_over(world, "north", 2)
    world.before = world.gateway("dpo").list_group_opt_outs("north")
    world.clock.tick(minutes=1)
    receipts = [world.receipt(permit, unit, 1) for unit in ("north", "south")]
    world.clock.tick(minutes=1)
    hand_over(world, "north", 3)
    world.bulletin("south")
    world.submit(world.report(receipts, None), receipts)
    return world


def test_since_when_units_act_on_a_group_opt_out_is_shown_by_bulletins_and_receipts(acting):
    [first, second] = acting.before
    assert (first.sequence, first.purpose, first.ground) == (1, "marketing", "art21_2")
    [at] = first.acts_at
    assert (at.unit, at.since, at.first_round) == ("south", acting.shown_at, None)
    assert second.acts_at == ()
    [first, second, third] = acting.gateway("dpo").list_group_opt_outs("north")
    at = {one.unit: one for one in first.acts_at}["south"]
    assert (at.since, at.first_round.run_id, at.first_round.round) == (acting.shown_at, "run-1", 1)
    assert {one.unit: one.first_round.round for one in second.acts_at} == {"north": 1, "south": 1}
    assert all(one.since > acting.shown_at for one in second.acts_at)
    assert [(one.unit, one.first_round) for one in third.acts_at] == [("south", None)]


def test_the_command_says_what_acts_for_the_group(acting, monkeypatch, tmp_path):
    key = tmp_path / "dora.key"
    key.write_text(acting.api_keys["dpo"])
    key.chmod(0o600)
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(acting.client))
    line = ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
    said = CliRunner().invoke(app, ["opt-outs", "status", "north", *line]).output
    assert "north, for its group, 1: marketing, art21_2" in said
    assert f"south: by its bulletins since {acting.shown_at.isoformat()}, first in round 1" in said
    assert said.count("no round since") == 1


def test_a_unit_s_operator_sees_its_own_and_nobody_is_named(acting, counted):
    own = acting.gateway("unit_operator").list_group_opt_outs("north")
    assert [at.unit for status in own for at in status.acts_at] == ["north", "north"]
    with pytest.raises(NotFoundError, match=r"unit\.unknown"):
        acting.gateway("unit_operator").list_group_opt_outs("south")
    with counted() as few:
        answer = str(acting.get("/v1/group-opt-outs/north", "dpo"))
    assert event(acting, "north", 1).pseudonym not in answer
    for sequence in range(4, 7):
        hand_over(acting, "north", sequence)
        acting.bulletin("south")
    with counted() as many:
        acting.get("/v1/group-opt-outs/north", "dpo")
    assert len(few) == len(many) <= MOST


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
