"""An autoencoder is trained over units by one plan, and by another one segments are found in its
embedding: two permits, two runs of the real ServerApp and ClientApps, one ledger.
"""

import importlib.util
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto
from safetensors.numpy import load

from clients.segments import assign_segments, open_segments
from fedcore import canonical, wire
from fedcore.bundle import read_bundle
from fedcore.clusterings import CourseSpec, EmbeddingSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.errors import InvalidRecordError, MismatchError, NotFoundError, RefusedError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.learning_rules import Algorithm, Momentum
from fedcore.permits import public_n_of
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.privacy.clustering import nearest, noise_for_releases
from fedcore.record import Realm
from fedcore.rounds import Order
from fedcore.segments.artefact import decode_model
from fedcore.segments.groups import SegmentLayout
from fedcore.tasks.task import first_model
from fedcore.verify import verify_bundle
from fedcore.weights import encode_weights
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, UnitSetup
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PURPOSE, BAND, DELTA, CAP = "marketing", 512, 1e-5, 30.0
ROUNDS, STEPS = 3, 10
FIELDS, UNITS = ("recency", "spend", "visits", "age"), {"east": 600, "north": 400}
SECOND = Path(__file__).parents[2] / "docs" / "reference" / "verify_bundle.py"
AUTOENCODER = ModelSpec(kind="autoencoder", hidden=(6,), embedding=2)


def make_contract():
    fields = tuple(ContractField(name=f, kind="numeric", lower=-1, upper=1) for f in FIELDS)
    return Contract(
        contract_id="shoppers",
        version=1,
        title="Made-up shoppers",
        source="invented",
        subject=SubjectRule(column="id", namespace="shopper", normaliser="trim-upper/1"),
        fields=fields,
        label=Label(name="left", positive="yes", negative="no", horizon_days=30),
        purposes=(Purpose(id=PURPOSE, text="Marketing", basis="legitimate_interests"),),
        retention_days=365,
    )


def plan_of(model, rounds, privacy, algorithm=None):
    first = encode_weights(first_model("segmentation", model, len(FIELDS)))
    return TrainingPlan(
        title="Segments of shoppers",
        task="segmentation",
        purpose=PURPOSE,
        contract=make_contract().digest,
        features=tuple(Feature(field=field, encoding="scale") for field in FIELDS),
        units=tuple(UnitTerms(unit=unit, public_n=public_n_of(BAND)) for unit in UNITS),
        minimum_units=2,
        model=model,
        initial_model=canonical.digest(first),
        algorithm=algorithm,
        rounds=rounds,
        privacy=privacy,
    )


def training_plan():
    noise = noise_multiplier_for(8.0, DELTA, ROUNDS * STEPS, 1.0)
    terms = PrivacyTerms(l2_clip_norm=0.3, noise_multiplier=noise, local_steps=STEPS, delta=DELTA)
    algorithm = Algorithm(
        local_learning_rate=2.0, local_optimizer=Momentum(kind="momentum", momentum=0.7)
    )
    return plan_of(AUTOENCODER, ROUNDS, terms, algorithm)


def searching_plan(artifact):
    """Segments in the embedding of a trained autoencoder."""
    found = EmbeddingSpec(artifact=artifact, hidden=(6,), width=2)
    course = CourseSpec(
        segments=SegmentCount(least=2, most=4), spread=8, searches=1, refinements=1, embedding=found
    )
    rounds = course.terms.releases
    noise = noise_for_releases(8.0, DELTA, rounds)
    terms = PrivacyTerms(l2_clip_norm=course.l2_sensitivity, noise_multiplier=noise, delta=DELTA)
    return plan_of(ModelSpec(kind="centres", course=course), rounds, terms)


def make_rows(unit):
    """Return a unit's customers as text cells, and as numbers."""
    draw = np.random.default_rng([len(unit), UNITS[unit]])
    side = np.where(draw.random(UNITS[unit]) < 0.4, -0.5, 0.5)
    places = np.clip(side[:, None] + draw.normal(0, 0.1, (len(side), 4)), -1, 1).round(4)
    cells = {field: places[:, place].astype(str) for place, field in enumerate(FIELDS)}
    identifiers = [f"{unit[0].upper()}{number:05d}" for number in range(len(side))]
    frame = pl.DataFrame({"id": identifiers, **cells, "left": ["no"] * len(side)})
    return frame, places, side > 0


class World:
    """A federation in which both runs were done."""

    def __init__(self, root):
        contract = make_contract()
        self.federation = Federation(
            root, contract, ManualClock(START), SeededNoise(1), Terms(model_name="shoppers")
        )
        for unit in UNITS:
            self.federation.enrol(UnitSetup(unit, make_rows(unit)[0], BAND, CAP)).check()
        self.trained = training_plan()
        self.federation.put_in_force(make_dpia(self.trained, contract, CAP, START))
        self.federation.run(self.federation.register(self.trained), "train", lambda *_: None)
        self.autoencoder = self.evidence(1)
        artifact = canonical.digest(read_bundle(self.autoencoder).artifact)
        self.searched = searching_plan(artifact)
        self.orders = []
        self.federation.grid.tap = self._note
        self.federation.run(self.federation.register(self.searched), "search", lambda *_: None)
        self.segments = self.evidence(2)

    def _note(self, _node, request, reply):
        asked = message_from_proto(MessageProto.FromString(request))
        if asked.metadata.message_type == wire.TRAIN:
            self.orders.append(wire.read_train(asked.content))
        return reply

    def evidence(self, version):
        return self.federation.offices["compliance"].fetch_evidence("shoppers", version)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("embedded") / "world")
    yield made
    made.federation.close()


