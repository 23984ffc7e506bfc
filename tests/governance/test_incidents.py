"""Incidents through the API: in phases, each signed and logged; stops with them, or nothing."""

from datetime import timedelta

import pytest

from fedcore.errors import (
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidRecordError,
    NotFoundError,
    RefusedError,
)
from fedcore.incidents import (
    Incident,
    IncidentFacts,
    IncidentOpening,
    IncidentUpdate,
    StopTarget,
)
from fedcore.signing import Envelope
from fedcore.stops import Stop
from registry import log

HOUR = timedelta(hours=1)


def known(world, **changes):
    values = {
        "title": "A backup was lost",
        "nature": "Loss of confidentiality",
        "aware_at": world.clock(),
        "data_categories": ("contact data",),
        "subject_categories": ("customers",),
        "subjects_band": "100-999",
        "records_band": "1000-9999",
        "consequences": "Unwanted calls",
        "measures": "The disk was wiped from afar",
        "units": ("north",),
        "risk": "risk",
    }
    return IncidentFacts.model_validate({**values, **changes})


def opened(world, *stop, role="dpo", **changes):
    opening = IncidentOpening(facts=known(world, **changes), stop=stop)
    return world.open(world.gateway(role).open_incident(opening), Incident)


def updated(world, incident, *stop, close=False, role="dpo", **changes):
    facts = IncidentFacts.model_validate({**dict(incident.facts), **changes})
    update = IncidentUpdate(facts=facts, close=close, stop=stop)
    gateway = world.gateway(role)
    return world.open(gateway.update_incident(incident.number, update, incident.digest), Incident)


def duties(world, number):
    found = world.gateway("auditor").fetch_incident(number)
    return {duty.duty: duty.overdue for duty in found.duties}


def kinds(world):
    return [item["entry"]["kind"] for item in world.get("/v1/log/entries", "auditor")["entries"]]


def test_phases_are_signed_logged_and_linked_and_the_clock_runs(world):
    first = opened(world, role="compliance")
    assert (first.number, first.phase, first.previous, first.status) == (1, 1, None, "open")
    assert (first.reported_by, first.reported_at) == ("carla", world.clock())
    assert duties(world, 1) == {"notify_authority": False}
    world.clock.tick(hours=72, seconds=1)
    assert duties(world, 1) == {"notify_authority": True, "explain_delay": True}
    second = updated(
        world,
        first,
        authority="CNIL",
        authority_notified_at=world.clock(),
        delay_reason="the reader of the mailbox was away",
    )
    assert (second.phase, second.previous, second.reported_by) == (2, first.digest, "dora")
    assert duties(world, 1) == {}
    third = updated(world, second, close=True)
    assert (third.status, third.previous) == ("closed", second.digest)
    assert kinds(world)[-3:] == ["incident"] * 3
    history = world.gateway("auditor").fetch_incident(1)
    assert [e.digest for e in history.phases] == [first.digest, second.digest, third.digest]
    assert history.document == third.digest
    reopened = updated(world, third, risk="high_risk")
    assert reopened.status == "open"
    assert duties(world, 1) == {"tell_subjects": False}


def test_an_incident_is_closed_only_when_its_duties_are_met(world):
    first = opened(world)
    with pytest.raises(RefusedError) as refused:
        updated(world, first, close=True)
    assert refused.value.codes == ("incident.duty_open",)
    assert duties(world, 1) == {"notify_authority": False}
    closed = updated(world, first, close=True, risk="unlikely_risk", risk_reason="encrypted")
    assert closed.status == "closed"


def test_the_clock_is_not_set_back_and_may_be_set_earlier(world):
    first = opened(world)
    world.clock.tick(hours=2)
    with pytest.raises(RefusedError, match=r"incident\.clock_moved"):
        updated(world, first, aware_at=first.facts.aware_at + HOUR)
    assert updated(world, first, aware_at=first.facts.aware_at - HOUR).phase == 2


@pytest.mark.parametrize("field", ["aware_at", "authority_notified_at", "subjects_told_at"])
def test_nothing_has_been_done_that_is_still_to_come(world, field):
    def claim(moment):
        return {"authority": "CNIL", field: moment}

    first = opened(world)
    with pytest.raises(ExpiredError, match=r"request\.from_future"):
        opened(world, **claim(world.clock() + HOUR))
    if field != "aware_at":
        with pytest.raises(ExpiredError, match=r"request\.from_future"):
            updated(world, first, **claim(world.clock() + HOUR))
    assert opened(world, **claim(world.clock())).number == 2


def test_an_incident_pulls_the_kill_switch_and_another_person_lifts_it(world):
    world.permit("run-1")
    first = opened(world, StopTarget(scope="unit", subject="north"))
    assert world.bulletin("south").revoked_runs == ("run-1",)
    with pytest.raises(RefusedError, match=r"stop\.in_force"):
        world.permit("run-2")
    (pulled,) = first.stops
    [listed] = world.get("/v1/stops", "auditor")["stops"]
    stop = world.open(Envelope.from_json(listed["envelope"]), Stop)
    assert (stop.digest, stop.reason) == (pulled, "incident 1: A backup was lost")
    with pytest.raises(RefusedError, match=r"stop\.same_person"):
        world.gateway("dpo").lift_stop(pulled, "closed")
    world.gateway("compliance").lift_stop(pulled, "closed")
    world.permit("run-2")
    second = updated(world, first, StopTarget(scope="all"), role="compliance")
    assert len(second.stops) == 1
    assert world.bulletin("north").revoked_runs == ("run-1", "run-2")


