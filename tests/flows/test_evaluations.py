"""Train with customers set aside, evaluate on them, and read what governance signs of it."""

import json
import re
from datetime import timedelta
from importlib.metadata import EntryPoint

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

from clients import runtime
from clients.evaluating import tables_of
from clients.rebuild import rebuild
from clients.settings import NodeSettings
from clients.subject_reports import make_report
from fedcore import canonical, cli, wire
from fedcore.contracts import DayRule
from fedcore.dpias import FairnessBound
from fedcore.errors import RefusedError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.fairness_audits import FairnessAudit
from fedcore.fairness_bindings import AuditTerms, GroupMerge, SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.score_tables import DEFAULT_BINS
from fedcore.tasks.task import load_task, shapes_of
from fedcore.weights import decode_weights
from fedserver.checkpoints import checkpoint_path, load_checkpoint
from simulations.clock import ManualClock
from simulations.federation import Federation
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia

HELD_OUT = 0.3
UNITS = ("north", "south")
SERVER = cli.RootCommand(
    {"server": EntryPoint("server", "fedserver.cli:app [server]", cli.COMMANDS_GROUP)}
)
# One count in a hundred million gets any noise.
NEARLY_EXACT = 20.0


@pytest.fixture(scope="module")
def held_out(worlds):
    once = worlds.make_plan().algorithm.model_copy(update={"average_last": 1})
    return worlds.make_plan(UNITS, rounds=1, holdout=HELD_OUT, algorithm=once)


@pytest.fixture
def trained(build, held_out):
    """A world with a model that was trained without those who are set aside."""
    world = build(held_out)
    world.run()
    return world


def aside(world, unit, share=HELD_OUT):
    """The numbers of a unit's customers who are set aside."""
    with world.unit(unit).node() as node:
        split = node.split(node.contract(world.plan.contract))
    return {n for n in range(40) if split.is_set_aside(f"{unit[0].upper()}{n:03d}", share)}


