"""A plan orders segments, and the real ServerApp and ClientApps find them over three units."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from fedcore import canonical
from fedcore.clusterings import Continuation, CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.models import ModelVersion
from fedcore.permits import public_n_of
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.clustering import nearest, noise_for_releases
from fedcore.segments.artefact import decode_model
from fedcore.signing import open_envelope
from fedcore.tasks.task import first_model
from fedcore.weights import encode_weights
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, UnitSetup
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PURPOSE = "marketing"
BAND = 1024
# Where the true segments are, between public bounds, and which of them a unit's customers are of.
MIDDLES = np.array([[-0.6, 0.5, 0.0], [0.5, 0.5, 0.4], [0.2, -0.6, -0.5], [-0.5, -0.5, 0.6]])
UNITS = {"east": (1400, (0.4, 0.3, 0.2, 0.1)), "north": (900, (0.0, 0.5, 0.3, 0.2))}
UNITS["west"] = (700, (0.3, 0.0, 0.2, 0.5))
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


def make_plan(units=tuple(UNITS), epsilon=4.0, **course):
    searched = CourseSpec(segments=SegmentCount(least=2, most=8), spread=16, **course)
    model, rounds = ModelSpec(kind="centres", course=searched), searched.terms.releases
    first = encode_weights(first_model("segmentation", model, len(FIELDS)))
    return TrainingPlan(
        title="Segments of shoppers",
        task="segmentation",
        purpose=PURPOSE,
        contract=make_contract().digest,
        features=tuple(Feature(field=field, encoding="scale") for field in FIELDS),
        units=tuple(UnitTerms(unit=unit, public_n=public_n_of(BAND)) for unit in units),
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


def make_rows(unit, seed=1):
    """Return a unit's customers as text cells, and the true segment of each."""
    count, shares = UNITS[unit]
    draw = np.random.default_rng([seed, len(unit), count])
    truth = draw.choice(len(MIDDLES), count, p=shares)
    places = np.clip(MIDDLES[truth] + draw.normal(0, 0.13, (count, 3)), -1, 1)
    cells = np.round((places + 1) * 500, 2).astype(str)
    columns = {field: cells[:, place] for place, field in enumerate(FIELDS)}
    identifiers = [f"{unit[0].upper()}{seed}{number:05d}" for number in range(count)]
    return pl.DataFrame({"id": identifiers, **columns, "left": ["no"] * count}), truth


def segments_of(model, unit, seed=1):
    """Return the ids that a unit's customers have by a model, told where their rows are."""
    rows, truth = make_rows(unit, seed)
    places = rows.select(pl.col(FIELDS).cast(pl.Float64)).to_numpy() / 500 - 1
    return np.array(model.ids)[nearest(places, model.last.placement.centres)], truth


def artefact_of(federation, version):
    operator = federation.offices["operator"]
    envelope = operator.fetch_model("shoppers", version)
    found = open_envelope(
        envelope, ModelVersion, federation.governance_key.public, federation_realm()
    )
    return found, decode_model(operator.fetch_artifact(found.artifact))


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    root = tmp_path_factory.mktemp("segments") / "world"
    made = Federation(
        root, make_contract(), ManualClock(START), SeededNoise(1), Terms(model_name="shoppers")
    )
    for unit in UNITS:
        made.enrol(UnitSetup(unit, make_rows(unit)[0], BAND, 20.0)).check()
    made.put_in_force(make_dpia(make_plan(), made.contract, 20.0, START))
    yield made
    made.close()


def test_it(federation):
    federation.run(federation.register(make_plan()), "run-1", print)
