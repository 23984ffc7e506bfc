"""A small run on paper: plan, permit and keys; and Flower's side of a message."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from flwr.supercore.task_identity import TaskIdentity

from fedcore.learning_rules import Algorithm
from fedcore.permits import NodeGrant, Permit
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.record import Realm
from fedcore.signing import SigningKey

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SIZES = {"north": 48, "south": 96, "west": 768}


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Flower wants to know on whose behalf a message is made."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="session")
def start():
    return START


@pytest.fixture(scope="session")
def digest():
    return lambda text: f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.fixture(scope="session")
def keys():
    """One key for each party."""
    return {name: SigningKey.generate() for name in (*SIZES, "server", "author", "stranger")}


@pytest.fixture(scope="session")
def plan(digest):
    return TrainingPlan(
        title="Churn",
        task="churn",
        purpose="retention",
        contract=digest("contract"),
        features=(Feature(field="tenure", encoding="scale"),),
        units=tuple(UnitTerms(unit=unit, public_n=size) for unit, size in SIZES.items()),
        minimum_units=2,
        model=ModelSpec(kind="logistic"),
        initial_model=digest("initial"),
        algorithm=Algorithm(local_learning_rate=0.5, server_momentum=0.9, average_last=2),
        rounds=5,
        privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
        max_abs_weight=10.0,
    )


@pytest.fixture(scope="session")
def permit(plan, keys, digest):
    return Permit(
        run_id="run-1",
        realm=Realm.PRODUCTION,
        plan=plan.digest,
        contract=plan.contract,
        dpia=digest("dpia"),
        dpia_decision=digest("decision"),
        task=plan.task,
        purpose=plan.purpose,
        cohort=tuple(
            NodeGrant(unit=unit, node_key=keys[unit].public, epsilon=3.0) for unit in SIZES
        ),
        minimum_cohort=2,
        author_key=keys["author"].public,
        server_key=keys["server"].public,
        rounds=plan.rounds,
        exchanges=plan.exchanges,
        attempts=plan.attempts,
        delta=plan.privacy.delta,
        min_opt_out_epoch=100,
        accepted_versions=("0.1.0", "0.2.0"),
        issued_at=START,
        not_before=START,
        expires_at=START + timedelta(days=1),
    )
