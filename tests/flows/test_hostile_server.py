"""A hostile server meets real nodes: each refusal beside the twin that succeeds."""

import base64
from datetime import timedelta

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.app import app
from fedcore import canonical, wire
from fedcore.optouts import LogPosition
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Cosignature
from fedcore.signing import SigningKey, sign_record

STRANGER = SigningKey.generate()
SIMULATION = Realm.SIMULATION


def kinds(server, unit="north"):
    with server.world.unit(unit).node() as node:
        return [entry.kind for entry in node.ledger.entries()]


def answered(reply):
    return isinstance(reply, wire.TrainReply)


def flipped(envelope):
    data = bytearray(envelope.payload_bytes)
    data[len(data) // 2] ^= 1
    return envelope.model_copy(update={"payload": base64.b64encode(data).decode()})


def permit_with(**changes):
    def make(server):
        permit = server.permit.model_copy(update=changes)
        return server.request(
            server.order("north", permit=permit.digest),
            permit=sign_record(permit, server.federation.governance_key, SIMULATION),
        )

    return make


def other_runs_permit(server):
    return server.request(server.order("north", run_id="run-2"))


def plan_of_one_round_more(server):
    plan = TrainingPlan.from_bytes(server.plan.payload_bytes)
    plan = plan.model_copy(update={"rounds": plan.rounds + 1})
    return server.request(server.order("north"), plan=server.federation.sign_plan(plan))


def plan_by_a_stranger(server):
    plan = TrainingPlan.from_bytes(server.plan.payload_bytes)
    return server.request(server.order("north"), plan=sign_record(plan, STRANGER, SIMULATION))


def previous(server, *, key=None, order=None, **changes):
    report = server.report(("north", "south"), **changes)
    values = {"round": 2, "previous_report": report.digest} | (order or {})
    signed = sign_record(report, key or server.key, SIMULATION)
    return server.request(server.order("north", **values), previous_report=signed)


def cosigned(server, key, log, unit="south"):
    record = Cosignature(unit=unit, log=log, seen_at=server.world.clock.now())
    others = server.cosignatures()
    return server.request(
        server.order("north"), cosignatures=(*others, sign_record(record, key, SIMULATION))
    )


def seen_by_north(server):
    with server.world.unit("north").node() as node:
        return node.synchronise().log


def forked_log(server):
    log = LogPosition(size=seen_by_north(server).size, root="0" * 64)
    with server.world.unit("south").node() as node:
        return cosigned(server, node.key, log)


def cosigned_by_a_stranger(server):
    return cosigned(server, STRANGER, seen_by_north(server))


ORDERS = {
    "permit by a stranger": (
        lambda s: s.request(s.order("north"), permit=sign_record(s.permit, STRANGER, SIMULATION)),
        "signature.wrong_key",
    ),
    "permit with one bit changed": (
        lambda s: s.request(s.order("north"), permit=flipped(s.permit_envelope)),
        "signature.invalid",
    ),
    "another document as permit": (
        lambda s: s.request(s.order("north"), permit=s.plan),
        "signature.wrong_type",
    ),
    "permit of the other realm": (
        lambda s: s.request(
            s.order("north"),
            permit=sign_record(s.permit, s.federation.governance_key, Realm.PRODUCTION),
        ),
        "signature.wrong_type",
    ),
    "permit of a realm that it does not name": (
        permit_with(realm=Realm.PRODUCTION),
        "permit.other_realm",
    ),
    "order for another run than the permit's": (other_runs_permit, "permit.other_run"),
    "permit without this unit": (
        lambda s: permit_with(
            cohort=tuple(g for g in s.permit.cohort if g.unit != "north"),
        )(s),
        "permit.other_node",
    ),
    "permit for other software": (
        permit_with(accepted_versions=("9.9.9",)),
        "permit.version_not_accepted",
    ),
    "permit to evaluate": (permit_with(kind="evaluate"), "permit.other_kind"),
    "permit to score": (permit_with(kind="score"), "permit.other_kind"),
    "permit of more rounds than the plan": (permit_with(rounds=9), "permit.terms_differ"),
    "permit that is not valid yet": (
        lambda s: permit_with(not_before=s.world.clock.now() + timedelta(minutes=1))(s),
        "permit.early",
    ),
    "smaller cohort than the unit's policy": (
        permit_with(minimum_cohort=1),
        "permit.terms_differ",
    ),
    "plan changed by one field": (plan_of_one_round_more, "permit.other_plan"),
    "plan by a stranger": (plan_by_a_stranger, "signature.wrong_key"),
    "order of another unit": (lambda s: s.request(s.order("south")), "order.other_unit"),
    "order by a stranger": (
        lambda s: s.request(s.order("north"), STRANGER),
        "signature.wrong_key",
    ),
    "order of another permit": (
        lambda s: s.request(s.order("north", permit=canonical.digest(b"x"))),
        "order.other_permit",
    ),
    "order of another realm": (
        lambda s: s.request(s.order("north", realm=Realm.PRODUCTION)),
        "order.other_realm",
    ),
    "round beyond the permit": (
        lambda s: previous(s, order={"round": 4}, round=3),
        "order.round_out_of_range",
    ),
    "attempt beyond the permit": (
        lambda s: s.request(s.order("north", attempt=3)),
        "order.attempts_exceeded",
    ),
    "deadline passed": (
        lambda s: s.request(s.order("north", deadline_at=s.world.clock.now())),
        "order.expired",
    ),
    "order of tomorrow": (
        lambda s: s.request(s.order("north", issued_at=s.world.clock.now() + timedelta(minutes=3))),
        "order.expired",
    ),
    "later round without a report": (
        lambda s: s.request(s.order("north", round=2)),
        "order.report_missing",
    ),
    "report by a stranger": (lambda s: previous(s, key=STRANGER), "signature.wrong_key"),
    "report of another run": (lambda s: previous(s, run_id="run-2"), "order.report_mismatch"),
    "report of a void round": (lambda s: previous(s, status="void"), "order.report_mismatch"),
    "report of the same round": (lambda s: previous(s, round=2), "order.report_mismatch"),
    "another report than the order's": (
        lambda s: previous(s, order={"previous_report": canonical.digest(b"x")}),
        "order.report_mismatch",
    ),
    "model that no report handed over": (
        lambda s: previous(s, order={"model": canonical.digest(b"x")}),
        "order.model_mismatch",
    ),
    "first model of its own": (
        lambda s: s.request(s.order("north", model=canonical.digest(b"x")), model=b"x"),
        "order.model_mismatch",
    ),
    "model sent is not the model ordered": (
        lambda s: s.request(s.order("north"), model=s.initial + b" "),
        "order.model_mismatch",
    ),
    "forked log": (forked_log, "log.forked"),
    "log cosigned by a stranger": (cosigned_by_a_stranger, "log.foreign_cosignature"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_a_lying_order_is_refused_uncharged_and_its_honest_twin_is_answered(server, name):
    make, code = ORDERS[name]
    assert server.train("north", make(server)) == code
    assert kinds(server) == ["open"]
    assert answered(server.train("north"))
    assert kinds(server) == ["open", "reserve", "order", "reply"]


@pytest.mark.parametrize("kind", ["evaluate", "score"])
def test_a_permit_of_another_kind_is_refused_before_any_row_is_read(server, kind):
    """The source is away: who gets as far as to read it cannot answer, as the honest twin shows."""
    source = server.world.unit("north").source
    away = source.rename(source.with_suffix(".away"))
    assert server.train("north", permit_with(kind=kind)(server)) == "permit.other_kind"
    assert server.train("north") == "node.unavailable"
    away.rename(source)
    assert answered(server.train("north", server.request(server.order("north", attempt=2))))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"documents": ConfigRecord({"permit": [b"{}"], "plan": [b"{}"]})}),
        RecordDict({"documents": ConfigRecord({"permit": "a", "plan": "b"})}),
        RecordDict({"documents": ConfigRecord({"permit": [b"\xff"], "plan": [b"x", b"y"]})}),
    ],
    ids=["nothing", "no envelopes", "no lists", "no bytes"],
)
@pytest.mark.parametrize("kind", [wire.TRAIN, wire.ROLL_CALL, wire.WITNESS, "query.unknown"])
def test_a_malformed_message_gets_a_bare_code(server, content, kind):
    reply = server.send("north", kind, content)
    assert reply.has_error()
    code = wire.read_refusal(reply).code
    assert code in {"wire.malformed", "node.unavailable"}
    assert kinds(server) == ["open"]


