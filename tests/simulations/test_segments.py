"""A plan orders segments, and the real ServerApp and ClientApps find them over three units."""

import importlib.util
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from clients.segments import assign_segments, open_segments
from fedcore import canonical
from fedcore.bundle import read_bundle
from fedcore.clusterings import Continuation, CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.errors import RefusedError
from fedcore.models import ModelVersion
from fedcore.permits import public_n_of
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.clustering import nearest, noise_for_releases
from fedcore.record import Realm
from fedcore.segments.artefact import decode_model
from fedcore.tasks.task import first_model
from fedcore.verify import verify_bundle
from fedcore.weights import encode_weights
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, UnitSetup
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PURPOSE = "marketing"
BAND = 512
# Where the true segments are, between public bounds, and which of them a unit's customers are of.
MIDDLES = np.array([[-0.6, 0.5, 0.0], [0.5, 0.5, 0.4], [0.2, -0.6, -0.5], [-0.5, -0.5, 0.6]])
UNITS = {"east": (700, (0.4, 0.3, 0.2, 0.1)), "north": (450, (0.0, 0.5, 0.3, 0.2))}
UNITS["west"] = (350, (0.3, 0.0, 0.2, 0.5))
SECOND = Path(__file__).parents[2] / "docs" / "reference" / "verify_bundle.py"
FIELDS = ("recency", "spend", "visits")


def make_contract():
    return Contract(
        contract_id="shoppers",
        version=1,
        title="Made-up shoppers",
        source="invented",
        subject=SubjectRule(column="id", namespace="shopper", normaliser="trim-upper/1"),
        fields=tuple(ContractField(name=f, kind="numeric", lower=0, upper=1000) for f in FIELDS),
        label=Label(name="left", positive="yes", negative="no", horizon_days=30),
        purposes=(Purpose(id=PURPOSE, text="Marketing", basis="legitimate_interests"),),
        retention_days=365,
    )


def make_plan(epsilon=4.0, fields=FIELDS, **course):
    """Return a plan of four releases; the number of segments is for the run to find."""
    segments = SegmentCount(least=2, most=8)
    searched = CourseSpec(segments=segments, spread=16, searches=1, refinements=1, **course)
    model, rounds = ModelSpec(kind="centres", course=searched), searched.terms.releases
    first = encode_weights(first_model("segmentation", model, len(fields)))
    return TrainingPlan(
        title="Segments of shoppers",
        task="segmentation",
        purpose=PURPOSE,
        contract=make_contract().digest,
        features=tuple(Feature(field=field, encoding="scale") for field in fields),
        units=tuple(UnitTerms(unit=unit, public_n=public_n_of(BAND)) for unit in UNITS),
        minimum_units=2,
        model=model,
        initial_model=canonical.digest(first),
        rounds=rounds,
        privacy=PrivacyTerms(
            l2_clip_norm=searched.l2_sensitivity,
            noise_multiplier=noise_for_releases(epsilon, 1e-5, rounds),
            delta=1e-5,
        ),
    )


def make_rows(unit, seed):
    """Return a unit's customers as text cells, and the true segment of each."""
    count, shares = UNITS[unit]
    draw = np.random.default_rng([seed, len(unit), count])
    truth = draw.choice(len(MIDDLES), count, p=shares)
    places = np.clip(MIDDLES[truth] + draw.normal(0, 0.13, (count, 3)), -1, 1)
    cells = np.round((places + 1) * 500, 2).astype(str)
    columns = {field: cells[:, place] for place, field in enumerate(FIELDS)}
    identifiers = [f"{unit[0].upper()}{seed}{number:05d}" for number in range(count)]
    return pl.DataFrame({"id": identifiers, **columns, "left": ["no"] * count}), truth


def segments_of(model, unit, seed):
    """Return the ids that a unit's customers have by a model, told where their rows are."""
    rows, truth = make_rows(unit, seed)
    places = rows.select(pl.col(FIELDS).cast(pl.Float64)).to_numpy() / 500 - 1
    return np.array(model.ids)[nearest(places, model.last.placement.centres)], truth


def ids_by_truth(model, seed):
    """Return which id most customers of each true segment have, and the agreement of both."""
    told = [segments_of(model, unit, seed) for unit in UNITS]
    ids, truth = (np.concatenate(each) for each in zip(*told, strict=True))
    most = {one: int(np.bincount(ids[truth == one]).argmax()) for one in range(len(MIDDLES))}
    return most, adjusted_rand_score(truth, ids)


def model_of(federation, version):
    """Return a registered version, and the segments that it is."""
    operator = federation.offices["operator"]
    evidence = read_bundle(operator.fetch_evidence("shoppers", version))
    found = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
    return found, decode_model(operator.fetch_artifact(found.artifact))


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Two runs: the second one, over new customers, continues the first one's ids."""
    root = tmp_path_factory.mktemp("segments") / "world"
    made = Federation(
        root, make_contract(), ManualClock(START), SeededNoise(1), Terms(model_name="shoppers")
    )
    for unit in UNITS:
        made.enrol(UnitSetup(unit, make_rows(unit, 1)[0], BAND, 9.0)).check()
    made.put_in_force(make_dpia(make_plan(), made.contract, 20.0, START))
    made.run(made.register(make_plan()), "run-1")
    for enrolled in made.units.values():
        enrolled.write_rows(make_rows(enrolled.name, 2)[0])
        enrolled.check()
    made.tick(hours=1)
    first, _ = model_of(made, 1)
    known = Continuation(artifact=first.artifact, farthest=0.5)
    made.run(made.register(make_plan(continues=known)), "run-2")
    yield made
    made.close()


