"""A run that lasts longer than its permit; and renewals that renew nothing."""

from datetime import timedelta

import httpx
import pytest

from fedcore.bundle import read_bundle
from fedcore.errors import FedError, RefusedError, UnreachableError
from fedcore.permits import PermitRenewal
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedcore.verify import verify_bundle
from fedserver.engine.outcome import load_outcome, run_folder

SIMULATION = Realm.SIMULATION
HOURS_OF_A_PERMIT = 24


class _CrashError(Exception):
    """The server process ends."""


def renewals_of(world):
    evidence = read_bundle(world.bundle())
    return [PermitRenewal.from_bytes(item.payload_bytes) for item in evidence.renewals]


def slowly(world, hours):
    """Let hours pass after each round."""
    return lambda report: world.federation.tick(hours=hours)


def believed(world):
    report = verify_bundle(world.bundle(), world.federation.governance_key.public, SIMULATION)
    return [check.name for check in report.checks if not check.ok] == []


def test_a_run_outlives_its_permit_and_its_evidence_verifies(build, worlds):
    world = build(worlds.make_plan(rounds=4))
    began = world.clock.now()
    world.run(watch=slowly(world, 15))
    assert [report.status for report in world.reports] == ["accepted"] * 4
    assert world.reports[-1].ended_at - began > timedelta(hours=HOURS_OF_A_PERMIT)
    assert [renewal.sequence for renewal in renewals_of(world)] == [1, 2, 3]
    assert believed(world)
    with world.unit("north").node() as node:
        reserved = [entry for entry in node.ledger.entries() if entry.kind == "reserve"]
    assert len(reserved) == 1


def test_a_short_run_asks_for_no_renewal(build, pair):
    world = build(pair)
    world.run()
    assert renewals_of(world) == []
    assert "renewals/000001.json" not in str(world.bundle())


def test_a_run_is_resumed_after_its_permit_has_expired(build, pair):
    world = build(pair)

    def crash(report):
        raise _CrashError

    with pytest.raises(_CrashError):
        world.run(watch=crash)
    world.federation.tick(hours=100)
    world.run()
    assert [report.round for report in world.reports] == [1, 2]
    assert [renewal.sequence for renewal in renewals_of(world)] == [1]
    assert believed(world)


def test_the_log_is_cosigned_even_when_the_permit_of_a_finished_run_has_expired(build, pair):
    world = build(pair)
    world.run(watch=lambda report: world.federation.tick(hours=23 if report.round == 2 else 0))
    world.federation.tick(hours=23)
    world.run()
    assert believed(world)


class _Line(httpx.BaseTransport):
    """The server's line to governance, cut for some paths."""

    def __init__(self, line):
        self.line, self.cut, self.asked = line, set(), []

    def handle_request(self, request):
        self.asked.append(request.url.path)
        if any(word in request.url.path for word in self.cut):
            raise httpx.ConnectError("cut", request=request)
        return self.line.handle_request(request)


@pytest.fixture
def lined(build, worlds):
    """A world whose server reaches governance over a line that can be cut."""
    world = build(worlds.make_plan(rounds=3))
    world.line = _Line(world.federation._transport)
    gateway = world.federation.gateway

    def over_line(api_key):
        made = gateway(api_key)
        made._client = httpx.Client(transport=world.line, base_url="http://governance")
        return made

    world.federation.gateway = over_line
    return world


def test_without_an_answer_to_its_renewals_a_run_goes_on_while_the_permit_lasts(lined):
    lined.line.cut = {"/renewal"}
    with pytest.raises(UnreachableError) as error:
        lined.run(watch=slowly(lined, 13))
    assert error.value.code == "governance.unreachable"
    assert [report.round for report in lined.reports] == [1, 2]
    lined.line.cut = set()
    lined.run()
    assert [report.round for report in lined.reports] == [1, 2, 3]
    assert believed(lined)


