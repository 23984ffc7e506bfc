"""A node and orders to evaluate: what it answers, what it refuses, and the twin that succeeds."""

import functools
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from clients.sent import journal_path, load_departures
from fedcore import canonical, wire
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.privacy.clustering import Placement, ReleaseTerms
from fedcore.record import Realm
from fedcore.rounds import Order, Receipt
from fedcore.score_tables import DEFAULT_BINS
from fedcore.segments.artefact import SegmentModel
from fedcore.segments.artefact import encode_model as encode_segments
from fedcore.segments.groups import SegmentLayout
from fedcore.segments.noised import NoisedSums
from fedcore.signing import SigningKey, open_envelope, sign_record
from fedcore.tasks.task import load_task, shapes_of
from fedcore.trust import verify_receipt
from fedcore.weights import decode_weights, encode_weights

SIMULATION = Realm.SIMULATION
STRANGER = SigningKey.generate()
HELD_OUT = 0.3


def trained(server, seed=1, scale=1.0):
    """Some model of the plan's shape."""
    task, plan = load_task("churn"), server.world.plan
    first = decode_weights(server.initial, shapes_of(task.build(plan.model, 5)), 1e3)
    draw = np.random.default_rng(seed)
    return encode_weights({name: draw.normal(0, scale, a.shape) for name, a in first.items()})


class Evaluator:
    """A server that sends orders to evaluate; parts of them can be replaced."""

    def __init__(self, server, **changes):
        self.server, self.world, self.training = server, server.world, (server.world.plan,)
        self.training = tuple(changes.pop("training", self.training))
        self.models = tuple(changes.pop("models", ())) or (trained(server),)
        named = zip(self.models, self.training, strict=True)
        values = {
            "title": "How well the small model does",
            "models": tuple(
                EvaluatedModel(artifact=canonical.digest(model), plan=plan.digest)
                for model, plan in named
            ),
            "rows": "holdout",
            "epsilon": 2.0,
            "delta": 1e-5,
            "minimum_units": 2,
        }
        self.plan = EvaluationPlan(**{**values, **changes})
        self.permit = self.permit_with()

    def permit_with(self, **changes):
        cohort = self.server.permit.cohort
        terms = {
            "cohort": tuple(grant.model_copy(update={"epsilon": 200.0}) for grant in cohort),
            "run_id": "eval-1",
            "kind": "evaluate",
            "plan": self.plan.digest,
            "rounds": 1,
            "exchanges": self.plan.exchanges,
            "attempts": self.plan.attempts,
            "delta": self.plan.delta,
        }
        return self.server.permit.model_copy(update={**terms, **changes})

    def request(self, unit="north", permit=None, order=None, **changes):
        permit = permit or self.permit
        values = {
            "run_id": permit.run_id,
            "exchange": "evaluate",
            "permit": permit.digest,
            "plan": permit.plan,
            "model": canonical.digest(self.models[0]),
        }
        made = self.server.order(unit, **{**values, **(order or {})})
        federation = self.world.federation
        request = wire.EvaluateRequest(
            order=sign_record(made, self.server.key, SIMULATION),
            permit=sign_record(permit, federation.governance_key, SIMULATION),
            plan=sign_record(self.plan, federation.author_key, SIMULATION),
            training=tuple(
                sign_record(plan, federation.author_key, SIMULATION) for plan in self.training
            ),
            previous_report=None,
            cosignatures=self.server.cosignatures(),
            models=self.models,
        )
        return replace(request, **changes)

    def send(self, request=None, unit="north"):
        content = wire.evaluate_content(request or self.request(unit))
        message = self.server.send(unit, wire.EVALUATE, content)
        if message.has_error():
            return wire.read_refusal(message).code
        return wire.read_evaluate_reply(message.content)

    def call_roll(self, unit="north"):
        request = self.request(unit)
        return self.server.call_roll(
            unit, permit=request.permit, plan=request.plan, training=request.training
        )


def entries(world, unit="north"):
    with world.unit(unit).node() as node:
        return [(entry.kind, entry.body) for entry in node.ledger.entries()]


def kinds(world, unit="north"):
    return [kind for kind, _ in entries(world, unit)]


def answered(reply):
    return isinstance(reply, wire.EvaluateReply)


@pytest.fixture
def open_server(build, worlds):
    def make(rows=None, **changes):
        policy = changes.pop("policy", {})
        plan = worlds.make_plan(("north", "south"), **{"holdout": HELD_OUT, **changes})
        return worlds.Server(build(plan, rows=rows, **policy))

    return make