def test_an_expired_permit_is_refused_and_a_new_one_is_obeyed(server, worlds):
    server.world.federation.tick(hours=24)
    assert server.call_roll("north") == "permit.expired"
    assert server.train("north") == "permit.expired"
    renewed = worlds.Server(server.world, "run-2")
    assert renewed.call_roll("north") == "present"
    assert answered(renewed.train("north"))


def test_a_permit_that_expires_in_mid_training_releases_nothing(server):
    """Checked again before the release: the time is told by the clock as it is then."""
    short = permit_with(expires_at=server.world.clock.now() + timedelta(minutes=1))(server)
    fed = server.world.federation
    real = fed.surroundings.noise.stream

    def slow(*names):
        fed.tick(minutes=2)
        return real(*names)

    fed.surroundings.noise.stream = slow
    assert server.train("north", short) == "permit.expired"
    assert kinds(server) == ["open", "reserve", "order"]


def test_a_repeated_order_gets_the_same_bytes_and_a_reissued_one_nothing(server):
    request = server.request(server.order("north"))
    first, second = server.train("north", request), server.train("north", request)
    assert first == second
    assert answered(first)
    later = server.order("north", deadline_at=server.world.clock.now() + timedelta(seconds=59))
    assert server.train("north", server.request(later)) == "order.replayed"
    assert kinds(server) == ["open", "reserve", "order", "reply"]
    again = server.train("north", server.request(server.order("north", attempt=2)))
    assert answered(again)
    assert again.update != first.update