def test_segments_are_found_in_the_embedding_and_part_the_customers(world):
    centres = decode_model(read_bundle(world.segments).artifact).last.placement.centres
    assert centres.shape == (2, 2)
    weights = read_bundle(world.autoencoder).artifact
    encoder = world.searched.model.course.embedding.encoder(weights, len(FIELDS), 1e3)
    for unit in UNITS:
        _, rows, truth = make_rows(unit)
        found = nearest(encoder.places(rows), centres)
        agreement = np.mean(found == truth)
        assert max(agreement, 1 - agreement) > 0.95


def test_both_runs_are_charged_to_one_ledger_each_under_its_own_permit(world):
    events = [world.trained.run_event(), world.searched.run_event()]
    for unit in UNITS:
        with world.federation.units[unit].node() as node:
            # What another test has had evaluated comes behind them.
            assert node.ledger.events()[:2] == events
    epsilon = renyi_epsilon(events, DELTA)
    assert max(renyi_epsilon([event], DELTA) for event in events) < epsilon < 16.0


def test_a_unit_tells_its_customers_segments_with_the_autoencoders_bundle(world):
    unit = world.federation.units["north"]
    _, _, truth = make_rows("north")
    with unit.node() as node:
        with pytest.raises(MismatchError) as refused:
            open_segments(node, world.segments)
        assert refused.value.code == "segments.no_autoencoder"
        with pytest.raises(MismatchError) as refused:
            open_segments(node, world.segments, world.segments)
        assert refused.value.code == "order.model_mismatch"
        told = assign_segments(node, open_segments(node, world.segments, world.autoencoder))
    found = np.array([segment for _, segment in told.segments])
    assert set(found) == {1, 2}
    agreement = np.mean((found == found.max()) == truth)
    assert max(agreement, 1 - agreement) > 0.95


def test_cards_tell_an_autoencoder_and_segments_in_its_embedding(world):
    office = world.federation.offices["author"]
    autoencoder, segments = (office.fetch_card("shoppers", version, "md") for version in (1, 2))
    assert "autoencoder, layers of 6, 2 to its embedding, and back" in autoencoder
    assert "an autoencoder scores nobody" in autoencoder
    assert "in the embedding of an autoencoder" in segments
    assert "embedding 1" in segments
    assert "recency" not in segments.partition("What segments are like")[2].partition("##")[0]


def test_both_versions_are_verified_by_an_outsider(world):
    key = world.federation.governance_key.public
    spec: Any = importlib.util.spec_from_file_location("second_verifier_of_embeddings", SECOND)
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    for bundle in (world.autoencoder, world.segments):
        assert verify_bundle(bundle, key, Realm.SIMULATION).ok
        checks = second.check_bundle(bundle, key, "simulation")
        assert [name for name, ok, _ in checks if not ok] == []


def test_a_node_tells_places_by_no_other_autoencoder_than_the_plans(world):
    order = world.orders[-1]
    unit = Order.from_bytes(order.order.payload_bytes).unit
    weights = load(order.embedding)
    other = encode_weights({name: 2 * array for name, array in weights.items()})
    with world.federation.units[unit].node() as node:
        for embedding in (other, None):
            with pytest.raises(MismatchError) as refused:
                node.train(replace(order, embedding=embedding))
            assert refused.value.code == "order.model_mismatch"
        with pytest.raises(RefusedError) as ended:
            node.train(order)  # with the plan's own nothing is wrong but that the run is over
        assert ended.value.code == "order.run_closed"


def test_segments_in_an_embedding_are_counted_there_by_no_other_autoencoder(world):
    """Each unit counts whom it is told of, and answers no order with another autoencoder."""
    artifact = read_bundle(world.segments).artifact
    ids, sent = decode_model(artifact).ids, {}
    plan = EvaluationPlan(
        title="Sizes",
        models=(EvaluatedModel(artifact=canonical.digest(artifact), plan=world.searched.digest),),
        rows="all",
        # One count in eighty thousand gets any noise.
        epsilon=12.0,
        delta=DELTA,
        minimum_units=2,
        segments=SegmentLayout(segments=ids),
    )

    def tap(_node, request, reply):
        asked, answer = (
            message_from_proto(MessageProto.FromString(data)) for data in (request, reply)
        )
        if asked.metadata.message_type == wire.EVALUATE:
            tables = NoisedTables.from_bytes(wire.read_evaluate_reply(answer.content).tables)
            sent[tables.unit] = wire.read_evaluate(asked.content), tables.tables[0]
        return reply

    world.federation.grid.tap = tap
    world.federation.evaluate(plan, "sizes")
    for unit, (order, table) in sent.items():
        with world.federation.units[unit].node() as node:
            signed = open_segments(node, world.segments, world.autoencoder)
            told = [segment for _, segment in assign_segments(node, signed).segments]
            assert table == tuple(told.count(number) for number in ids)
            weights = load(order.embedding or b"")
            other = encode_weights({name: 2 * array for name, array in weights.items()})
            for embedding in (other, None):
                with pytest.raises(MismatchError) as refused:
                    node.evaluate(replace(order, embedding=embedding))
                assert refused.value.code == "order.model_mismatch"
    assert sent.keys() == UNITS.keys()


def test_a_server_starts_no_run_with_an_autoencoder_that_is_none_of_the_plan(world):
    segments = canonical.digest(read_bundle(world.segments).artifact)
    wrong = world.federation.register(searching_plan(segments))
    with pytest.raises(InvalidRecordError) as refused:
        world.federation.run(wrong, "wrong", lambda *_: None)
    assert refused.value.code == "weights.wrong_shape"
    unknown = world.federation.register(searching_plan("sha256:" + 64 * "0"))
    with pytest.raises(NotFoundError):
        world.federation.run(unknown, "unknown", lambda *_: None)
