"""Group opt-outs without the group's seal, and how the group's units go on."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from clients import runtime
from clients.cli import app
from clients.doctor.bulletins import check_bulletin
from clients.doctor.findings import Circumstances
from clients.group_events import open_sealed
from clients.group_intake import set_aside_unsealed
from clients.settings import NodeSettings
from clients.state import StateDir
from clients.status import load_bulletin
from fedcore.errors import FedError
from fedcore.group_opt_outs import GroupOptOut, GroupSetAside, sealed
from fedcore.record import Realm
from fedcore.signing import sign_record

EVERYBODY = {f"C{number}" for number in range(1, 9)}


def code_of(act):
    with pytest.raises(FedError) as error:
        act()
    return error.value.code


def unsealed(pair, unit, number, key=bytes(32), **changes):
    """A group opt-out of a unit's node, sealed with any other key, handed over to governance."""
    with pair.site(unit) as site:
        event = GroupOptOut(
            **{
                "group": "retail",
                "unit": unit,
                "sequence": number,
                "pseudonym": "ab" * 32,
                "purpose": "marketing",
                "channel": "web",
                "ground": "art21_2",
                "received_at": pair.world.clock.now(),
                "seal": "00" * 32,
                **changes,
            }
        )
        signed = sign_record(sealed(event, key), site.key, Realm.SIMULATION)
        pair.world.surroundings.gateway(site.settings).submit_group_opt_out(signed)


def told(pair, unit):
    """What doctor and status say of the group."""
    settings, clock = NodeSettings.load(pair.world.units[unit].settings), pair.world.clock
    view = load_bulletin(settings, clock)
    found = [f for f in check_bulletin(Circumstances(settings, clock)) if "group" in f.sentence]
    assert view is not None
    return view.unsealed, [(f.outcome, f.sentence.partition(":")[0]) for f in found]


@pytest.fixture
def stopped(pair):
    """North is faulty: its second and third group opt-out have no seal, and stop south."""
    pair.say("south", "C8")
    pair.say("north", "C1")
    pair.sync("north")
    for number in (2, 3):
        unsealed(pair, "north", number)
    with pytest.raises(FedError, match=r"opt-out 2 of north .* set-aside north") as error:
        pair.sync("south")
    assert error.value.code == "group.unsealed"
    return pair


def test_a_unit_that_seals_wrongly_stops_the_others_who_know_why_and_go_on_by_themselves(stopped):
    """What is right acts all the while: before and behind what is wrong, and of other units."""
    assert stopped.read("south") == EVERYBODY - {"C1", "C8"}
    said = [f"group opt-out {n} of north was not made with the group's key" for n in (2, 3)]
    assert told(stopped, "south") == (("north",), [("failure", each) for each in said])
    stopped.world.clock.tick(timedelta(seconds=600))
    with stopped.site("south") as site:
        assert code_of(site.bulletin_in_force) == "group.unsealed"
        assert set_aside_unsealed(site, "north") == [2, 3]
        assert set_aside_unsealed(site, "north") == [2, 3]  # repeating it changes nothing
        site.bulletin_in_force()
        assert code_of(lambda: set_aside_unsealed(site, "north")) == "group.nothing_unsealed"
    assert stopped.read("south") == EVERYBODY - {"C1", "C8"}
    assert told(stopped, "south") == ((), [])


def test_the_unit_that_sealed_wrongly_is_told_and_gives_it_again(stopped):
    with stopped.site("south") as site:
        set_aside_unsealed(site, "north")
    stopped.sync("north")
    said = "group opt-out {} of this unit acts at no other"
    assert told(stopped, "north") == ((), [("warning", said.format(n)) for n in (2, 3)])
    assert stopped.say("north", "C4") == 4
    stopped.sync("north")
    stopped.sync("south")
    assert stopped.read("south") == EVERYBODY - {"C1", "C4", "C8"}


