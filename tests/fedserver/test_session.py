"""What a server holds an evaluation of segments against, whatever governance has permitted."""

from typing import Any

import numpy as np
import pytest

from fedcore import canonical
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.errors import MismatchError, NotFoundError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.plans import ModelSpec, PrivacyTerms
from fedcore.privacy.clustering import Placement
from fedcore.record import Realm
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.groups import SegmentLayout
from fedcore.segments.noised import NoisedSums
from fedcore.signing import SigningKey, sign_record
from fedserver.session import open_session

PRODUCTION = Realm.PRODUCTION
# In the order of the model's centres.
IDS = (2, 1)
COURSE = CourseSpec(segments=SegmentCount(least=2, most=4), spread=8)
CONTRACT = Contract(
    contract_id="telco",
    version=1,
    title="Telco",
    source="The public tariff sheet",
    subject=SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
    fields=(ContractField(name="tenure", kind="numeric", lower=0, upper=72),),
    label=Label(name="churn", positive="Yes", negative="No", horizon_days=30),
    purposes=(Purpose(id="retention", text="Keep customers", basis="legitimate_interests"),),
    retention_days=365,
)


class Governance:
    """Governance as the server sees it: it permits whatever plan it is asked for."""

    def __init__(self, plans, model, permit, keys):
        self.training, self.evaluation = plans
        self.model, self.permit, self.keys = model, permit, keys
        self.key = SigningKey.generate()

    def fetch_handovers(self):
        return ()

    def fetch_plan(self, digest):
        if digest != self.training.digest:
            raise NotFoundError("plan.unknown", "there is no plan with this digest")
        return sign_record(self.training, self.keys["author"], PRODUCTION)

    def fetch_evaluation_plan(self, digest):
        return sign_record(self.evaluation, self.keys["author"], PRODUCTION)

    def request_permit(self, plan, run_id, kind):
        tries = self.evaluation.exchanges
        terms = {"plan": plan, "run_id": run_id, "kind": kind, "contract": CONTRACT.digest}
        some = {"rounds": 1, "exchanges": tries, "attempts": tries, "delta": self.evaluation.delta}
        return sign_record(self.permit.model_copy(update=terms | some), self.key, PRODUCTION)

    def fetch_artifact(self, digest):
        return self.model

    def fetch_contract(self, digest):
        return sign_record(CONTRACT, self.key, PRODUCTION)


@pytest.fixture
def permitted(plan, permit, keys):
    """Open the session of an evaluation that counts these segments of a model of two."""
    privacy = PrivacyTerms(l2_clip_norm=COURSE.l2_sensitivity, noise_multiplier=8.0, delta=1e-5)
    changes = {
        "contract": CONTRACT.digest,
        "model": ModelSpec(kind="centres", course=COURSE),
        "algorithm": None,
        "rounds": COURSE.terms.releases,
        "privacy": privacy,
    }
    training = type(plan)(**{**dict(plan), **changes})
    placement = Placement(np.array([[-0.5], [0.5]]), 0.5)
    sums = NoisedSums(placement, training.release_terms, 3, np.full((2, 3), 400.0))
    model = encode_model(SegmentModel(sums, IDS, newest=2))

    def open_of(ids):
        evaluation = EvaluationPlan(
            title="Who is in which segment",
            models=(EvaluatedModel(artifact=canonical.digest(model), plan=training.digest),),
            rows="all",
            segments=SegmentLayout(segments=ids),
            epsilon=1.0,
            delta=1e-5,
            minimum_units=2,
        )
        governance: Any = Governance((training, evaluation), model, permit, keys)
        names = (evaluation.digest, "eval-1")
        return open_session(governance, governance.key.public, keys["server"], PRODUCTION, names)

    return open_of


@pytest.mark.parametrize("ids", [(1, 2), (2, 3), (2,), (2, 1, 3)])
def test_no_order_is_signed_that_counts_other_segments_than_the_model_has(permitted, ids):
    """Governance has permitted it, and each unit would refuse the order."""
    assert permitted(IDS).plan.segments.segments == IDS
    with pytest.raises(MismatchError) as refused:
        permitted(ids)
    assert refused.value.code == "evaluation.other_segments"