@pytest.fixture
def evaluator(open_server):
    return Evaluator(open_server())


def test_the_answer_is_a_receipt_and_the_tables_that_it_names(evaluator):
    reply = evaluator.send()
    request = evaluator.request()
    with evaluator.world.unit("north").node() as node:
        receipt = open_envelope(reply.receipt, Receipt, node.key.public, SIMULATION)
    tables = NoisedTables.from_bytes(reply.tables)
    assert (tables.run_id, tables.unit, len(tables.tables)) == ("eval-1", "north", 1)
    assert len(tables.tables[0]) == DEFAULT_BINS.size
    assert receipt.update == canonical.digest(reply.tables) == tables.digest
    assert receipt.event == evaluator.plan.exchange_event()
    assert (receipt.plan, receipt.permit) == (evaluator.plan.digest, evaluator.permit.digest)
    assert receipt.contract == evaluator.training[0].contract
    signed = open_envelope(request.order, Order, evaluator.server.key.public, SIMULATION)
    verify_receipt(receipt, signed, evaluator.permit, evaluator.plan)


def test_the_whole_run_is_reserved_before_a_row_is_read_and_a_repeat_gets_the_same_bytes(evaluator):
    request = evaluator.request()
    first = evaluator.send(request)
    assert kinds(evaluator.world) == ["open", "reserve", "order", "reply"]
    reserved = dict(entries(evaluator.world))["reserve"]
    assert reserved["event"]["mechanism"] == "discrete_laplace"
    assert reserved["exchanges"] == 1
    assert evaluator.send(request) == first
    assert kinds(evaluator.world) == ["open", "reserve", "order", "reply"]


def test_a_second_order_needs_a_spare_exchange(open_server):
    one, spare = (Evaluator(open_server(), spare_exchanges=number) for number in (0, 1))
    for evaluator in (one, spare):
        assert answered(evaluator.send())
    assert one.send(one.request(order={"attempt": 2})) == "order.attempts_exceeded"
    assert answered(spare.send(spare.request(order={"attempt": 2})))
    assert spare.send(spare.request(order={"attempt": 3})) == "order.attempts_exceeded"


def test_only_who_is_set_aside_is_counted_and_only_the_others_are_trained_on(evaluator):
    world, north = evaluator.world, {}
    with world.unit("north").node() as node:
        train = node.examples(world.plan)
        north["train"] = set(train.identifiers)
    assert answered(evaluator.send())
    with world.unit("north").node() as node:
        split = node.split(node.contract(world.plan.contract))
    everybody = {f"N{number:03d}" for number in range(40)}
    aside = {name for name in everybody if split.is_set_aside(name, HELD_OUT)}
    assert north["train"] == everybody - aside
    assert 0 < len(aside) < 40


def test_counts_are_those_of_the_customers_who_are_set_aside(open_server):
    """Seen through a noise that is nearly none: epsilon 100."""
    evaluator = Evaluator(open_server(policy={"epsilon_cap": 500.0}), epsilon=100.0)
    reply = evaluator.send()
    world = evaluator.world
    with world.unit("north").node() as node:
        split = node.split(node.contract(world.plan.contract))
    aside = [n for n in range(40) if split.is_set_aside(f"N{n:03d}", HELD_OUT)]
    labels = world.unit("north").setup.rows["churn"]
    (table,) = NoisedTables.from_bytes(reply.tables).tables
    half = DEFAULT_BINS.count
    positive = sum(labels[n] == "yes" for n in aside)
    assert (sum(table[half:]), sum(table[:half])) == (positive, len(aside) - positive)


def test_an_opted_out_customer_is_in_no_table(open_server):
    sums = []
    for out in ((), tuple(range(40))):
        evaluator = Evaluator(open_server(policy={"epsilon_cap": 500.0}), epsilon=100.0)
        for number in out:
            evaluator.world.unit("north").opt_out(f"N{number:03d}", "direct-marketing")
        sums.append(sum(NoisedTables.from_bytes(evaluator.send().tables).tables[0]))
    assert sums[0] > 0
    assert sums[1] == 0


def other_kind(evaluator):
    permit = evaluator.permit_with(kind="train")
    return evaluator.request(permit=permit)


def of_permit(**changes):
    return lambda evaluator: evaluator.request(permit=evaluator.permit_with(**changes))


def of_order(**changes):
    return lambda evaluator: evaluator.request(order=changes)


def with_part(**changes):
    def make(evaluator):
        found = {name: made(evaluator) for name, made in changes.items()}
        return evaluator.request(**found)

    return make