def test_the_operator_sees_what_has_no_seal_and_sets_it_aside_once_asked(stopped):
    def call(*words, answer=""):
        settings = ["--settings", str(stopped.world.units["south"].settings)]
        with runtime.SEAM.bound(stopped.world.surroundings):
            done = CliRunner().invoke(app, ["group", words[0], *settings, *words[1:]], answer)
        return done.exit_code, done.output

    assert "north: 2 without the seal (sha256:" in call("show")[1]
    assert "south: up to 1, the newest 1 (sha256:" in call("show")[1]
    code, output = call("set-aside", "north", answer="n\n")
    assert (code, "north: 3 without the seal" in output) == (1, True)
    assert "without" in call("show")[1]
    code, output = call("set-aside", "north", answer="y\n")
    assert (code, "2 group opt-outs of north are set aside" in output) == (0, True)
    assert "north: up to 3" in call("show")[1]
    assert "without" not in call("show")[1]


def test_nothing_with_the_seal_is_ever_set_aside_and_nobody_without_the_key_sets_aside(pair):
    pair.say("north", "C1")
    pair.sync("north")
    unsealed(pair, "north", 2)
    pair.say("south", "C2")
    with pair.site("south") as site, pair.site("north") as north:
        [event] = north.group.events(north.group_part())
        gateway = pair.world.surroundings.gateway(site.settings)

        def said(key, by=site, **changes):
            made = GroupSetAside(
                group="retail",
                by=by.settings.unit,
                unit="north",
                sequence=changes.get("sequence", 1),
                event=changes.get("event", event.digest),
                decided_at=pair.world.clock.now(),
                seal="00" * 32,
            )
            signed = sign_record(sealed(made, key), by.key, Realm.SIMULATION)
            gateway.set_aside_group_opt_out(signed)

        said(site.group.key)
        assert code_of(site.synchronise) == "group.unsealed"
        [second] = site.group.unsealed()
        said(bytes(32), north, sequence=2, event=second.digest)
        assert code_of(site.synchronise) == "group.unsealed"
        other = "sha256:" + "cd" * 32
        assert code_of(lambda: said(site.group.key, sequence=2, event=other)) == (
            "group.set_aside_other"
        )
        said(site.group.key, sequence=2, event=second.digest)
        site.synchronise()
    assert pair.read("south") == EVERYBODY - {"C1", "C2"}


def test_what_was_set_aside_hides_nothing_else_in_the_store(pair):
    unsealed(pair, "north", 1)
    assert code_of(lambda: pair.sync("south")) == "group.unsealed"
    with pair.site("south") as site:
        set_aside_unsealed(site, "north")
        site.synchronise()
    pair.sync("north")
    pair.say("north", "C1")
    pair.sync("north")
    pair.sync("south")
    assert pair.read("south") == EVERYBODY - {"C1"}
    state = StateDir(pair.world.units["south"].state_dir)
    with closing(sqlite3.connect(state.group, isolation_level=None)) as file:
        file.execute(
            "UPDATE events SET envelope = (SELECT envelope FROM events WHERE sequence = 1) "
            "WHERE sequence = 2"
        )
    assert code_of(lambda: pair.read("south")) == "group.corrupt"


def test_what_was_verified_once_is_verified_again_when_anything_of_it_is_another(pair):
    """The signature's last byte, who may sign, and the key."""
    pair.say("north", "C1")
    with pair.site("north") as site:
        part = site.group_part()
        assert len(site.group.events(part)) == 1
        before = open_sealed.cache_info().misses
        assert len(site.group.events(part)) == 1
        assert open_sealed.cache_info().misses == before  # nothing is verified twice
        sources = tuple(s.model_copy(update={"node_keys": ()}) for s in part.sources)
        site.group._own_keys = ()
        strangers = part.model_copy(update={"sources": sources})
        assert code_of(lambda: site.group.events(strangers)) == "unit.key_unknown"
        site.group.key, own = bytes(32), site.group.key
        assert code_of(lambda: site.group.events(part)) == "group.unsealed"
        site.group.key = own
        [(data,)] = site.group._connection.execute("SELECT envelope FROM events").fetchall()
        said = json.loads(data)
        sig = said["signatures"][0]["sig"]
        said["signatures"][0]["sig"] = ("B" if sig[0] == "A" else "A") + sig[1:]
        site.group._connection.execute(
            "UPDATE events SET envelope = ?", (json.dumps(said, separators=(",", ":")).encode(),)
        )
        assert code_of(lambda: site.group.events(part)) == "signature.invalid"