@pytest.mark.parametrize("place", [1, 2, 3])
def test_when_any_of_its_entries_cannot_be_logged_nothing_is_half_written(
    world, monkeypatch, place
):
    """The stop, the revocation that follows from it, and the incident itself."""
    world.permit("run-1")
    before = kinds(world)
    append, count = log.append, []

    def failing(*arguments):
        count.append(1)
        if len(count) == place:
            raise ConflictError("log.full", "the disk is full")
        append(*arguments)

    monkeypatch.setattr(log, "append", failing)
    with pytest.raises(ConflictError):
        opened(world, StopTarget(scope="all"))
    monkeypatch.setattr(log, "append", append)
    assert len(count) == place
    assert kinds(world) == before
    assert world.get("/v1/stops", "auditor")["stops"] == []
    assert world.gateway("auditor").list_incidents() == ()
    assert world.bulletin("north").revoked_runs == ()
    assert opened(world, StopTarget(scope="all")).number == 1
    assert kinds(world)[len(before) :] == ["stop", "revocation", "incident"]


def test_who_has_not_seen_the_newest_phase_does_not_update(world):
    first = opened(world)
    second = updated(world, first, role="compliance")
    with pytest.raises(ConflictError, match=r"request\.if_match_failed"):
        updated(world, first)
    assert updated(world, second).phase == 3
    headers = {"Authorization": f"Bearer {world.api_keys['dpo']}"}
    body = IncidentUpdate(facts=known(world)).model_dump(mode="json")
    url = "/v1/incidents/1/updates"
    answer = world.client.post(url, json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (428, "request.if_match_missing")
    tag = world.client.get("/v1/incidents/1", headers=headers).headers["ETag"]
    answer = world.client.post(url, json=body, headers={**headers, "If-Match": tag})
    assert answer.status_code == 200


def test_the_same_request_under_a_key_is_done_once(world):
    headers = {"Authorization": f"Bearer {world.api_keys['dpo']}", "Idempotency-Key": "k"}
    body = IncidentOpening(facts=known(world)).model_dump(mode="json")
    first, again = (
        world.client.post("/v1/incidents", json=body, headers=headers) for _ in range(2)
    )
    assert (first.status_code, again.content) == (201, first.content)
    update = IncidentUpdate(facts=known(world)).model_dump(mode="json")
    seen = world.gateway("dpo").fetch_incident(1).document
    headers |= {"If-Match": f'"{seen}"', "Idempotency-Key": "u"}
    first, again = (
        world.client.post("/v1/incidents/1/updates", json=update, headers=headers) for _ in range(2)
    )
    assert (first.status_code, again.content) == (200, first.content)
    assert len(world.gateway("dpo").fetch_incident(1).phases) == 2


def test_incidents_are_listed_as_they_stand_now(world):
    first, second = opened(world), opened(world, title="A laptop was lost")
    updated(world, first, close=True, risk="unlikely_risk", risk_reason="encrypted")
    found = world.gateway("auditor").list_incidents()
    assert [view.number for view in found] == [1, 2]
    assert world.open(found[0].envelope, Incident).status == "closed"
    assert [duty.duty for duty in found[1].duties] == ["notify_authority"]
    assert found[1].document == second.digest


def test_only_compliance_and_the_dpo_write_and_who_oversees_reads(world):
    opened(world)
    opening = IncidentOpening(facts=known(world))
    for role in ("admin", "author", "operator", "approver", "evaluator", "auditor"):
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            world.gateway(role).open_incident(opening)
    for role in ("author", "operator", "approver", "evaluator"):
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            world.gateway(role).fetch_incident(1)
    for role in ("admin", "auditor", "compliance", "dpo"):
        assert world.gateway(role).fetch_incident(1).number == 1


def test_an_unknown_incident_and_a_stop_of_nothing_are_refused(world):
    with pytest.raises(NotFoundError, match=r"incident\.unknown"):
        world.gateway("dpo").fetch_incident(1)
    update = IncidentUpdate(facts=known(world))
    with pytest.raises(NotFoundError, match=r"incident\.unknown"):
        world.gateway("dpo").update_incident(1, update, "sha256:" + "0" * 64)
    assert opened(world).number == 1
    assert world.gateway("dpo").fetch_incident(1).number == 1
    target = StopTarget.model_construct(scope="unit", subject=None)
    opening = IncidentOpening.model_construct(facts=known(world), stop=(target,))
    with pytest.raises(InvalidRecordError, match=r"request\.invalid"):
        world.gateway("dpo").open_incident(opening)


def test_the_record_of_an_incident_is_kept(world):
    document = opened(world).digest
    headers = {"Authorization": f"Bearer {world.api_keys['dpo']}"}
    body = {"document": document, "reason": "case 12"}
    answer = world.client.post("/v1/log/erasures", json=body, headers=headers)
    assert answer.json()["code"] == "document.not_erasable"
    assert world.gateway("dpo").fetch_incident(1).document == document