def test_an_order_of_a_round_before_the_last_one_begun_is_refused(server):
    assert answered(server.train("north", previous(server)))
    assert server.train("north") == "order.old"
    third = previous(server, round=2, order={"round": 3})
    assert answered(server.train("north", third))


def test_a_run_never_gets_more_exchanges_than_it_reserved(server):
    """Three rounds and one spare exchange; two attempts each would be six."""
    codes = []
    report = server.report(("north", "south"), round=1)
    signed = sign_record(report, server.key, SIMULATION)
    for round_ in (1, 2, 3):
        for attempt in (1, 2):
            report = server.report(("north", "south"), round=max(round_ - 1, 1))
            signed = sign_record(report, server.key, SIMULATION)
            names = {"previous_report": report.digest} if round_ > 1 else {}
            order = server.order("north", round=round_, attempt=attempt, **names)
            request = server.request(order, previous_report=signed if round_ > 1 else None)
            reply = server.train("north", request)
            codes.append(reply if isinstance(reply, str) else "answered")
    assert codes == ["answered"] * 4 + ["budget.exchanges_exceeded"] * 2
    assert kinds(server).count("order") == 4


def test_simulation_documents_are_nothing_to_a_production_node(server):
    """The very node, in production: no document of a simulation counts, and no seeded runtime."""
    unit = server.world.unit("north")
    text = unit.settings.read_text()
    unit.settings.write_text(text.replace('realm = "simulation"', 'realm = "production"'))
    # Inside the simulation's runtime a production node does not even open.
    assert server.train("north") == "node.unavailable"
    content = wire.roll_call_content(
        wire.RollCallRequest(permit=server.permit_envelope, plan=server.plan)
    )
    message = Message(content, 2, wire.ROLL_CALL, ttl=60, group_id="1")
    message.metadata.__dict__["_message_id"] = "1"
    context = Context(
        run_id=1,
        node_id=2,
        node_config={"settings": str(unit.settings)},
        state=RecordDict(),
        run_config={},
    )
    assert wire.read_refusal(app(message, context)).code == "signature.wrong_type"
    unit.settings.write_text(text)
    assert answered(server.train("north"))


def test_a_simulated_node_outside_a_simulation_reaches_nobody_and_draws_real_noise(server):
    """Without the simulation's runtime there is no seeded noise to be had, in whatever realm."""
    from clients import runtime
    from fedcore.privacy.noise import SystemNoise

    assert isinstance(runtime.SEAM.current(SIMULATION).noise, SystemNoise)
    with runtime.SEAM.bound(server.federation.surroundings):
        assert runtime.SEAM.current(SIMULATION).noise.kind == "seeded-simulation"
        with pytest.raises(Exception, match="production node"):
            runtime.SEAM.current(Realm.PRODUCTION)


def test_production_documents_are_nothing_to_a_simulated_node(server):
    permit = server.permit.model_copy(update={"realm": Realm.PRODUCTION})
    signed = sign_record(permit, server.federation.governance_key, Realm.PRODUCTION)
    assert server.call_roll("north", permit=signed) == "signature.wrong_type"
    assert Permit.from_bytes(signed.payload_bytes).realm is Realm.PRODUCTION
    assert server.call_roll("north") == "present"


def test_an_order_without_a_minimum_cohorts_views_of_the_log_is_refused(build, worlds):
    server = worlds.Server(build())
    order = server.order("north")
    one_view = server.cosignatures()[:1]
    for views in ((), one_view, one_view * 3):
        assert server.train("north", server.request(order, cosignatures=views)) == (
            "log.cosignatures_missing"
        )
    assert server.train("north", server.request(order)).update


def test_a_stored_reply_does_not_leave_after_the_permit_was_revoked(build, worlds):
    server = worlds.Server(build())
    request = server.request(server.order("north"))
    first = server.train("north", request)
    assert server.train("north", request) == first
    server.federation.offices["dpo"].revoke_permit(server.run_id, "complaint")
    assert server.train("north", request) == "permit.revoked"
