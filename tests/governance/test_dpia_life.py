"""What acts on a DPIA say, and what follows: the long way, controllers, conditions, 0.2."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from fedcore.contracts import Contract
from fedcore.dpia_sections import LegalEntity
from fedcore.dpias import (
    ActDetails,
    ActRecord,
    Bindings,
    Condition,
    DpiaDecision,
    DpiaV1,
    RiskV1,
)
from fedcore.errors import ConflictError, RefusedError, TransitionError
from fedcore.permits import PermitRenewal
from fedcore.record import Realm
from fedcore.verify import verify_bundle
from registry import documents, dpias
from registry.database import Database


def codes(call):
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.codes


def dpia_v1(world, **changes):
    """A DPIA as version 0.2 wrote it."""
    bound = world.dpia().bindings
    risk = RiskV1(
        id="r",
        text="t",
        severity_before=3,
        likelihood_before=3,
        measures=("noise",),
        severity_after=2,
        likelihood_after=1,
    )
    values = {
        "dpia_id": "old",
        "version": 1,
        "title": "t",
        "description": "d",
        "necessity": "n",
        "legal_basis": "f",
        "risks": (risk,),
        "data_subject_rights": "opt out",
        "bindings": Bindings(**bound.model_dump()),
        "valid_until": world.clock.now + timedelta(days=10),
    }
    return DpiaV1(**{**values, **changes})


def stored_by_0_2(world, state, *acts):
    """Store a DPIA of 0.2 with its acts; return its digest."""
    record = dpia_v1(world)
    database = Database(world.settings.database_url)
    with database.writing() as session:
        dpias.append(session, record, "anna", world.clock.now)
        for place, (act, actor) in enumerate(acts):
            done = ActRecord(act=act, actor=actor, note="n", acted_at=world.clock.now)
            dpias.append_act(session, record.digest, done, place)
        dpias.set_state(session, record.digest, state)
    database.close()
    return record.digest


def published(world):
    envelope = world.gateway().fetch_contract(world.plan().contract)
    return world.open(envelope, Contract)


def test_a_draft_of_the_schema_before_is_refused_with_the_way_out(world):
    headers = {"Authorization": f"Bearer {world.api_keys['author']}"}
    answer = world.client.post("/v1/dpias", json=dpia_v1(world).to_json(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "dpia.schema_outdated")
    assert "dpia/2" in answer.json()["detail"]
    draft = stored_by_0_2(world, "draft")
    assert codes(lambda: world.gateway("author").act_on_dpia(draft, "submit", "n")) == (
        "dpia.schema_outdated",
    )


def test_a_dpia_of_the_schema_before_goes_on_gates_verifies_and_expires(world, model_bytes):
    world.gateway("author").act_on_dpia(world.dpia().digest, "withdraw", "n")
    old = stored_by_0_2(world, "evaluated", ("submit", "anna"), ("evaluate", "emil"))
    world.act(old, "advise", "dpo")
    assert world.gateway("approver").act_on_dpia(old, "approve", "n") == "in_force"
    assert isinstance(world.gateway("auditor").fetch_dpia(old).record, DpiaV1)
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok
    world.clock.tick(days=10)
    assert world.gateway("auditor").fetch_dpia(old).state == "expired"


def test_an_incomplete_draft_is_kept_but_not_submitted(world):
    author = world.gateway("author")
    draft = author.create_dpia(world.dpia(version=2, necessity=None, retention=()))
    with pytest.raises(TransitionError) as caught:
        author.act_on_dpia(draft, "submit", "n")
    assert caught.value.codes == ("dpia.incomplete",)
    for named in ("necessity (Art. 35(7)(b))", "retention.checkpoints", "retention.updates"):
        assert named in caught.value.public
    complete = author.create_dpia(world.dpia(version=3))
    assert author.act_on_dpia(complete, "submit", "n") == "submitted"


def test_the_long_way_through_every_state(world):
    later = world.clock.now + timedelta(days=2)
    digest = world.gateway("author").create_dpia(world.dpia(version=2, effective_from=later))
    steps = [
        ("submit", "author", "submitted"),
        ("request_changes", "evaluator", "changes_requested"),
        ("revise", "author", "draft"),
        ("submit", "author", "submitted"),
        ("evaluate", "evaluator", "evaluated"),
        ("comment", "compliance", "evaluated"),
        ("request_advice", "evaluator", "dpo_review"),
        ("advise", "dpo", "advised"),
        ("request_approval", "dpo", "pending_approval"),
        ("consult_authority", "approver", "prior_consultation"),
        ("answer_of_authority", "compliance", "pending_approval"),
        ("approve", "approver", "approved"),
    ]
    for act, role, expected in steps:
        judged = act in ("advise", "answer_of_authority")
        details = ActDetails(verdict="favourable") if judged else None
        assert world.gateway(role).act_on_dpia(digest, act, "n", details) == expected, act

    def enter():
        return world.gateway("compliance").act_on_dpia(digest, "enter_force", "n")

    assert codes(enter) == ("dpia.not_effective_yet",)
    assert world.permit("run-1").dpia == world.dpia().digest
    world.clock.tick(days=2)
    assert enter() == "in_force"
    assert world.permit("run-2").dpia == digest
    assert world.gateway("auditor").fetch_dpia(world.dpia().digest).state == "superseded"


def test_what_an_act_says_is_kept_and_signed(world):
    due_at = world.clock.now + timedelta(days=2)
    condition = Condition(id="audit", text="t", owner="o", due_at=due_at)
    digest = world.gateway("author").create_dpia(world.dpia(version=2))
    world.gateway("author").act_on_dpia(digest, "submit", "n")
    world.gateway("evaluator").act_on_dpia(digest, "evaluate", "n")
    unfavourable = ActDetails(verdict="unfavourable", entity="company")
    world.gateway("dpo").act_on_dpia(digest, "advise", "n", unfavourable)
    conditional = ActDetails(conditions=(condition,), overruling_reason="r")
    approve = world.gateway("approver").act_on_dpia
    assert approve(digest, "approve_with_conditions", "n", conditional) == "in_force"
    shown = world.gateway("auditor").fetch_dpia(digest)
    assert shown.acts[2].verdict == "unfavourable"
    assert shown.acts[3].overruling_reason == "r"
    assert shown.open_conditions == (condition,)
    database = Database(world.settings.database_url)
    with database.reading() as session:
        newest = documents.of_kind(session, DpiaDecision)[-2:]
    database.close()
    signed = [world.open(envelope, DpiaDecision) for envelope in newest]
    assert shown.acts in [decision.acts for decision in signed]


def conditional_force(world):
    """Take a version into force under a condition that is due in two hours; return its digest."""
    due_at = world.clock.now + timedelta(hours=2)
    condition = Condition(id="audit", text="t", owner="o", due_at=due_at)
    digest = world.gateway("author").create_dpia(world.dpia(version=2))
    for act, role in (("submit", "author"), ("evaluate", "evaluator"), ("advise", "dpo")):
        world.act(digest, act, role)
    details = ActDetails(conditions=(condition,))
    world.gateway("approver").act_on_dpia(digest, "approve_with_conditions", "n", details)
    return digest


def test_no_permit_outlives_a_condition_and_an_overdue_one_suspends(world):
    digest = conditional_force(world)
    due_at = world.clock.now + timedelta(hours=2)
    assert world.permit("run-1").expires_at == due_at
    world.clock.tick(hours=1)
    renewed = world.gateway("operator").renew_permit("run-1")
    assert world.open(renewed, PermitRenewal).expires_at == due_at
    world.clock.tick(hours=1)
    assert world.gateway("auditor").fetch_dpia(digest).state == "suspended"
    assert codes(lambda: world.permit("run-2")) == ("dpia.not_in_force",)
    assert codes(lambda: world.gateway("operator").renew_permit("run-1")) == ("dpia.not_in_force",)
    fulfilled = ActDetails(fulfilled=("audit",))
    approver = world.gateway("approver")
    assert approver.act_on_dpia(digest, "fulfil_conditions", "n", fulfilled) == "in_force"
    assert world.permit("run-2").expires_at == world.clock.now + timedelta(days=1)


@pytest.mark.databases
def test_a_run_under_a_condition_ends_in_evidence_that_verifies(world, model_bytes):
    conditional_force(world)
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_a_review_stops_nothing_and_ends_in_evidence_that_verifies(world, model_bytes):
    """Permits, renewals, the run and its bundle are what they are without a review."""
    dpia = world.dpia().digest
    permit = world.permit("run-0")
    world.gateway("dpo").act_on_dpia(dpia, "open_review", "The gap between groups has grown.")
    shown = world.gateway("auditor").fetch_dpia(dpia)
    assert (shown.state, shown.review) == ("in_force", shown.acts[-1])
    assert shown.review.note == "The gap between groups has grown."
    assert world.bulletin("north").revoked_runs == ()
    world.clock.tick(hours=1)
    renewed = world.open(world.gateway("operator").renew_permit("run-0"), PermitRenewal)
    assert renewed.permit == permit.digest
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok
    assert codes(
        lambda: world.gateway("dpo").act_on_dpia(dpia, "close_review", "No worse than noise.")
    ) == ("dpia.review_same_person",)
    close = world.gateway("approver").act_on_dpia
    assert close(dpia, "close_review", "No worse than noise.") == "in_force"
    shown = world.gateway("auditor").fetch_dpia(dpia)
    assert (shown.review, shown.acts[-1].note) == (None, "No worse than noise.")


@pytest.mark.parametrize("act", ["open_review", "close_review"])
def test_a_review_is_opened_with_a_reason_and_closed_with_a_finding(world, act):
    path = f"/v1/dpias/{world.dpia().digest}/acts"
    role = {"open_review": "dpo", "close_review": "compliance"}[act]
    if act == "close_review":
        world.act(world.dpia().digest, "open_review", "dpo")

    def send(note):
        headers = {"Authorization": f"Bearer {world.api_keys[role]}", "If-Match": "*"}
        return world.client.post(path, json={"act": act, "note": note}, headers=headers)

    assert send("").status_code == 422
    assert send("looked at every group").status_code == 200


def test_each_controller_whose_unit_takes_part_advises_and_approves(world):
    entities = tuple(
        LegalEntity(id=f"{unit}-ltd", name="n", role="joint_controller", contact="c", units=(unit,))
        for unit in ("north", "south", "east")
    )
    digest = world.gateway("author").create_dpia(world.dpia(version=2, entities=entities))
    world.gateway("author").act_on_dpia(digest, "submit", "n")
    world.gateway("evaluator").act_on_dpia(digest, "evaluate", "n")
    names = ("north-ltd", "south-ltd")
    advise, approve = (world.gateway(role).act_on_dpia for role in ("dpo", "approver"))
    states = [
        *(
            advise(digest, "advise", "n", ActDetails(entity=name, verdict="favourable"))
            for name in names
        ),
        *(approve(digest, "approve", "n", ActDetails(entity=name)) for name in names),
    ]
    assert states == ["dpo_review", "advised", "pending_approval", "in_force"]
    assert world.permit().dpia == digest


def test_a_new_version_of_the_contract_suspends_what_is_in_force_on_the_older_one(world):
    world.permit("run-1")
    dpia = world.dpia().digest
    publish = world.gateway("compliance").publish_contract
    other = published(world).model_copy(update={"contract_id": "other", "version": 2})
    publish(other)
    publish(published(world))
    assert world.gateway("auditor").fetch_dpia(dpia).state == "in_force"
    newer = published(world).model_copy(update={"version": 2})
    publish(newer)
    shown = world.gateway("auditor").fetch_dpia(dpia)
    assert (shown.state, shown.acts[-1].act, shown.acts[-1].actor) == (
        "suspended",
        "suspend",
        "carla",
    )
    assert world.bulletin("north").revoked_runs == ("run-1",)
    assert codes(lambda: world.permit("run-2")) == ("dpia.not_in_force",)
    world.gateway("approver").act_on_dpia(dpia, "resume", "The change is slight.")
    publish(newer)
    assert world.permit("run-2").dpia == dpia


def test_a_dpia_is_shown_as_expiring_before_its_end(world):
    dpia = world.dpia().digest
    world.clock.tick(days=269)
    assert not world.gateway("auditor").fetch_dpia(dpia).expiring
    world.clock.tick(days=1)
    assert world.gateway("auditor").fetch_dpia(dpia).expiring
    world.clock.tick(days=30)
    assert not world.gateway("auditor").fetch_dpia(dpia).expiring


def test_the_authority_s_time_is_shown(world):
    risk = world.dpia().risks[0].model_copy(update={"likelihood_after": 3})
    risks = (risk, *world.dpia().risks[1:])
    digest = world.gateway("author").create_dpia(world.dpia(version=2, risks=risks))
    for act, role in (("submit", "author"), ("evaluate", "evaluator"), ("advise", "dpo")):
        world.act(digest, act, role)

    def approve():
        return world.gateway("approver").act_on_dpia(digest, "approve", "n")

    assert codes(approve) == ("dpia.consultation_needed",)
    world.gateway("approver").act_on_dpia(digest, "consult_authority", "n")
    due_at = world.clock.now + timedelta(weeks=8)
    assert world.gateway("auditor").fetch_dpia(digest).authority_due_at == due_at
    world.clock.now = due_at
    world.gateway("compliance").act_on_dpia(digest, "close_consultation", "n")
    assert approve() == "in_force"


@pytest.mark.databases
def test_of_fifty_approvals_at_once_one_wins(world):
    reference = world.gateway("author").create_dpia(world.dpia(version=2))
    for act, role in (("submit", "author"), ("evaluate", "evaluator"), ("advise", "dpo")):
        world.act(reference, act, role)
    approver = world.gateway("approver")

    def approve(_number):
        try:
            return approver.act_on_dpia(reference, "approve", "read")
        except (TransitionError, ConflictError) as error:
            return error.code

    with ThreadPoolExecutor(50) as pool:
        said = list(pool.map(approve, range(50)))
    first, *others = sorted(said, key=lambda answer: answer != "in_force")
    assert first == "in_force"
    assert set(others) <= {"request.if_match_failed", "dpia.act_not_allowed"}
    assert len(others) == 49