def answers_of(world, act):
    """What nodes answered to orders to evaluate while `act` ran, by unit."""
    found = {}

    def tap(_node, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if message.metadata.message_type == wire.EVALUATE and not message.has_error():
            tables = NoisedTables.from_bytes(wire.read_evaluate_reply(message.content).tables)
            found[tables.unit] = tables
        return reply

    world.federation.grid.tap = tap
    act()
    return found


def kinds(world, unit):
    with world.unit(unit).node() as node:
        return [entry.kind for entry in node.ledger.entries()]


def number(evaluation, name, model=0):
    return next(each for each in evaluation.models[model].numbers if each.name == name)


def test_what_governance_signs_is_derived_from_those_whom_no_round_has_read(trained):
    """Seen through a noise that is nearly none, each table is what the rows say."""
    found: dict[str, Evaluation] = {}
    plan = trained.evaluation_plan(epsilon=NEARLY_EXACT)
    answers = answers_of(trained, lambda: found.update(e=trained.federation.evaluate(plan, "e-1")))
    evaluation = found["e"]
    assert isinstance(evaluation, Evaluation)
    assert (evaluation.simulation, evaluation.units, evaluation.rows) == (True, 2, "holdout")
    assert evaluation.tables == tuple(answers[unit].digest for unit in UNITS)
    positives = 0
    for unit in UNITS:
        labels = trained.unit(unit).setup.rows["churn"]
        expected = [labels[n] == "yes" for n in aside(trained, unit)]
        (table,) = answers[unit].tables
        assert sum(table[DEFAULT_BINS.count :]) == sum(expected)
        assert sum(table) == len(expected) > 0
        positives += sum(expected)
    rows = sum(sum(answers[unit].tables[0]) for unit in UNITS)
    prevalence = number(evaluation, "prevalence")
    assert prevalence.value == pytest.approx(positives / rows)
    auc = number(evaluation, "roc_auc")
    assert auc.low <= auc.value <= auc.high
    assert kinds(trained, "north") == ["open", *["reserve", "order", "reply", "close"] * 2]


def test_scores_are_those_of_the_registered_model(trained):
    plan = trained.evaluation_plan(epsilon=NEARLY_EXACT)
    answers = answers_of(trained, lambda: trained.federation.evaluate(plan, "e-1"))
    model = trained.federation.offices["operator"].fetch_artifact(plan.models[0].artifact)
    for unit in UNITS:
        with trained.unit(unit).node() as node:
            everybody = node.examples(trained.plan.model_copy(update={"holdout": None}))
        wanted = sorted(aside(trained, unit))
        task = load_task("churn")
        module = task.build(trained.plan.model, everybody.features.shape[1])
        weights = decode_weights(model, shapes_of(module), 1e3)
        picked = type(everybody)(everybody.features[wanted], everybody.labels[wanted])
        (expected,) = tables_of(plan, [(trained.plan, weights)], picked)
        assert np.array_equal(answers[unit].tables[0], expected)


def test_a_challenger_is_compared_with_the_champion_on_the_same_rows(trained):
    trained.run("run-2")
    plan = trained.evaluation_plan(1, 2, epsilon=8.0)
    answers = answers_of(trained, lambda: trained.federation.evaluate(plan, "e-1"))
    assert [len(answers[unit].tables) for unit in UNITS] == [2, 2]
    evaluation = Evaluation.from_bytes(
        trained.federation.offices["compliance"].fetch_evaluation("e-1").payload_bytes
    )
    assert [model.version for model in evaluation.models] == [1, 2]
    assert evaluation.table_epsilon == 4.0
    assert evaluation.difference is not None


def test_an_evaluation_is_charged_to_each_unit_that_answers_and_to_no_other(build, worlds):
    plan = worlds.make_plan(holdout=HELD_OUT)
    world = build(plan)
    world.run()
    world.federation.grid.down = {world.federation.node_id("west")}
    evaluation = world.federation.evaluate(world.evaluation_plan(epsilon=1.0), "e-1")
    assert [claim.unit for claim in evaluation.epsilon] == ["north", "south"]
    assert all(0.9 < claim.pld <= 1.001 for claim in evaluation.epsilon)
    assert all(claim.pld <= claim.claim for claim in evaluation.epsilon)
    reserved = {unit: kinds(world, unit).count("reserve") for unit in worlds.UNITS}
    assert reserved == {"north": 2, "south": 2, "west": 1}


def test_who_objects_after_the_training_is_in_no_evaluation(trained):
    gone = sorted(aside(trained, "north"))
    for n in gone:
        trained.unit("north").opt_out(f"N{n:03d}", "direct-marketing")
    plan = trained.evaluation_plan(epsilon=NEARLY_EXACT)
    answers = answers_of(trained, lambda: trained.federation.evaluate(plan, "e-1"))
    assert sum(answers["north"].tables[0]) == 0
    assert sum(answers["south"].tables[0]) == len(aside(trained, "south"))


def test_a_model_that_was_trained_on_everybody_is_not_evaluated(build, pair):
    world = build(pair)
    world.run()
    with pytest.raises(RefusedError) as error:
        world.federation.evaluate(world.evaluation_plan(), "e-1")
    assert "evaluation.not_held_out" in error.value.codes
    assert kinds(world, "north").count("reserve") == 1


def test_too_few_answers_make_a_void_attempt_and_a_spare_one_is_charged_again(trained):
    """South's first answer is lost on its way; its second one counts."""
    lost: list[bytes] = []

    def tap(node, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        is_answer = message.metadata.message_type == wire.EVALUATE
        if is_answer and node == trained.federation.node_id("south") and not lost:
            lost.append(reply)
            message.content["tables"] = message.content["documents"]
            return message_to_proto(message).SerializeToString(deterministic=True)
        return reply

    trained.federation.grid.tap = tap
    plan = trained.evaluation_plan(spare_exchanges=1)
    statuses = []
    trained.federation.run(
        trained.federation.register(plan), "e-1", lambda report, _: statuses.append(report.status)
    )
    assert statuses == ["void", "accepted"]
    told = ["reserve", "order", "reply", "order", "reply", "close"]
    assert kinds(trained, "south")[-6:] == told
    evaluation = trained.federation.offices["operator"].fetch_evaluation("e-1")
    claims = Evaluation.from_bytes(evaluation.payload_bytes).epsilon
    assert {claim.unit for claim in claims} == set(UNITS)


def test_a_run_that_ends_after_its_answers_goes_on_with_the_same_ones(trained, monkeypatch):
    federation = trained.federation
    plan, seen = trained.evaluation_plan(), []

    def stop(report, _model):
        seen.append(report)
        raise KeyboardInterrupt

    digest = federation.register(plan)
    with pytest.raises(KeyboardInterrupt):
        federation.run(digest, "e-1", stop)
    place = load_checkpoint(checkpoint_path(federation.root / "server" / "runs", "e-1"))
    assert place is not None
    assert sorted(place.tables) == list(UNITS)
    before = kinds(trained, "north")
    federation.run(digest, "e-1")
    assert kinds(trained, "north") == [*before, "close"]
    evaluation = Evaluation.from_bytes(
        federation.offices["operator"].fetch_evaluation("e-1").payload_bytes
    )
    digests = [NoisedTables.from_bytes(place.tables[unit]).digest for unit in UNITS]
    assert list(evaluation.tables) == digests
    assert evaluation.round_report == seen[0].digest


def test_orders_that_were_sent_are_sent_again_and_answered_with_the_same_bytes(trained):
    """The server dies between the nodes' answers and its report."""
    federation, sent = trained.federation, []

    def die(_node, request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if message.metadata.message_type == wire.EVALUATE:
            sent.append((_order_of(request), wire.read_evaluate_reply(message.content)))
            if len(sent) == 2:
                raise KeyboardInterrupt
        return reply

    plan = trained.evaluation_plan()
    digest = federation.register(plan)
    federation.grid.tap = die
    with pytest.raises(KeyboardInterrupt):
        federation.run(digest, "e-1")
    before = kinds(trained, "north")
    again: list[object] = []
    federation.grid.tap = lambda _node, request, reply: _noted(again, request, reply)
    federation.run(digest, "e-1")
    assert again == sent
    assert kinds(trained, "north") == [*before, "close"]


def _order_of(request):
    message = message_from_proto(MessageProto.FromString(request))
    return wire.read_evaluate(message.content).order.digest


def _noted(found, request, reply):
    message = message_from_proto(MessageProto.FromString(reply))
    if message.metadata.message_type == wire.EVALUATE:
        found.append((_order_of(request), wire.read_evaluate_reply(message.content)))
    return reply


@pytest.mark.parametrize("part", ["tables", "receipt"])
def test_tables_on_the_wire_that_are_not_the_receipts_count_for_nothing(trained, part):
    """Somebody in between gives south's answer north's tables, or north's receipt."""
    federation, north = trained.federation, {}

    def swap(node, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if message.metadata.message_type != wire.EVALUATE or message.has_error():
            return reply
        answer = wire.read_evaluate_reply(message.content)
        if node == federation.node_id("north"):
            north["answer"] = answer
            return reply
        mixed = {
            "tables": wire.EvaluateReply(answer.receipt, north["answer"].tables),
            "receipt": wire.EvaluateReply(north["answer"].receipt, answer.tables),
        }
        content = wire.evaluate_reply_content(mixed[part])
        for name, record in content.items():
            message.content[name] = record
        return message_to_proto(message).SerializeToString(deterministic=True)

    federation.grid.tap = swap
    with pytest.raises(RefusedError) as error:
        federation.evaluate(trained.evaluation_plan(), "e-1")
    assert error.value.code in {"receipt.update_mismatch", "signature.wrong_key"}


def test_a_customer_who_asks_is_told_on_which_side_of_the_split_they_were(trained):
    trained.federation.evaluate(trained.evaluation_plan(), "e-1")
    chosen = sorted(aside(trained, "north"))[0]
    other = next(n for n in range(40) if n not in aside(trained, "north"))
    with runtime.SEAM.bound(trained.federation.surroundings):
        settings = NodeSettings.load(trained.unit("north").settings)
        told = {
            n: [
                (run.about["kind"], one.customer, one.why)
                for run in make_report(settings, f"N{n:03d}", trained.clock.now()).runs
                for one in run.exchanges
            ]
            for n in (chosen, other)
        }
    assert told[chosen] == [("train", "out", "other_side"), ("evaluate", "in", None)]
    assert told[other] == [("train", "in", None), ("evaluate", "out", "other_side")]


def test_a_ledger_that_is_lost_is_rebuilt_with_its_evaluations(trained):
    trained.federation.evaluate(trained.evaluation_plan(), "e-1")
    unit = trained.unit("north")
    with unit.node() as node:
        before = [event.mechanism for event in node.ledger.events()]
    for path in unit.state_dir.glob("ledger.db*"):
        path.unlink()
    with runtime.SEAM.bound(trained.federation.surroundings):
        assert rebuild(NodeSettings.load(unit.settings), trained.clock.now()) == 2
    with unit.node() as node:
        again = [event.mechanism for event in node.ledger.events()]
        assert {one.line for one in node.ledger.reservations()} == {"churn/small"}
    assert before == ["gaussian", "discrete_laplace"]
    assert sorted(again) == sorted(before)


class TestGroups:
    """Groups are told by fields that no model takes, as the DPIA of its training has bound."""

    ATTRIBUTES = (
        SensitiveAttribute(name="channel", groups=("shop", "web")),
        SensitiveAttribute(name="product", groups=("basic", "plus", "pro")),
    )
    LAYOUT = TableLayout(attributes=ATTRIBUTES, threshold=0.5)

    @pytest.fixture
    def world(self, build, worlds, held_out):
        features = tuple(f for f in held_out.features if f.field in {"tenure", "charge"})
        first = worlds.first_model(held_out.model_copy(update={"features": features}))
        changes = {"features": features, "initial_model": canonical.digest(first)}
        world = build(held_out.model_copy(update=changes))
        world.federation.put_in_force(self.dpia(world, 2))
        world.run()
        return world

    def dpia(self, world, version, largest_gap=0.9):
        """A DPIA that binds an audit by channel and by product, with two products that count as
        one.
        """
        dpia = make_dpia(world.plan, world.federation.contract, 50.0, world.clock.now())
        terms = AuditTerms(
            attributes=self.ATTRIBUTES,
            minimum_size=1,
            merges=(GroupMerge(attribute="product", groups=("plus", "pro"), merged="more"),),
        )
        bounds = tuple(
            FairnessBound(
                attribute=each.name,
                metric="demographic_parity_difference",
                largest_gap=largest_gap,
            )
            for each in self.ATTRIBUTES
        )
        bound = {"fairness": bounds, "fairness_audit": terms}
        bindings = dpia.bindings.model_copy(update=bound)
        return dpia.model_copy(update={"version": version, "bindings": bindings})

    def test_hits_and_misses_are_counted_by_group_of_those_who_are_set_aside(self, world):
        plan = world.evaluation_plan(epsilon=2 * NEARLY_EXACT / 1.5, fairness=self.LAYOUT)
        found: dict[str, Evaluation] = {}
        answers = answers_of(world, lambda: found.update(e=world.federation.evaluate(plan, "e-1")))
        for unit in UNITS:
            scores, groups = answers[unit].tables
            rows, wanted = world.unit(unit).setup.rows, sorted(aside(world, unit))
            assert len(groups) == 2 * 3 * 4
            assert sum(groups) == sum(scores) == len(wanted)
            web = sum(rows["channel"][n] == "web" for n in wanted)
            assert sum(groups[12:]) == web
            basic = sum(rows["product"][n] == "basic" for n in wanted)
            assert sum(groups[0:4]) + sum(groups[12:16]) == basic
        assert found["e"].table_epsilon == plan.epsilon / 2

    def test_an_audit_says_what_the_tables_of_all_units_say_under_the_bounds_of_the_dpia(
        self, world
    ):
        plan = world.evaluation_plan(epsilon=12.0, fairness=self.LAYOUT)
        answers = answers_of(world, lambda: world.federation.evaluate(plan, "e-1"))
        office = world.federation.offices["compliance"]
        audit = FairnessAudit.from_bytes(office.fetch_audit("e-1").payload_bytes)
        total = np.sum([answers[unit].tables[1] for unit in UNITS], axis=0).reshape(2, 3, 2, 2)
        counts = {(one.attribute, one.group): one.people for one in audit.found.groups}
        assert counts == {
            ("channel", "shop"): total[0].sum(),
            ("channel", "web"): total[1].sum(),
            ("product", "basic"): total[:, 0].sum(),
            ("product", "more"): total[:, 1:].sum(),
        }
        shares = [total[place, :, 1].sum() / total[place].sum() for place in (0, 1)]
        (channel, product) = audit.found.bounds
        assert channel.compared[0].gap == pytest.approx(shares[0] - shares[1])
        assert channel.between == pytest.approx(abs(shares[0] - shares[1]))
        one = channel.compared[0]
        assert None not in (one.low, one.gap, one.high)
        assert sorted([one.gap, one.low, one.high]) == [one.low, one.gap, one.high]  # type: ignore[type-var]
        assert {channel.verdict, product.verdict, audit.found.verdict} == {"PASS"}
        assert "within the thresholds that this DPIA sets" in audit.found.meaning
        assert (audit.number, audit.first, audit.units) == (1, None, 2)
        assert audit.simulation
        world.federation.evaluate(plan.model_copy(update={"title": "Once more"}), "e-2")
        again = FairnessAudit.from_bytes(office.fetch_audit("e-2").payload_bytes)
        assert (again.number, again.first) == (2, audit.digest)
        assert [(one.run_id, one.number) for one in office.list_audits()] == [
            ("e-1", 1),
            ("e-2", 2),
        ]

    def test_only_that_it_is_a_simulation_and_approvals_are_then_between_a_model_and_champion(
        self, world
    ):
        office = world.federation.offices["compliance"]
        before = objections(office)
        assert before >= {"promotion.evaluation_missing", "promotion.fairness_missing"}
        plan = world.evaluation_plan(epsilon=NEARLY_EXACT, fairness=self.LAYOUT)
        world.federation.evaluate(plan, "e-1")
        assert before - objections(office) == {
            "promotion.evaluation_missing",
            "promotion.fairness_missing",
        }
        assert objections(office) <= {"promotion.simulation", "promotion.approvals_missing"}

    def test_groups_of_another_dpia_than_that_of_the_training_are_not_counted(self, world):
        world.federation.put_in_force(self.dpia(world, 3, largest_gap=0.95))
        plan = world.evaluation_plan(fairness=self.LAYOUT)
        with pytest.raises(RefusedError) as error:
            world.federation.evaluate(plan, "e-1")
        assert error.value.codes == ("fairness.bound_later",)
        world.federation.put_in_force(self.dpia(world, 4))
        world.federation.evaluate(plan, "e-2")

    def test_a_field_that_a_model_takes_tells_no_groups(self, world):
        tenure = SensitiveAttribute(name="tenure", groups=("new", "old"), edges=(36.0,))
        fairness = TableLayout(attributes=(tenure,), threshold=0.5)
        with pytest.raises(RefusedError) as error:
            world.federation.evaluate(world.evaluation_plan(fairness=fairness), "e-1")
        assert "fairness.field_is_input" in error.value.codes
        world.federation.evaluate(world.evaluation_plan(fairness=self.LAYOUT), "e-2")


def objections(office):
    check = office.check_promotion("churn", 1, "champion")
    return {verdict.code for verdict in check.verdicts if verdict.objection is not None}


class TestOutOfTime:
    """Rows have days: rounds read those before one day, an evaluation those from it on."""

    COUNT = 40

    @pytest.fixture
    def world(self, worlds, tmp_path):
        contract = worlds.make_contract().model_copy(
            update={"row_day": DayRule(column="seen", rule="iso-day/1")}
        )
        federation = Federation(tmp_path, contract, ManualClock(worlds.START), SeededNoise(1))
        today = worlds.START.date()
        days = [(today - timedelta(days=n)).isoformat() for n in range(self.COUNT)]
        for unit in UNITS:
            rows = worlds.make_rows(unit, self.COUNT).with_columns(pl.Series("seen", days))
            federation.enrol(worlds.setup_of(unit, rows)).check()
        once = worlds.make_plan().algorithm.model_copy(update={"average_last": 1})
        plan = worlds.make_plan(
            UNITS,
            rounds=1,
            algorithm=once,
            contract=contract.digest,
            train_until=today - timedelta(days=9),
        )
        federation.put_in_force(make_dpia(plan, contract, 50.0, worlds.START))
        federation.register(plan)
        yield worlds.World(federation, federation.clock, plan)
        federation.close()

    def test_rounds_read_the_days_before_and_an_evaluation_those_from_it_on(self, world):
        world.run()
        with world.unit("north").node() as node:
            assert len(node.examples(world.plan).labels) == self.COUNT - 10
        plan = world.evaluation_plan(rows="out_of_time", epsilon=NEARLY_EXACT)
        answers = answers_of(world, lambda: world.federation.evaluate(plan, "e-1"))
        assert [sum(answers[unit].tables[0]) for unit in UNITS] == [10, 10]

    def test_nobody_was_set_aside_by_customer(self, world):
        world.run()
        with pytest.raises(RefusedError) as error:
            world.federation.evaluate(world.evaluation_plan(), "e-1")
        assert "evaluation.not_held_out" in error.value.codes


def test_a_plan_is_written_from_the_evidence_of_its_models(build, pair, trained, tmp_path):
    bundle, out = tmp_path / "churn-1.fedpact", tmp_path / "evaluation.json"
    bundle.write_bytes(trained.bundle())
    terms = ("--epsilon", "2.0", "--title", "How well the small model does", "--out")
    asked = (*terms, str(tmp_path / "not-yet.json"))
    done = CliRunner().invoke(SERVER, ["server", "plan", "evaluate", str(bundle), *terms, str(out)])
    assert done.exit_code == 0, done.output
    assert "1 tables, epsilon 2 for each" in done.output
    written = EvaluationPlan.from_json(json.loads(out.read_text()))
    assert written == trained.evaluation_plan()
    taken = (str(bundle), *terms, str(bundle))
    refused = CliRunner().invoke(SERVER, ["server", "plan", "evaluate", *taken])
    assert (refused.exit_code, "(file.exists)" in refused.output) == (1, True)
    assert bundle.read_bytes() == trained.bundle()
    widths = {}
    for customers in (200, 20_000):
        told = (*terms, f"{tmp_path}/{customers}.json", "--suppose", str(customers), "0.2", "0.8")
        done = CliRunner().invoke(SERVER, ["server", "plan", "evaluate", str(bundle), *told])
        low, high = map(float, re.findall(r"interval of (\S+) to (\S+)", done.output)[0])
        assert 0.5 < low < 0.8 < high
        widths[customers] = high - low
    assert widths[20_000] < widths[200]
    on_everybody = build(pair)
    on_everybody.run()
    (tmp_path / "all.fedpact").write_bytes(on_everybody.bundle())
    named = [str(tmp_path / "all.fedpact"), *asked]
    refused = CliRunner().invoke(SERVER, ["server", "plan", "evaluate", *named])
    assert refused.exit_code == 1
    assert "evaluation.not_held_out" in refused.output
    twice = [str(bundle), str(bundle), *asked]
    refused = CliRunner().invoke(SERVER, ["server", "plan", "evaluate", *twice])
    assert "error: evaluation-plan/1: models: a model is named twice (record" in refused.output
