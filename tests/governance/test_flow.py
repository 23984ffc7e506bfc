"""The whole way of a model, from the first account to a bundle that verifies offline."""

from fedcore.models import ModelVersion
from fedcore.record import Realm
from fedcore.verify import verify_bundle


def test_a_run_ends_in_a_bundle_that_verifies_with_the_public_key_alone(world, model_bytes):
    permit = world.run()
    envelope = world.gateway("operator").register_model("run-1", "churn", model_bytes)
    model = world.open(envelope, ModelVersion)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    found = verify_bundle(bundle, world.governance_key, Realm.SIMULATION)
    assert [check for check in found.checks if not check.ok] == []
    assert found.ok
    assert model.permit == permit.digest
