"""Idempotency-Key: the same request is done once, another one under its key not at all."""

from datetime import timedelta

import pytest

from fedcore.signing import SigningKey

STOP = {"scope": "all", "reason": "an incident"}


def post(world, path, body, key, role="dpo", **headers):
    sent = {"Authorization": f"Bearer {world.api_keys[role]}", **headers}
    if key is not None:
        sent["Idempotency-Key"] = key
    return world.client.post(path, json=body, headers=sent)


def stops(world):
    return len(world.get("/v1/stops", "auditor")["stops"])


def test_the_same_request_under_a_key_is_done_once_and_answered_alike(world):
    first = post(world, "/v1/stops", STOP, "k-1")
    world.clock.tick(minutes=5)
    again = post(world, "/v1/stops", STOP, "k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert stops(world) == 1
    assert post(world, "/v1/stops", STOP, "k-2").content != first.content
    assert post(world, "/v1/stops", STOP, None).status_code == 201
    assert stops(world) == 3


def test_another_request_under_a_known_key_is_refused_and_does_nothing(world):
    post(world, "/v1/stops", STOP, "k-1")
    other = post(world, "/v1/stops", {**STOP, "reason": "another"}, "k-1")
    assert (other.status_code, other.json()["code"]) == (409, "request.key_reused")
    elsewhere = post(world, f"/v1/dpias/{world.dpia().digest}/acts", STOP, "k-1")
    assert elsewhere.status_code == 422
    assert stops(world) == 1


def test_a_key_is_an_accounts_own(world):
    post(world, "/v1/stops", STOP, "k-1", "dpo")
    assert post(world, "/v1/stops", STOP, "k-1", "compliance").status_code == 201
    assert stops(world) == 2


def test_a_key_is_forgotten_after_its_time(make_world, ready):
    world = make_world(ready, idempotency_valid_s=3600)
    first = post(world, "/v1/stops", STOP, "k-1")
    world.clock.now += timedelta(seconds=3600)
    assert post(world, "/v1/stops", STOP, "k-1").content == first.content
    world.clock.now += timedelta(seconds=1)
    assert post(world, "/v1/stops", STOP, "k-1").content != first.content
    assert stops(world) == 2


def test_a_refusal_is_decided_anew_under_the_same_key(world):
    pulled = post(world, "/v1/stops", STOP, None).json()
    assert pulled["payload"]
    body = {"plan": world.plan().digest, "run_id": "run-1"}
    refused = post(world, "/v1/permits", body, "k-1", "operator")
    assert refused.json()["codes"] == ["stop.in_force"]
    [listed] = world.get("/v1/stops", "auditor")["stops"]
    world.gateway("compliance").lift_stop(listed["stop"], "closed")
    granted = post(world, "/v1/permits", body, "k-1", "operator")
    assert granted.status_code == 200
    assert post(world, "/v1/permits", body, "k-1", "operator").content == granted.content


def test_an_act_that_is_sent_again_succeeds_though_the_state_has_changed(world):
    dpia = world.dpia(version=2)
    digest = world.gateway("author").create_dpia(dpia)
    read = world.client.get(
        f"/v1/dpias/{digest}", headers={"Authorization": f"Bearer {world.api_keys['author']}"}
    )
    act = {"act": "submit", "note": "ready"}
    sent = {"path": f"/v1/dpias/{digest}/acts", "body": act, "role": "author"}
    match = {"If-Match": read.headers["ETag"]}
    first = post(world, sent["path"], act, "k-1", "author", **match)
    again = post(world, sent["path"], act, "k-1", "author", **match)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json() == {"state": "submitted"}
    assert post(world, sent["path"], act, None, "author", **match).status_code == 412


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 65, "a/b"])
def test_a_key_of_another_form_is_refused(world, key):
    response = post(world, "/v1/stops", STOP, key.encode())
    assert (response.status_code, response.json()["code"]) == (422, "request.invalid")
    assert stops(world) == 0


def test_the_answer_that_holds_an_api_key_is_kept_nowhere(world):
    body = {"name": "olga", "role": "operator", "public_key": SigningKey.generate().public}
    made = post(world, "/v1/accounts", body, "k-1", "admin")
    again = post(world, "/v1/accounts", body, "k-1", "admin")
    assert (made.status_code, again.status_code) == (201, 409)
    assert made.json()["api_key"].rpartition("_")[2].encode() not in world.stored()
