"""Model versions, their evidence, and the log that holds both."""

from io import BytesIO

import pytest

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.bundle import read_bundle
from fedcore.canonical import digest
from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError, RefusedError
from fedcore.gateway_http import HttpGateway
from fedcore.models import Checkpoint, LogEntry, ModelVersion
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey
from fedcore.verify import verify_bundle, verify_log_export


def register(world, content, run_id="run-1", name="churn"):
    envelope = world.gateway("operator").register_model(run_id, name, content)
    return world.open(envelope, ModelVersion)


def test_a_finished_run_becomes_a_version_once(world, model_bytes):
    permit = world.run()
    model = register(world, model_bytes)
    assert (model.version, model.permit, model.simulation) == (1, permit.digest, True)
    assert model.artifact == digest(model_bytes)
    world.clock.tick(minutes=1)
    assert register(world, model_bytes) == model
    with pytest.raises(ConflictError, match=r"model\.run_known"):
        register(world, model_bytes, name="other")
    listed = world.get("/v1/models", "auditor")["models"]
    assert [(item["name"], item["version"]) for item in listed] == [("churn", 1)]


def test_versions_of_a_name_count_up(world, model_bytes):
    for number in (1, 2):
        world.run(f"run-{number}")
        assert register(world, model_bytes, f"run-{number}").version == number
    shown = Envelope.from_json(world.get("/v1/models/churn/2", "auditor"))
    assert world.open(shown, ModelVersion).run_id == "run-2"


def test_an_unfinished_run_becomes_no_model(world, model_bytes):
    permit = world.permit()
    with pytest.raises(RefusedError, match=r"model\.run_incomplete"):
        register(world, model_bytes)
    first = world.round(permit, 1, None)
    with pytest.raises(RefusedError, match=r"model\.run_incomplete"):
        register(world, model_bytes)
    world.round(permit, 2, first)
    assert register(world, model_bytes).version == 1


def test_only_the_released_bytes_become_a_model(world, model_bytes):
    world.run()
    with pytest.raises(RefusedError, match=r"model\.artifact_differs"):
        register(world, model_bytes + b" ")
    register(world, model_bytes)


def test_bytes_that_are_no_tensors_become_no_model(world):
    permit = world.permit()
    first = world.round(permit, 1, None)
    receipts = [world.receipt(permit, unit, 2) for unit in ("north", "south")]
    garbage = b"not tensors"
    world.submit(world.report(receipts, first, released=digest(garbage)), receipts)
    with pytest.raises(InvalidRecordError, match=r"model\.artifact_unreadable"):
        register(world, garbage)


