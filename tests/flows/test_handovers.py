"""Governance gets another key in mid-run: nodes and server follow it, and nobody else's."""

from datetime import timedelta

import httpx
import pytest

from fedcore import wire
from fedcore.errors import MismatchError, RollbackError, TrustError
from fedcore.handovers import sign_handover
from fedcore.permits import PermitRenewal
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedcore.verify import verify_bundle
from fedcore.version import VERSION
from governance.app import create_app
from governance.handovers import rotate_key
from governance.settings import GovernanceSettings
from simulations.transport import AsgiTransport

SIMULATION = Realm.SIMULATION
LATER = timedelta(hours=1)


class Switched(httpx.BaseTransport):
    """The line to governance, whichever service is at its end now."""

    def __init__(self, end):
        self.end = end

    def handle_request(self, request):
        return self.end.handle_request(request)

    def close(self):
        self.end.close()


@pytest.fixture
def switched(build):
    """Builds worlds whose governance may be started again."""

    def make(plan):
        world = build(plan)
        fed = world.federation
        fed._transport = Switched(fed._transport)
        for office in fed.offices.values():
            office._client._transport = fed._transport
        return world

    return make


@pytest.fixture
def server(switched, worlds):
    """A server that sends what it is told to, in a world of two units and three rounds."""
    return worlds.Server(switched(worlds.make_plan(("north", "south"), rounds=3)))


@pytest.fixture
def rotate():
    """Replaces governance's key and starts the service again; returns the new public key."""

    def act(world):
        fed = world.federation
        home = fed.root / "governance"
        settings = GovernanceSettings(
            database_url=f"sqlite:///{home / 'governance.db'}",
            signing_key=home / "governance.pem",
            realm=SIMULATION,
            accepted_versions=(VERSION,),
        )
        done = rotate_key(settings, "regular", world.clock.now)
        fed._transport.end.close()
        fed._transport.end = AsgiTransport(create_app(settings, world.clock.now))
        return done.new_key

    return act


def verified(world, key):
    report = verify_bundle(world.bundle(), key, SIMULATION)
    return [check.name for check in report.checks if not check.ok]


def known_keys(world, unit):
    with world.unit(unit).node() as node:
        return [held.key for held in node.governance_keys(node.settings.governance_key).held]


def test_a_run_goes_on_over_a_hand_over_under_the_very_permit(switched, worlds, rotate):
    world = switched(worlds.make_plan(rounds=3))
    old, new = world.federation.governance_key.public, []

    def hand_over(report):
        if report.round == 1:
            world.federation.tick(minutes=1)
            new.append(rotate(world))

    world.run(watch=hand_over)
    assert [(r.round, r.attempt, r.status) for r in world.reports] == [
        (1, 1, "accepted"),
        (2, 1, "accepted"),
        (3, 1, "accepted"),
    ]
    for unit in ("north", "south", "west"):
        assert known_keys(world, unit) == [old, *new]
    assert verified(world, old) == []
    assert verified(world, new[0]) == []
    with world.unit("north").node() as node:
        reserved = [entry for entry in node.ledger.entries() if entry.kind == "reserve"]
    assert len(reserved) == 1


