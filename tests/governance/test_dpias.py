"""DPIAs through the API: the way into force and out of it, and what follows."""

from datetime import timedelta

import pytest

from fedcore.dpias import DpiaDecision
from fedcore.errors import (
    ConflictError,
    InvalidRecordError,
    NotFoundError,
    RefusedError,
    TransitionError,
)
from fedcore.signing import open_envelope
from registry import documents, dpias
from registry.database import Database


def codes(call):
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.codes


def test_a_dpia_shows_its_state_and_its_acts(world):
    shown = world.get(f"/v1/dpias/{world.dpia().digest}", "auditor")
    assert shown["state"] == "in_force"
    assert [(act["act"], act["actor"]) for act in shown["acts"]] == [
        ("submit", "anna"),
        ("evaluate", "emil"),
        ("advise", "dora"),
        ("approve", "paul"),
    ]


def test_a_draft_is_stored_once_and_its_version_never_changes(world):
    author = world.gateway("author")
    draft = world.dpia(version=2)
    assert author.create_dpia(draft) == author.create_dpia(draft) == draft.digest
    with pytest.raises(ConflictError, match=r"dpia\.version_known"):
        author.create_dpia(world.dpia(version=2, title="Other"))
    assert author.create_dpia(world.dpia(version=3, title="Other"))


@pytest.mark.parametrize("version", [2**31, 2**53, 10**40])
def test_a_version_that_no_database_holds_is_refused(world, version):
    body = {**world.dpia().to_json(), "version": version}
    headers = {"Authorization": f"Bearer {world.api_keys['author']}"}
    answer = world.client.post("/v1/dpias", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
    assert world.gateway("author").create_dpia(world.dpia(version=2**31 - 1))


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_beyond_the_calendar_is_refused(world, moment):
    body = {**world.dpia(version=2).to_json(), "valid_until": moment}
    headers = {"Authorization": f"Bearer {world.api_keys['author']}"}
    answer = world.client.post("/v1/dpias", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
    body["valid_until"] = "2026-01-01T00:00:00+05:00"
    assert world.client.post("/v1/dpias", json=body, headers=headers).status_code == 201


def test_a_note_with_a_nul_is_refused_before_the_database_chokes_on_it(world):
    draft = world.gateway("author").create_dpia(world.dpia(version=2))
    with pytest.raises(InvalidRecordError, match="note"):
        world.gateway("author").act_on_dpia(draft, "submit", "a\0b")
    assert world.gateway("author").act_on_dpia(draft, "submit", "a\nb") == "submitted"


def test_an_unknown_dpia_is_not_found(world):
    with pytest.raises(NotFoundError, match=r"dpia\.unknown"):
        world.gateway("author").act_on_dpia(world.plan().digest, "submit", "n")


def test_expiry_shows_at_reading(world):
    path = f"/v1/dpias/{world.dpia().digest}"
    world.clock.tick(days=299)
    assert world.get(path, "auditor")["state"] == "in_force"
    world.clock.tick(days=1)
    assert world.get(path, "auditor")["state"] == "expired"


def test_a_person_in_two_roles_cannot_approve_their_own_dpia(world):
    draft = world.dpia(version=2)
    world.gateway("author").create_dpia(draft)
    for act, role in (("submit", "author"), ("evaluate", "evaluator"), ("advise", "dpo")):
        world.act(draft.digest, act, role)
    world.api_keys["anna as approver"] = world.gateway("admin").create_account("anna", "approver")

    def approve(role):
        return world.gateway(role).act_on_dpia(draft.digest, "approve", "n")

    assert codes(lambda: approve("anna as approver")) == ("dpia.same_person",)
    assert approve("approver") == "in_force"


def test_a_newer_version_in_force_supersedes_the_older_one(world):
    old = world.dpia()
    new = world.dpia(version=2)
    world.take_into_force(new)
    assert world.get(f"/v1/dpias/{old.digest}", "auditor")["state"] == "superseded"
    assert world.get(f"/v1/dpias/{new.digest}", "auditor")["state"] == "in_force"
    assert world.permit().dpia == new.digest


def test_an_older_version_never_comes_into_force_over_a_newer_one(world):
    world.gateway("compliance").act_on_dpia(world.dpia().digest, "suspend", "n")
    world.take_into_force(world.dpia(version=3))
    older = world.dpia(version=2)
    assert codes(lambda: world.take_into_force(older)) == ("dpia.newer_in_force",)
    assert world.get(f"/v1/dpias/{older.digest}", "auditor")["state"] == "advised"


@pytest.mark.parametrize(("act", "role"), [("suspend", "dpo"), ("withdraw", "author")])
def test_leaving_force_revokes_the_permits_under_it(world, act, role):
    world.permit("run-1")
    assert world.bulletin("north").revoked_runs == ()
    world.gateway(role).act_on_dpia(world.dpia().digest, act, "n")
    assert world.bulletin("north").revoked_runs == ("run-1",)
    assert codes(lambda: world.permit("run-2")) == ("dpia.not_in_force",)


def test_a_resumed_dpia_gives_permits_again_but_revives_none(world):
    world.permit("run-1")
    world.gateway("dpo").act_on_dpia(world.dpia().digest, "suspend", "n")
    world.gateway("approver").act_on_dpia(world.dpia().digest, "resume", "n")
    assert world.permit("run-2").run_id == "run-2"
    assert world.bulletin("north").revoked_runs == ("run-1",)


def test_every_state_that_counts_for_permits_is_signed_and_logged(world):
    digest = world.dpia().digest
    world.gateway("dpo").act_on_dpia(digest, "suspend", "n")
    database = Database(world.settings.database_url)
    with database.reading() as session:
        decisions = [
            open_envelope(envelope, DpiaDecision, world.governance_key, world.settings.realm)
            for envelope in documents.of_kind(session, DpiaDecision)
        ]
        stored = dpias.find(session, digest)
    database.close()
    assert [decision.state for decision in decisions] == ["in_force", "suspended"]
    assert stored is not None
    assert stored.decision == decisions[-1].digest
    assert decisions[-1].acts == stored.acts


def test_an_act_after_expiry_is_refused(world):
    draft = world.dpia(version=2, valid_until=world.clock.now + timedelta(hours=1))
    world.gateway("author").create_dpia(draft)
    world.clock.tick(hours=1)
    with pytest.raises(TransitionError, match=r"dpia\.expired"):
        world.gateway("author").act_on_dpia(draft.digest, "submit", "n")
    assert world.gateway("author").act_on_dpia(draft.digest, "withdraw", "n") == "withdrawn"