def test_a_report_waits_for_governance_and_is_then_handed_over(lined):
    began = lined.clock.now()

    def cut(report):
        if report.round == 1:
            lined.line.cut = {"/rounds"}

    tick = lined.clock.tick

    def mend(delta):
        tick(delta)
        if (lined.clock.now() - began).total_seconds() > 60:
            lined.line.cut = set()

    lined.clock.tick = mend
    lined.run(watch=cut)
    assert [report.round for report in lined.reports] == [1, 2, 3]
    assert lined.line.asked.count("/v1/rounds") > 3
    assert believed(lined)


def test_governance_that_stays_away_ends_the_run_which_is_resumed_without_another_order(lined):
    def cut(report):
        lined.line.cut = {"/rounds"}

    began = lined.clock.now()
    with pytest.raises(UnreachableError) as error:
        lined.run(watch=cut)
    assert error.value.code == "governance.unreachable"
    assert (lined.clock.now() - began).total_seconds() == pytest.approx(300)
    lined.line.cut = set()
    lined.run()
    assert [report.round for report in lined.reports] == [1, 2, 3]
    told = load_outcome(run_folder(lined.federation.root / "server" / "runs", "run-1"))
    assert told is not None
    assert [line.round for line in told.rounds] == [1, 2, 3]
    event = lined.plan.round_event()
    thrice = event.model_copy(update={"steps": 3 * event.steps})
    assert told.rounds[-1].epsilon == renyi_epsilon([thrice], lined.plan.privacy.delta)
    with lined.unit("north").node() as node:
        orders = [e.body["attempt"] for e in node.ledger.entries() if e.kind == "order"]
    assert orders == [1, 1, 1]
    assert believed(lined)


def test_governance_that_comes_back_after_the_permit_has_expired_gets_the_report(lined):
    def cut(report):
        if report.round == 1:
            lined.federation.tick(hours=11)
            lined.line.cut = {"/rounds", "/renewal"}

    with pytest.raises(UnreachableError):
        lined.run(watch=cut)
    lined.line.cut = set()
    lined.federation.tick(hours=20)
    lined.run()
    assert [report.round for report in lined.reports] == [1, 2, 3]
    assert believed(lined)


def test_a_refused_renewal_ends_the_run_for_that_reason(lined):
    """The DPIA is suspended: governance revokes at once, and no attempt is spent."""

    def suspend(report):
        lined.federation.tick(hours=13)
        lined.federation.offices["compliance"].revoke_permit("run-1", "a complaint")

    with pytest.raises(RefusedError) as error:
        lined.run(watch=suspend)
    assert "permit.revoked" in error.value.codes
    assert [report.round for report in lined.reports] == [1]
    assert lined.line.asked.count("/v1/rounds") == 1


def test_a_node_that_says_revoked_though_nothing_is_does_not_stop_the_run(build, worlds):
    from flwr.app import Error, Message
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as MessageProto

    world = build(worlds.make_plan(rounds=2))

    def tap(node, request, reply):
        if node != world.federation.node_id("west"):
            return reply
        asked = message_from_proto(MessageProto.FromString(request))
        lie = Message(Error(code=1, reason="permit.revoked"), reply_to=asked)
        lie.metadata.__dict__["_message_id"] = f"lie-{asked.metadata.message_id}"
        return message_to_proto(lie).SerializeToString()

    world.federation.grid.tap = tap
    world.run()
    assert [report.unavailable for report in world.reports] == [("west",)] * 2


# What a node makes of a renewal


@pytest.fixture
def late(server, worlds):
    """The server of a permit that has expired, and how it renews."""
    world = server.world
    world.federation.tick(hours=25)

    def renewal(key=None, realm=SIMULATION, **changes):
        now = world.clock.now()
        values = {
            "run_id": server.run_id,
            "realm": SIMULATION,
            "permit": server.permit.digest,
            "sequence": 1,
            "issued_at": now,
            "expires_at": now + timedelta(hours=1),
        }
        record = PermitRenewal(**{**values, **changes})
        return sign_record(record, key or server.federation.governance_key, realm)

    return renewal


