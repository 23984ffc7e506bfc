"""If-Match: nobody acts on a state that they have not seen."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcore.errors import ConflictError


@pytest.fixture
def draft(world):
    return world.gateway("author").create_dpia(world.dpia(version=2))


def read(world, digest, role="author"):
    headers = {"Authorization": f"Bearer {world.api_keys[role]}"}
    return world.client.get(f"/v1/dpias/{digest}", headers=headers)


def act(world, digest, name, role, etag=None):
    headers = {"Authorization": f"Bearer {world.api_keys[role]}"}
    if etag is not None:
        headers["If-Match"] = etag
    body = {"act": name, "note": "read"}
    return world.client.post(f"/v1/dpias/{digest}/acts", json=body, headers=headers)


def test_an_act_names_the_state_that_was_read(world, draft):
    etag = read(world, draft).headers["ETag"]
    missing = act(world, draft, "submit", "author")
    assert (missing.status_code, missing.json()["code"]) == (428, "request.if_match_missing")
    assert read(world, draft).json()["state"] == "draft"
    assert act(world, draft, "submit", "author", etag).json() == {"state": "submitted"}


def test_an_act_on_a_state_of_before_is_refused_and_changes_nothing(world, draft):
    etag = read(world, draft).headers["ETag"]
    act(world, draft, "submit", "author", etag)
    stale = act(world, draft, "evaluate", "evaluator", etag)
    assert (stale.status_code, stale.json()["code"]) == (412, "request.if_match_failed")
    assert read(world, draft).json()["state"] == "submitted"
    fresh = read(world, draft).headers["ETag"]
    assert fresh != etag
    assert act(world, draft, "evaluate", "evaluator", f'"other", {fresh}').status_code == 200


def test_a_star_acts_on_whatever_is_there_and_a_weak_tag_on_nothing(world, draft):
    etag = read(world, draft).headers["ETag"]
    assert act(world, draft, "submit", "author", f"W/{etag}").status_code == 412
    assert act(world, draft, "submit", "author", "*").status_code == 200


@pytest.mark.databases
def test_of_many_who_have_read_the_same_one_acts(world, draft):
    etag = read(world, draft).headers["ETag"]
    act(world, draft, "submit", "author", etag)
    seen = read(world, draft).headers["ETag"]

    def evaluate(_number):
        return act(world, draft, "evaluate", "evaluator", seen).status_code

    with ThreadPoolExecutor(12) as pool:
        codes = sorted(pool.map(evaluate, range(24)))
    assert codes == [200] + [412] * 23


def test_the_gateway_reads_before_it_acts_and_tells_a_conflict(world, draft, monkeypatch):
    gateway = world.gateway("author")
    call = gateway._call

    def overtaken(method, path, *rest):
        if method == "POST":
            act(world, draft, "submit", "author", "*")
        return call(method, path, *rest)

    monkeypatch.setattr(gateway, "_call", overtaken)
    with pytest.raises(ConflictError, match=r"request\.if_match_failed"):
        gateway.act_on_dpia(draft, "submit", "ready")