def later_plan(evaluator):
    plan = evaluator.plan.model_copy(update={"title": "Another one"})
    return sign_record(plan, evaluator.world.federation.author_key, SIMULATION)


def other_training(evaluator):
    plan = evaluator.training[0].model_copy(update={"title": "Another one"})
    return (sign_record(plan, evaluator.world.federation.author_key, SIMULATION),)


def heavy(evaluator):
    return (trained(evaluator.server, scale=1e6),)


def poisoned(scale):
    def make(server):
        return Evaluator(server, models=(trained(server, scale=scale),))

    return make


REFUSED = {
    "permit to train": (of_permit(kind="train"), "permit.other_kind"),
    "permit to score": (of_permit(kind="score"), "permit.other_kind"),
    "permit of another plan": (of_permit(plan=canonical.digest(b"")), "permit.other_plan"),
    "permit of more exchanges": (of_permit(exchanges=2), "permit.terms_differ"),
    "permit of another delta": (of_permit(delta=1e-6), "permit.terms_differ"),
    "permit of another purpose": (of_permit(purpose="service-quality"), "permit.terms_differ"),
    "permit of fewer answers": (of_permit(minimum_cohort=1), "permit.terms_differ"),
    "permit without this unit": (
        lambda e: e.request(permit=e.permit_with(cohort=e.permit.cohort[1:])),
        "permit.other_node",
    ),
    "expired permit": (
        lambda e: e.request(
            permit=e.permit_with(expires_at=e.world.clock.now() - timedelta(seconds=1))
        ),
        "permit.expired",
    ),
    "order to train": (of_order(exchange="train"), "permit.other_kind"),
    "order of a second round": (of_order(round=2), "order.round_out_of_range"),
    "order of another model": (of_order(model=canonical.digest(b"")), "order.model_mismatch"),
    "order for another unit": (
        lambda e: replace(e.request(), order=e.request("south").order),
        "order.other_unit",
    ),
    "another plan": (with_part(plan=later_plan), "permit.other_plan"),
    "plan by a stranger": (
        with_part(plan=lambda e: sign_record(e.plan, STRANGER, SIMULATION)),
        "signature.wrong_key",
    ),
    "training plan in its place": (
        with_part(plan=lambda e: e.server.plan),
        "signature.wrong_type",
    ),
    "another training plan": (with_part(training=other_training), "evaluation.other_training"),
    "another model's weights": (with_part(models=heavy), "order.model_mismatch"),
    "no cosignatures": (with_part(cosignatures=lambda _: ()), "log.cosignatures_missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bent_order_is_refused_before_anything_is_charged_and_the_straight_one_is_not(
    evaluator, name
):
    bend, code = REFUSED[name]
    assert evaluator.send(bend(evaluator)) == code
    assert kinds(evaluator.world) == ["open"]
    assert answered(evaluator.send())


@pytest.mark.parametrize("scale", [1e6, np.inf, np.nan])
def test_a_model_that_could_single_somebody_out_is_refused(open_server, scale):
    evaluator = poisoned(scale)(open_server())
    code = "weights.out_of_bounds" if scale == 1e6 else "weights.not_finite"
    assert evaluator.send() == code
    assert kinds(evaluator.world) == ["open"]
    assert answered(Evaluator(evaluator.server).send())


def attribute(name, *groups, **changes):
    return SensitiveAttribute(name=name, groups=groups, **changes)


@pytest.mark.parametrize(
    "bad",
    [
        attribute("gender", "f", "m"),
        attribute("channel", "shop", "unknown"),
        attribute("channel", "shop", "web", edges=(1.0,)),
    ],
)
def test_groups_that_the_contract_does_not_have_are_refused_before_anything_is_charged(
    open_server, bad
):
    server = open_server()
    bent, straight = (
        Evaluator(server, fairness=TableLayout(attributes=(one,), threshold=0.5))
        for one in (bad, attribute("channel", "shop", "web"))
    )
    assert bent.send() == bent.call_roll() == "policy.group_not_allowed"
    assert kinds(server.world) == ["open"]
    tables = NoisedTables.from_bytes(straight.send().tables).tables
    assert [len(table) for table in tables] == [DEFAULT_BINS.size, 2 * 4]


CENTRES = np.array([[-0.5, 0.0], [0.5, 0.0]])
IDS = (2, 1)


def segments_of(plan, centres=CENTRES, **changes):
    """The bytes of a segmentation of two segments, as a run of the plan could release it."""
    sums = NoisedSums(Placement(centres, 0.5), plan.release_terms, 2, np.full((2, 5), 20.0))
    return encode_segments(SegmentModel(replace(sums, **changes), IDS, newest=2))


@pytest.fixture
def segment_server(build, worlds):
    def make(**changes):
        world = build(worlds.make_segment_plan(), **changes)
        return worlds.Server(worlds.allow_segments(world))

    return make


def counter(server, **changes):
    """A server that has segments counted by channel; parts can be replaced."""
    layout = SegmentLayout(attributes=(attribute("channel", "shop", "web"),), segments=IDS)
    model = changes.pop("model", None) or segments_of(server.world.plan)
    values = {"models": (model,), "rows": "all", "segments": layout, "epsilon": 4.0}
    return Evaluator(server, **{**values, **changes})


def with_layout(**changes):
    layout = {"attributes": (attribute("channel", "shop", "web"),), "segments": IDS, **changes}
    return lambda server: counter(server, segments=SegmentLayout(**layout))


def with_model(**changes):
    return lambda server: counter(server, model=segments_of(server.world.plan, **changes))


def around_other_centres(server):
    """The plan's segmentation, and the bytes of another one in its place."""
    evaluator = counter(server)
    evaluator.models = (segments_of(server.world.plan, centres=CENTRES[::-1]),)
    order = {"model": evaluator.plan.models[0].artifact}
    evaluator.request = functools.partial(evaluator.request, order=order)
    return evaluator


BENT = {
    "other centres": (around_other_centres, "order.model_mismatch"),
    "other segments": (with_layout(segments=(1, 3)), "evaluation.other_segments"),
    "segments in another order": (with_layout(segments=(1, 2)), "evaluation.other_segments"),
    "one segment left out": (with_layout(segments=(2,)), "evaluation.other_segments"),
    "groups that the contract does not have": (
        with_layout(attributes=(attribute("gender", "f", "m"),)),
        "policy.group_not_allowed",
    ),
    "groups of an input": (
        with_layout(attributes=(attribute("tenure", "new", "old"),)),
        "policy.group_not_allowed",
    ),
    "no model of segments": (
        lambda server: counter(server, model=b"no model"),
        "segments.model_unreadable",
    ),
    "sums of more units than there are": (with_model(units=3), "segments.other_terms"),
    "less noise than the plan's": (
        with_model(terms=ReleaseTerms(0.1)),
        "segments.other_terms",
    ),
    "another number of inputs": (
        lambda server: counter(
            server,
            model=segments_of(
                server.world.plan, centres=np.zeros((2, 1)), blocks=np.full((2, 3), 20.0)
            ),
        ),
        "segments.other_features",
    ),
    "scores of segments": (
        lambda server: Evaluator(server, models=(segments_of(server.world.plan),)),
        "evaluation.no_scores",
    ),
}


def test_bent_orders_to_count_segments_are_refused_uncharged_and_the_straight_one_is_not(
    segment_server,
):
    server = segment_server()
    found = {name: bend(server).send() for name, (bend, _) in BENT.items()}
    assert found == {name: code for name, (_, code) in BENT.items()}
    assert kinds(server.world) == ["open"]
    straight = counter(server)
    (table,) = NoisedTables.from_bytes(straight.send().tables).tables
    assert len(table) == 2 * 2
    assert kinds(server.world) == ["open", "reserve", "order", "reply"]


def test_segments_of_a_model_that_scores_are_refused(open_server):
    server = open_server()
    evaluator = counter(server, model=trained(server))
    assert evaluator.send() == evaluator.call_roll() == "evaluation.no_segments"
    assert kinds(server.world) == ["open"]


def test_one_customer_moves_one_entry_of_the_table_by_one_and_an_opted_out_one_none(
    segment_server, worlds
):
    """From the row in the file to the bytes on the wire; all worlds draw the same noise."""
    rows = worlds.make_rows("north", 40)
    told = {"customer_id": "C000", "tenure": "3", "charge": "150", "product": "pro"}
    row = pl.DataFrame([{**told, "channel": "web", "churn": "yes"}], schema=rows.schema)
    table, sent = pl.concat([rows, row]), {}
    for name, each in (("without", rows), ("with", table), ("opted out", table)):
        server = segment_server(rows={"north": each})
        if name == "opted out":
            server.world.unit("north").opt_out("c000", worlds.PURPOSE)
        sent[name] = np.array(NoisedTables.from_bytes(counter(server).send().tables).tables[0])
    # She is of the web, and nearest to the first centre.
    assert (sent["with"] - sent["without"]).tolist() == [0, 0, 1, 0]
    assert sent["opted out"].tolist() == sent["without"].tolist()


def test_a_model_that_has_seen_all_rows_has_nothing_to_be_evaluated_on(open_server):
    evaluator = Evaluator(open_server(holdout=None))
    assert evaluator.send() == evaluator.call_roll() == "evaluation.not_held_out"
    dated = Evaluator(open_server(), rows="out_of_time")
    assert dated.send() == "evaluation.not_held_out"
    assert answered(Evaluator(open_server()).send())


def test_two_models_must_have_set_the_same_customers_aside(open_server, worlds):
    server = open_server()
    models = (trained(server, 1), trained(server, 2))
    plans = [server.world.plan.model_copy(update={"title": "B", "holdout": h}) for h in (0.3, 0.4)]
    for other, code in zip(plans, (None, "evaluation.not_held_out"), strict=True):
        evaluator = Evaluator(server, training=(server.world.plan, other), models=models)
        evaluator.permit = evaluator.permit_with(run_id=f"eval-{other.holdout}")
        reply = evaluator.send()
        if code:
            assert reply == code
        else:
            tables = NoisedTables.from_bytes(reply.tables).tables
            assert [len(table) for table in tables] == [DEFAULT_BINS.size] * 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"purposes": ["service-quality"]}, "policy.purpose_not_allowed"),
        ({"tasks": ["response"]}, "policy.task_not_allowed"),
        ({"minimum_cohort": 3}, "policy.cohort_too_small"),
        ({"run_epsilon_cap": 0.5}, "policy.epsilon_too_large"),
        ({"accepted_server_versions": ["0.0.1"]}, "policy.server_version_not_accepted"),
        ({"epsilon_cap": 1.0}, "budget.exceeded"),
    ],
)
def test_the_units_own_policy_has_the_last_word(evaluator, worlds, change, code):
    unit = evaluator.world.unit("north")
    before = unit.settings.read_text()
    lines = [line for line in before.splitlines() if line.split(" = ")[0] not in change]
    added = [f"{name} = {value!r}" for name, value in change.items()]
    unit.settings.write_text("\n".join([*lines, *added]).replace("'", '"') + "\n")
    assert evaluator.send() == code
    if not code.startswith("budget"):
        assert evaluator.call_roll() == code
    unit.settings.write_text(before)
    assert evaluator.call_roll() == "present"
    assert answered(evaluator.send())