LIES = {
    "none at all": (lambda late, server: None, "permit.expired"),
    "of another run": (lambda late, server: late(run_id="run-2"), "permit.other_run"),
    "forged": (lambda late, server: late(SigningKey.generate()), "signature.wrong_key"),
    "signed by the server": (lambda late, server: late(server.key), "signature.wrong_key"),
    "of another permit": (
        lambda late, server: late(permit=server.permit.plan),
        "permit.renewal_differs|node.unavailable",
    ),
    "of the other realm": (
        lambda late, server: late(realm=Realm.PRODUCTION),
        "signature.wrong_type",
    ),
    "of another run and permit": (
        lambda late, server: late(permit=server.permit.plan, run_id="run-3"),
        "permit.other_run",
    ),
    "over": (
        lambda late, server: late(
            issued_at=server.world.clock.now() - timedelta(hours=1),
            expires_at=server.world.clock.now(),
        ),
        "permit.expired",
    ),
    "another document": (lambda late, server: server.permit_envelope, "signature.wrong_type"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_node_obeys_only_a_renewal_of_this_very_permit(server, late, name):
    lie, code = LIES[name]
    order = server.order("north")
    assert server.call_roll("north", renewal=lie(late, server)) in code.split("|")
    request = server.request(order, renewal=lie(late, server))
    assert server.train("north", request) in code.split("|")
    assert server.call_roll("north", renewal=late()) == "present"
    assert not isinstance(server.train("north", server.request(order, renewal=late())), str)


def test_an_older_renewal_does_no_harm_while_it_lasts(server, late):
    old = late(expires_at=server.world.clock.now() + timedelta(minutes=10))
    assert server.call_roll("north", renewal=late(sequence=2)) == "present"
    assert server.call_roll("north", renewal=old) == "present"
    server.federation.tick(minutes=11)
    assert server.call_roll("north", renewal=old) == "permit.expired"


def test_a_shorter_renewal_takes_nothing_from_the_permit(server, worlds):
    now = server.world.clock.now()
    record = PermitRenewal(
        run_id=server.run_id,
        realm=SIMULATION,
        permit=server.permit.digest,
        sequence=1,
        issued_at=now - timedelta(minutes=2),
        expires_at=now - timedelta(minutes=1),
    )
    short = sign_record(record, server.federation.governance_key, SIMULATION)
    assert server.call_roll("north", renewal=short) == "present"


def test_a_renewal_does_not_bring_a_revoked_run_back(server, late):
    assert server.call_roll("north", renewal=late()) == "present"
    server.federation.offices["dpo"].revoke_permit(server.run_id, "a complaint")
    server.federation.tick(minutes=16)
    assert server.call_roll("north", renewal=late()) == "permit.revoked"
    assert server.train("north", server.request(server.order("north"), renewal=late())) == (
        "permit.revoked"
    )


def test_a_renewal_that_ends_in_mid_training_releases_nothing(server, late):
    fed = server.world.federation
    real = fed.surroundings.noise.stream

    def slow(*names):
        fed.tick(minutes=6)
        return real(*names)

    fed.surroundings.noise.stream = slow
    short = late(expires_at=server.world.clock.now() + timedelta(minutes=1))
    order = server.order("north", deadline_at=server.world.clock.now() + timedelta(hours=1))
    assert server.train("north", server.request(order, renewal=short)) == "permit.expired"


def test_the_servers_version_reaches_the_units_policy(server):
    unit = server.world.unit("north")
    with unit.settings.open("a") as file:
        file.write('accepted_server_versions = ["0.2.0"]\n')
    assert server.call_roll("north", server_version="0.2.0") == "present"
    for version in ("0.1.0", "9.9.9"):
        refusal = server.call_roll("north", server_version=version)
        assert refusal in {"policy.server_version_not_accepted", "node.unavailable"}


def test_nothing_but_a_governance_error_ends_a_run_silently(lined):
    """Whatever ends it is a FedError with a code and a sentence."""
    lined.line.cut = {"/models"}
    with pytest.raises(FedError) as error:
        lined.run()
    assert error.value.code == "governance.unreachable"
    lined.line.cut = set()
    lined.run()
    assert believed(lined)