@pytest.mark.databases
def test_epsilon_counts_void_rounds_too(world, model_bytes):
    permit, plan = world.permit(), world.plan()
    north = [world.receipt(permit, "north", 1)]
    void = world.report(north, status="void", unavailable=("south",), model_out=north[0].model_in)
    world.submit(void, north)
    again = [world.receipt(permit, unit, 1, attempt=2) for unit in ("north", "south")]
    first = world.report(again, void)
    world.submit(first, again)
    world.round(permit, 2, first)
    claims = {claim.unit: claim for claim in register(world, model_bytes).epsilon}
    for unit, times in (("north", 3), ("south", 2)):
        events = [plan.round_event()] * times
        assert claims[unit].claim == pytest.approx(renyi_epsilon(events, 1e-5))
        assert claims[unit].pld == pytest.approx(pld_epsilon(events, 1e-5))
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_a_log_that_never_was_is_exported_as_a_receipt_names_it_and_found(world, model_bytes):
    """A node can sign any position; the export says what the log can prove, and no more."""
    permit = world.permit()
    lie = LogPosition(size=10_000, root="ab" * 32)
    receipts = [world.receipt(permit, "north", 1, log=lie), world.receipt(permit, "south", 1)]
    first = world.report(receipts)
    world.submit(first, receipts)
    world.round(permit, 2, first)
    register(world, model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    report = verify_bundle(bundle, world.governance_key, Realm.SIMULATION)
    failed = {check.name: check.text for check in report.checks if not check.ok}
    assert set(failed) == {"log.seen", "log.one_history"}
    assert "north saw in round 1" in failed["log.seen"]


def test_the_lowest_epoch_of_the_accepted_rounds_is_claimed(world, model_bytes):
    permit = world.permit()
    first = world.round(permit, 1, None)
    epoch = world.bulletin("north").epoch
    world.clock.tick(hours=2)
    world.round(permit, 2, first)
    claimed = register(world, model_bytes).opt_out_epochs
    assert [(item.unit, item.epoch) for item in claimed] == [("north", epoch), ("south", epoch)]


def test_a_revoked_run_gives_no_model_but_one_registered_before_stays(world, model_bytes):
    world.run()
    world.gateway("dpo").revoke_permit("run-1", "complaint")
    with pytest.raises(RefusedError, match=r"permit\.revoked"):
        register(world, model_bytes)
    world.run("run-2")
    model = register(world, model_bytes, "run-2")
    world.gateway("dpo").revoke_permit("run-2", "later complaint")
    assert register(world, model_bytes, "run-2") == model


def test_another_operator_cannot_register_the_runs_model(world, model_bytes):
    world.run()
    stranger = world.gateway("admin").create_account(
        "second", "operator", SigningKey.generate().public
    )
    with pytest.raises(RefusedError, match=r"permit\.other_server"):
        HttpGateway(world.client, stranger).register_model("run-1", "churn", model_bytes)
    assert register(world, model_bytes).version == 1


def test_an_unknown_model_has_no_evidence(world):
    with pytest.raises(NotFoundError, match=r"model\.unknown"):
        world.gateway("auditor").fetch_evidence("churn", 1)


def test_evidence_holds_the_revocation_and_only_the_cohorts_cosignatures(world, model_bytes):
    world.run()
    register(world, model_bytes)
    world.clock.tick(minutes=1)
    world.gateway("dpo").revoke_permit("run-1", "later complaint")
    world.enrol("west")
    world.cosign()
    seen = world.bulletin("west").log
    cosignature = world.cosignature("west", seen)
    world.gateway("operator").submit_cosignatures([cosignature])
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    evidence = read_bundle(bundle)
    assert evidence.revocation is not None
    assert len(evidence.cosignatures) == 2
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_evidence_without_enough_cosignatures_says_so(world, model_bytes):
    world.run()
    world.cosign()  # before the model was in the log
    register(world, model_bytes)
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    found = verify_bundle(bundle, world.governance_key, Realm.SIMULATION)
    assert not found.ok
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_the_exported_log_verifies_offline_and_no_longer_after_one_entry_was_dropped(
    world, model_bytes
):
    world.run()
    register(world, model_bytes)
    headers = {"Authorization": f"Bearer {world.api_keys['auditor']}"}
    export = world.client.get("/v1/log/export", headers=headers).content
    found = verify_log_export(BytesIO(export), world.governance_key, Realm.SIMULATION)
    assert found.ok
    shorter = b"".join(export.splitlines(keepends=True)[:-1])
    assert not verify_log_export(BytesIO(shorter), world.governance_key, Realm.SIMULATION).ok


def test_the_shown_entries_lead_to_the_signed_root(world, model_bytes):
    world.run()
    register(world, model_bytes)
    entries = [
        LogEntry.from_json(item["entry"])
        for item in world.get("/v1/log/entries", "auditor")["entries"]
    ]
    shown = Envelope.from_json(world.get("/v1/log/checkpoint", "auditor"))
    checkpoint = world.open(shown, Checkpoint)
    leaves = [merkle.leaf_hash(entry.to_bytes()) for entry in entries]
    assert checkpoint.log.size == len(leaves)
    assert checkpoint.log.root == merkle.root_hash(leaves).hex()
    part = world.get("/v1/log/entries?after=2&limit=3", "auditor")["entries"]
    assert [item["index"] for item in part] == [2, 3, 4]