def test_a_source_that_is_not_checked_is_counted_nowhere(evaluator):
    checks = evaluator.world.unit("north").state_dir / "checks"
    kept = {path: path.read_bytes() for path in checks.iterdir()}
    for path in kept:
        path.unlink()
    assert evaluator.send() == evaluator.call_roll() == "node.unavailable"
    assert kinds(evaluator.world) == ["open"]
    for path, data in kept.items():
        path.write_bytes(data)
    assert answered(evaluator.send())


def test_a_revoked_permit_is_not_obeyed(evaluator):
    federation, server = evaluator.world.federation, evaluator.server
    federation.offices["compliance"].revoke_permit(server.run_id, "A test.")
    evaluator.permit = evaluator.permit_with(run_id=server.run_id)
    assert evaluator.send() == "permit.revoked"


def test_nothing_is_counted_while_governance_cannot_witness_the_reservation(evaluator):
    federation = evaluator.world.federation
    assert evaluator.call_roll() == "present"
    federation.cut_off = True
    assert evaluator.send() == "node.unavailable"
    assert "reply" not in kinds(evaluator.world)
    federation.cut_off = False
    evaluator.permit = evaluator.permit_with(run_id="eval-2")
    assert answered(evaluator.send())


def test_the_journal_of_what_was_sent_lists_the_answer_with_its_event(evaluator):
    reply = evaluator.send()
    journal = journal_path(evaluator.world.unit("north").state_dir)
    last = load_departures(journal)[-1].departure
    assert (last.kind, last.run_id, last.round) == ("evaluate answer", "eval-1", 1)
    assert last.digest == reply.receipt.digest
    assert '"discrete_laplace"' in str(last.event)


def test_a_lost_split_key_stops_the_node_until_it_is_back(evaluator):
    assert answered(evaluator.send())
    key = evaluator.world.unit("north").state_dir / "split.key"
    data = key.read_bytes()
    key.unlink()
    evaluator.permit = evaluator.permit_with(run_id="eval-2")
    assert evaluator.send() == evaluator.call_roll() == "node.unavailable"
    assert not key.exists()
    key.write_bytes(data)
    key.chmod(0o600)
    assert answered(evaluator.send())