def test_a_run_begun_under_the_old_key_is_resumed_under_the_new_one(switched, pair, rotate):
    world = switched(pair)

    def crash(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.run(watch=crash)
    world.federation.tick(minutes=1)
    new = rotate(world)
    world.run()
    assert [report.round for report in world.reports] == [1, 2]
    assert verified(world, new) == []
    world.federation.tick(minutes=1)
    newest = rotate(world)
    world.run("run-2")
    assert verified(world, newest) == []


def test_a_unit_whose_settings_name_the_new_key_believes_what_the_old_one_had_signed(
    switched, pair, rotate
):
    world = switched(pair)
    world.federation.tick(minutes=1)
    old, new = world.federation.governance_key.public, rotate(world)
    unit = world.unit("north")
    unit.settings.write_text(unit.settings.read_text().replace(old, new))
    for path in (unit.state_dir / "contracts").iterdir():
        path.unlink()
    world.run()
    assert [report.status for report in world.reports] == ["accepted"] * 2
    assert world.reports[0].unavailable == ()


# What a thief of the old key, or a lying governance, can do


@pytest.fixture
def robbed(server, rotate):
    """A server whose governance has changed its key, and the old one, which a thief has."""
    thief = server.federation.governance_key
    assert server.call_roll("north") == "present"
    server.federation.tick(minutes=20)
    rotate(server.world)
    with server.world.unit("north").node() as node:
        node.synchronise()
    return thief


def renewed(server, key, minutes=0):
    now = server.world.clock.now() - timedelta(minutes=minutes)
    record = PermitRenewal(
        run_id=server.run_id,
        realm=SIMULATION,
        permit=server.permit.digest,
        sequence=1,
        issued_at=now,
        expires_at=now + LATER,
    )
    return sign_record(record, key, SIMULATION)


def test_a_permit_of_the_old_key_counts_only_with_a_renewal_by_the_new_one(server, robbed):
    assert server.call_roll("north") == "permit.key_retired"
    for renewal in (renewed(server, robbed), renewed(server, robbed, minutes=30)):
        assert server.call_roll("north", renewal=renewal) != "present"
        request = server.request(server.order("north"), renewal=renewal)
        assert isinstance(server.train("north", request), str)
    true = server.federation.offices["operator"].renew_permit(server.run_id)
    assert server.call_roll("north", renewal=true) == "present"
    assert isinstance(
        server.train("north", server.request(server.order("north"), renewal=true)), wire.TrainReply
    )


def test_a_permit_forged_with_the_old_key_and_dated_back_is_refused(server, robbed):
    true = server.federation.offices["operator"].renew_permit(server.run_id)
    forged = server.permit.model_copy(update={"expires_at": server.permit.expires_at + LATER})
    signed = sign_record(forged, robbed, SIMULATION)
    for renewal in (None, true):
        assert server.call_roll("north", permit=signed, renewal=renewal) != "present"
    assert server.call_roll("north", renewal=true) == "present"


def test_bulletins_of_the_old_key_are_refused_from_the_hand_over_on(server, robbed, monkeypatch):
    with server.world.unit("north").node() as node:
        gateway = node._gateway
        real = gateway.sync_bulletin

        def forged(request):
            from fedcore.bulletins import Bulletin

            return sign_record(Bulletin.from_bytes(real(request).payload_bytes), robbed, SIMULATION)

        monkeypatch.setattr(gateway, "sync_bulletin", forged)
        with pytest.raises(TrustError) as error:
            node.synchronise()
        assert error.value.code == "signature.key_retired"
        monkeypatch.undo()
        node.synchronise()


def test_a_node_never_goes_back_to_a_key_and_follows_no_second_successor(server, robbed):
    thiefs = SigningKey.generate()
    other = sign_handover(robbed, thiefs, SIMULATION, "mine now", server.world.clock.now())
    with server.world.unit("north").node() as node:
        with pytest.raises(RollbackError, match=r"handover\.rollback"):
            node._keys.learn(())
        with pytest.raises(MismatchError, match=r"handover\.forked"):
            node._keys.learn((other,))
        held = [item.key for item in node.governance_keys(robbed.public).held]
        assert held[0] == robbed.public
        assert thiefs.public not in held


def test_a_stranger_as_signer_leads_to_one_question_and_a_refusal(server):
    stranger = sign_record(server.permit, SigningKey.generate(), SIMULATION)
    assert server.call_roll("north", permit=stranger) == "signature.wrong_key"
    server.federation.cut_off = True
    assert server.call_roll("north", permit=stranger) == "signature.wrong_key"


def test_a_damaged_memory_of_keys_is_refused_and_named(server, robbed):
    path = server.world.unit("north").state_dir / "handovers.json"
    kept = path.read_bytes()
    true = server.federation.offices["operator"].renew_permit(server.run_id)
    for damage in (b"", b"{}", b"[1]", kept[:-2]):
        path.write_bytes(damage)
        with server.world.unit("north").node() as node, pytest.raises(TrustError) as error:
            node.synchronise()
        assert error.value.code == "handover.corrupt"
        assert server.call_roll("north", renewal=true) == "node.unavailable"
    path.write_bytes(kept)
    assert server.call_roll("north", renewal=true) == "present"
