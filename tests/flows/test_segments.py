"""Releases around centres, over the wire: what a node refuses, and what one customer moves."""

import dataclasses
import itertools
import json
from importlib.metadata import EntryPoint

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

from clients.segments import assign_segments, open_segments
from fedcore import canonical, cli, wire
from fedcore.bundle import read_bundle
from fedcore.errors import RefusedError
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.fairness_audits import FairnessAudit
from fedcore.privacy.clustering import Placement, diameter
from fedcore.record import Realm
from fedcore.segments.artefact import decode_model as decode_segments
from fedcore.segments.course import Leg, next_leg
from fedcore.segments.groups import SegmentLayout
from fedcore.segments.identities import identify
from fedcore.segments.noised import combine
from fedcore.segments.placements import placement_of, weights_of
from fedcore.signing import sign_record
from fedcore.tasks.task import decode_model, first_model, update_shapes
from fedcore.verify import verify_bundle
from fedcore.weights import decode_weights, encode_weights

SERVER = cli.RootCommand(
    {"server": EntryPoint("server", "fedserver.cli:app [server]", cli.COMMANDS_GROUP)}
)
# One count in a hundred million gets any noise.
NEARLY_EXACT = 20.0
C = {
    "customer_id": "C000",
    "tenure": "3",
    "charge": "150",
    "product": "pro",
    "channel": "web",
    "churn": "yes",
}


@pytest.fixture
def opened(build, worlds):
    """Open a world whose plan is of segments."""

    def make(plan=None, **changes):
        return worlds.allow_segments(build(plan or worlds.make_segment_plan(), **changes))

    return make


def answer_around(server, data):
    """Return north's reply to a second round around these bytes, or its reason code."""
    digest = canonical.digest(data)
    report = server.report(("north", "south"), model_out=digest)
    order = server.order("north", round=2, previous_report=report.digest, model=digest)
    signed = sign_record(report, server.key, Realm.SIMULATION)
    return server.train("north", server.request(order, previous_report=signed, model=data))


def kinds(world):
    with world.unit("north").node() as node:
        return [entry.kind for entry in node.ledger.entries()]


SOUND = {"centres": np.array([[0.5, -0.5], [-0.5, 0.5]]), "radius": np.array([0.5])}
BROKEN = {
    "outside the public box": (
        {"centres": np.array([[0.0, -1.01]])},
        "clustering.placement_invalid",
    ),
    "too many": ({"centres": np.zeros((7, 2))}, "clustering.placement_invalid"),
    "no centre": ({"centres": np.zeros((0, 2))}, "clustering.placement_invalid"),
    "another width": ({"centres": np.zeros((2, 3))}, "weights.wrong_shape"),
    "not finite": ({"centres": np.array([[0.0, np.nan]])}, "weights.not_finite"),
    "radius of nothing": ({"radius": np.array([1e-9])}, "clustering.placement_invalid"),
    "radius beyond": ({"radius": np.array([diameter(2) * 1.01])}, "weights.out_of_bounds"),
    "a third array": ({"more": np.zeros(1)}, "weights.wrong_shape"),
}


@pytest.fixture(scope="module")
def asked(template, worlds, tmp_path_factory):
    """A world whose node is asked about all that a placement cannot be."""
    root = tmp_path_factory.mktemp("asked") / "world"
    worlds.copy_world(template, root)
    world = worlds.allow_segments(worlds.open_world(root, worlds.make_segment_plan()))
    yield world
    world.close()


def test_a_placement_that_breaks_a_rule_is_refused_uncharged_and_a_sound_one_is_answered(
    worlds, asked
):
    server = worlds.Server(asked)
    found = {
        name: answer_around(server, encode_weights({**SOUND, **change}))
        for name, (change, _) in BROKEN.items()
    }
    assert found == {name: code for name, (_, code) in BROKEN.items()}
    assert kinds(asked) == ["open"]
    assert isinstance(answer_around(server, encode_weights(SOUND)), wire.TrainReply)
    assert len(kinds(asked)) > 1