@pytest.fixture(scope="module")
def models(federation):
    return [model_of(federation, version) for version in (1, 2)]


@pytest.mark.parametrize("version", [1, 2])
def test_the_segments_that_there_are_are_found(models, version):
    _, model = models[version - 1]
    most, agreement = ids_by_truth(model, version)
    assert len(model.ids) == len(set(most.values())) == len(MIDDLES)
    assert agreement > 0.93
    sizes = dict(zip(model.ids, model.last.counts, strict=True))
    truth = np.concatenate([make_rows(unit, version)[1] for unit in UNITS])
    counts = np.bincount(truth, minlength=len(MIDDLES))
    errors = [abs(sizes[most[one]] - count) for one, count in enumerate(counts)]
    assert max(errors) < 4 * model.last.count_scale + 0.05 * len(truth)


def test_a_segment_keeps_its_id_over_retraining_whatever_the_order_of_centres(models):
    (_, first), (_, second) = models
    assert ids_by_truth(first, 1)[0] == ids_by_truth(second, 2)[0]
    assert (sorted(first.ids), first.newest) == ([1, 2, 3, 4], 4)
    assert (sorted(second.ids), second.newest) == ([1, 2, 3, 4], 4)


def test_a_version_says_what_each_unit_was_charged_for_all_releases(federation, models):
    plan = make_plan()
    claim = renyi_epsilon([plan.run_event()], plan.delta)
    assert 3.5 < claim <= 4.0
    for version, _ in models:
        assert {each.unit: each.claim for each in version.epsilon} == dict.fromkeys(UNITS, claim)
        assert len(version.receipts) == plan.rounds * len(UNITS)


def test_what_a_plan_continues_must_be_there_and_have_its_features(federation, models):
    missing = Continuation(artifact="sha256:" + "0" * 64, farthest=0.5)
    unknown = federation.register(make_plan(continues=missing))
    with pytest.raises(RefusedError) as error:
        federation.run(unknown, "run-3")
    assert error.value.codes == ("plan.other_segments",)
    known = Continuation(artifact=models[0][0].artifact, farthest=0.5)
    narrow = federation.register(make_plan(fields=FIELDS[:2], continues=known))
    with pytest.raises(RefusedError) as other:
        federation.run(narrow, "run-4")
    assert other.value.codes == ("plan.other_segments",)


@pytest.mark.parametrize("version", [1, 2])
def test_both_verifiers_accept_the_evidence_of_segments(federation, version):
    bundle = federation.offices["compliance"].fetch_evidence("shoppers", version)
    key = federation.governance_key.public
    report = verify_bundle(bundle, key, Realm.SIMULATION)
    assert [check for check in report.checks if not check.ok] == []
    spec: Any = importlib.util.spec_from_file_location("second_verifier_of_segments", SECOND)
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    checks = second.check_bundle(bundle, key, "simulation")
    assert [name for name, ok, _ in checks if not ok] == []
    assert {name for name, _, _ in checks} <= {check.name for check in report.checks}


@pytest.mark.parametrize(
    ("epsilon", "code"), [(15.0, "budget.exceeded"), (25.0, "dpia.epsilon_cap_exceeded")]
)
def test_more_than_a_unit_or_its_dpia_allows_is_refused_before_anything_is_charged(
    federation, epsilon, code
):
    with federation.units["east"].node() as node:
        before = node.ledger.head()
    plan = federation.register(make_plan(epsilon=epsilon))
    with pytest.raises(RefusedError) as error:
        federation.run(plan, f"run-of-{epsilon:g}")
    assert error.value.codes == (code,)
    with federation.units["east"].node() as node:
        assert node.ledger.head() == before


def test_the_card_of_a_version_tells_its_segments_and_their_shares_since_the_one_it_continues(
    federation, models
):
    page = federation.offices["author"].fetch_card("shoppers", 2, "md")
    assert "| Segment | Version 1 | Version 2 | Change |" in page
    most, _ = ids_by_truth(models[1][1], 2)
    truth = np.concatenate([make_rows(unit, 2)[1] for unit in UNITS])
    rows = re.findall(r"^\| (\d) \| [^|]+ \| ([\d,]+) to ([\d,]+) \|", page, re.M)
    told = {int(one): (low, high) for one, low, high in rows}
    assert sorted(told) == [1, 2, 3, 4]
    for segment, one in most.items():
        low, high = (int(end.replace(",", "")) for end in told[one])
        slack = high - low + 0.05 * len(truth)
        assert low - slack < (truth == segment).sum() < high + slack
    drawn = federation.offices["author"].fetch_card("shoppers", 2, "html")
    assert drawn.count("<svg ") == 2


def test_each_unit_s_node_tells_its_own_customers_segments_from_the_evidence(federation, models):
    bundle = federation.offices["compliance"].fetch_evidence("shoppers", 2)
    for unit in UNITS:
        ids, _ = segments_of(models[1][1], unit, 2)
        keys = make_rows(unit, 2)[0]["id"]
        with federation.units[unit].node() as node:
            found = assign_segments(node, open_segments(node, bundle))
        assert dict(found.segments) == dict(zip(keys, ids.tolist(), strict=True))