PLACEMENTS = {
    "a needle at the customer": Placement(np.array([[-11 / 12, 1.0]]), 1e-3),
    "at the border of two": Placement(np.array([[-11 / 12, 0.9], [-11 / 12, 1.0]]), 0.02),
}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_one_customer_moves_what_leaves_by_at_most_the_sensitivity(opened, worlds, name):
    """From the row in the file to the bytes on the wire; both worlds draw the same noise."""
    data = encode_weights(weights_of(PLACEMENTS[name]))
    rows = worlds.make_rows("north", 40)
    table = pl.concat([rows, pl.DataFrame([C], schema=rows.schema)])
    sums = []
    for each in (rows, table):
        world = opened(rows={"north": each})
        reply = answer_around(worlds.Server(world), data)
        shapes = update_shapes(world.plan, weights_of(PLACEMENTS[name]))
        sums.append(decode_weights(reply.update, shapes, 1e12)["sums"])
    moved = float(np.linalg.norm(sums[1] - sums[0]))
    assert 0.4 * (1 - 1e-9) < moved <= worlds.COURSE.l2_sensitivity


def test_who_has_opted_out_is_in_no_sum(opened, worlds):
    rows = worlds.make_rows("north", 40)
    table = pl.concat([rows, pl.DataFrame([C], schema=rows.schema)])
    sent = {}
    for name, each in (("with", table), ("opted out", table), ("without", rows)):
        world = opened(rows={"north": each})
        if name == "opted out":
            world.unit("north").opt_out("c000", worlds.PURPOSE)
        sent[name] = answer_around(worlds.Server(world), encode_weights(SOUND)).update
    assert sent["opted out"] == sent["without"]
    assert sent["with"] != sent["without"]


def told(world):
    """Return the models and statuses of a run, as far as it went."""
    return [(r.round, r.attempt, r.status, r.model_in, r.model_out) for r in world.reports]


def test_a_void_round_repeats_its_release_and_each_attempt_is_charged(opened):
    world, left = opened(), [1]

    def tap(to, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        is_second = len(world.reports) == 1 and message.metadata.message_type == wire.TRAIN
        if to != 2 or not is_second or not left[0]:
            return reply
        left[0] = 0
        mine = wire.read_train_reply(message.content)
        lie = dataclasses.replace(mine, update=mine.update[:-8])
        message.content = wire.train_reply_content(lie)
        return message_to_proto(message).SerializeToString()

    world.federation.grid.tap = tap
    world.run()
    statuses = [(r.round, r.attempt, r.status) for r in world.reports]
    ended = [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1)]
    assert statuses == [(*each, "void" if each == (2, 1) else "accepted") for each in ended]
    assert world.reports[1].model_in == world.reports[1].model_out == world.reports[2].model_in
    with world.unit("north").node() as node:
        assert sum(entry.kind == "order" for entry in node.ledger.entries()) == 5


def make_clear_plan(worlds):
    """A plan whose noise leaves several of so few customers' segments to be found."""
    clear = worlds.make_segment_plan().privacy.model_copy(update={"noise_multiplier": 1.0})
    return worlds.make_segment_plan(holdout=0.2, privacy=clear)


@pytest.fixture(scope="module")
def whole(template, worlds, tmp_path_factory):
    """A run that nothing disturbed, and the updates that units have sent, in order."""
    root, sent = tmp_path_factory.mktemp("whole") / "world", []
    worlds.copy_world(template, root)
    world = worlds.allow_segments(worlds.open_world(root, make_clear_plan(worlds)))

    def tap(_to, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if message.metadata.message_type == wire.TRAIN:
            sent.append(wire.read_train_reply(message.content).update)
        return reply

    world.federation.grid.tap = tap
    world.run()
    yield world, sent
    world.close()


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_segments(opened, worlds, whole):
    broken = opened(make_clear_plan(worlds))

    def stop(report):
        if report.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.run(watch=stop)
    assert len(broken.reports) == 2
    broken.run()
    assert told(broken) == told(whole[0])
    assert broken.updates() == whole[0].updates()
    assert broken.model() == whole[0].model()


def test_every_placement_can_be_computed_again_from_the_answers_before_it(whole):
    world, sent = whole
    plan, terms = (
        world.plan,
        world.plan.model.course.release_terms(world.plan.privacy.noise_multiplier),
    )
    model, counts = first_model("segmentation", world.plan.model, 2), []
    for place, report in enumerate(world.reports):
        data = encode_weights(model)
        assert canonical.digest(data) == report.model_in
        assert decode_model(plan, 2, data)
        shapes, answers = update_shapes(plan, model), sent[2 * place : 2 * place + 2]
        releases = [decode_weights(answer, shapes, 1e12)["sums"] for answer in answers]
        sums = combine(releases, placement_of(model), terms)
        counts.append(len(sums.counts))
        if place < plan.rounds - 1:
            model = weights_of(
                next_leg(Leg(place, sums.placement), sums, plan.model.course.terms).placement
            )
    assert counts[:2] == [1, 6]
    evidence = read_bundle(world.bundle())
    released = decode_segments(evidence.artifact)
    assert np.array_equal(released.last.blocks, sums.blocks)
    assert np.array_equal(released.last.placement.centres, sums.placement.centres)
    assert (released.last.units, released.last.terms) == (2, terms)
    assert released.ids == identify(sums.placement.centres, {}, 1.0).ids
    assert sorted(released.ids) == list(range(1, len(sums.counts) + 1))


def test_scores_of_segments_are_not_evaluated(whole):
    world, _ = whole
    with pytest.raises(RefusedError) as error:
        world.federation.evaluate(world.evaluation_plan(), "scores")
    assert error.value.codes == ("evaluation.no_scores",)


@pytest.fixture(scope="module")
def counted(whole, worlds):
    """The same run, its segments counted by group, and each unit's tables: nearly without noise."""
    world, _ = whole
    ids = decode_segments(read_bundle(world.bundle()).artifact).ids
    layout = SegmentLayout(attributes=worlds.SEGMENT_GROUPS, segments=ids)
    plan = world.evaluation_plan(rows="all", segments=layout, epsilon=NEARLY_EXACT)
    before, tables = objections(world), {}

    def tap(_to, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if message.metadata.message_type == wire.EVALUATE and not message.has_error():
            answer = wire.read_evaluate_reply(message.content).tables
            found = NoisedTables.from_bytes(answer)
            tables[found.unit] = found.tables
        return reply

    others, world.federation.grid.tap = world.federation.grid.tap, tap
    evaluation = world.federation.evaluate(plan, "shares")
    world.federation.grid.tap = others
    audit = world.federation.offices["compliance"].fetch_audit("shares").payload_bytes
    return plan, evaluation, FairnessAudit.from_bytes(audit), tables, before


@pytest.mark.usefixtures("counted")
def test_a_plan_that_counts_segments_is_written_from_the_evidence(whole, tmp_path):
    """After the one that counts groups, which looks at what was missing before."""
    world = whole[0]
    bundle, out = tmp_path / "segments.fedpact", tmp_path / "plan.json"
    bundle.write_bytes(world.bundle())
    ids = decode_segments(read_bundle(world.bundle()).artifact).ids
    asked = ["server", "plan", "evaluate", str(bundle), "--epsilon", "2.0", "--out", str(out)]
    asked += ["--title", "How well the small model does"]
    done = CliRunner().invoke(SERVER, asked)
    assert done.exit_code == 0, done.output
    assert "1 tables, epsilon 2 for each" in done.output
    written = EvaluationPlan.from_json(json.loads(out.read_text()))
    # The training has set customers aside, and so they are counted.
    assert written == world.evaluation_plan(segments=SegmentLayout(segments=ids))
    out.unlink()
    told = CliRunner().invoke(SERVER, [*asked, "--suppose", "200", "0.2", "0.8"])
    assert (told.exit_code, "evaluation.expectation_invalid" in told.output) == (1, True)
    assert not out.exists()
    found = world.federation.evaluate(written, "sizes")
    numbers = {each.name: each.value for each in found.models[0].numbers}
    aside = 0
    for unit in ("north", "south"):
        with world.unit(unit).node() as node:
            aside += node.examples(world.plan, written).customers
    assert (found.rows, 0 < aside < 40) == ("holdout", True)
    # Noise of epsilon 2, of two segments at two units.
    assert abs(numbers["customers"] - aside) < 10


def objections(world):
    check = world.federation.offices["compliance"].check_promotion("churn", 1, "champion")
    return {verdict.code for verdict in check.verdicts if verdict.objection is not None}


def test_a_table_is_of_the_very_segments_that_the_unit_is_told_of_its_customers(whole, counted):
    world, (plan, _, _, tables, _) = whole[0], counted
    cells = plan.segments.cells
    for unit in ("north", "south"):
        with world.unit(unit).node() as node:
            signed = open_segments(node, world.bundle())
            assigned = dict(assign_segments(node, signed).segments)
        expected = dict.fromkeys(itertools.product(cells, plan.segments.segments), 0)
        for row in world.unit(unit).setup.rows.iter_rows(named=True):
            cell = (row["channel"], row["product"])
            expected[cell, assigned[row["customer_id"]]] += 1
        assert tables[unit] == (tuple(expected.values()),)
        assert sum(expected.values()) == 40
        with world.unit(unit).node() as node:
            entries = [e.body for e in node.ledger.entries() if e.kind == "reserve"]
        (reserved,) = [body for body in entries if body["run_id"] == "shares"]
        assert reserved["event"]["mechanism"] == "discrete_laplace"
        assert reserved["event"]["noise_multiplier"] == 1 / NEARLY_EXACT


def test_what_governance_signs_of_segments_follows_from_the_sum_of_the_tables(whole, counted):
    plan, evaluation, audit, tables, _ = counted
    total = np.sum([tables[unit][0] for unit in tables], axis=0).reshape(2, 3, -1)
    numbers = {each.name: each for each in evaluation.models[0].numbers}
    assert (evaluation.rows, evaluation.units, evaluation.of_segments) == ("all", 2, True)
    assert numbers["customers"].value == total.sum() == 80
    for place, number in enumerate(plan.segments.segments):
        share = numbers[f"segment_{number}_share"]
        assert numbers[f"segment_{number}_customers"].value == total[..., place].sum()
        assert share.value == pytest.approx(total[..., place].sum() / 80)
        assert share.low < share.value < share.high
    shop, rest = total[0].sum(axis=0), total.sum(axis=(0, 1))
    gap = shop[0] / rest[0] - (shop.sum() - shop[0]) / (80 - rest[0])
    channel, product = audit.found.bounds
    first = f"share_of_segment_{plan.segments.segments[0]}"
    assert (channel.compared[0].group, channel.compared[0].rate) == ("shop", first)
    assert channel.compared[0].gap == pytest.approx(gap, abs=1e-9)
    assert {one.group for one in product.compared} == {"basic", "plus", "pro"}
    assert audit.found.threshold is None
    told = {(one.group, one.segment): one.share for one in audit.found.shares}
    assert told["shop", plan.segments.segments[0]] == pytest.approx(shop[0] / rest[0], abs=1e-9)
    assert (audit.found.verdict, audit.evaluation) == ("PASS", evaluation.digest)
    assert "within the thresholds that this DPIA sets" in audit.found.meaning


def test_an_evaluation_and_an_audit_are_all_that_a_segmentation_lacked_besides_people(
    whole, counted
):
    before, now = counted[-1], objections(whole[0])
    assert before - now == {"promotion.evaluation_missing", "promotion.fairness_missing"}
    assert now <= {"promotion.simulation", "promotion.approvals_missing"}


def test_the_evidence_with_its_audit_is_verified(whole, counted):
    world = whole[0]
    key = world.federation.governance_key.public
    verification = verify_bundle(world.bundle(), key, Realm.SIMULATION)
    assert {check.name: check.text for check in verification.checks if not check.ok} == {}
