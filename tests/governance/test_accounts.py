"""Accounts end and come back: an API key that is revoked opens nothing."""

import pytest

from fedcore.errors import ConflictError, ForbiddenError, NotFoundError, RefusedError
from fedcore.gateway_http import HttpGateway
from fedcore.signing import SigningKey


@pytest.fixture
def people(make_world, begin):
    return make_world(begin("people"))


def reads(world, api_key):
    headers = {"Authorization": f"Bearer {api_key}"}
    response = world.client.get("/v1/models", headers=headers)
    return response.status_code, response.json().get("code")


def test_a_revoked_api_key_opens_nothing(people):
    key = people.api_keys["auditor"]
    assert reads(people, key) == (200, None)
    people.gateway("admin").revoke_account("ada", "auditor")
    assert reads(people, key) == (401, "auth.revoked")
    people.gateway("admin").revoke_account("ada", "auditor")
    assert reads(people, key) == (401, "auth.revoked")


def test_only_the_account_that_is_named_ends(people):
    people.gateway("admin").create_account("ada", "dpo")
    people.gateway("admin").revoke_account("ada", "dpo")
    assert reads(people, people.api_keys["auditor"]) == (200, None)
    assert reads(people, people.api_keys["dpo"]) == (200, None)


def test_an_account_comes_back_with_another_api_key(people):
    people.gateway("admin").revoke_account("ada", "auditor")
    fresh = people.gateway("admin").create_account("ada", "auditor")
    assert reads(people, fresh) == (200, None)
    assert reads(people, people.api_keys["auditor"]) == (401, "auth.invalid")
    with pytest.raises(ConflictError, match=r"account\.exists"):
        people.gateway("admin").create_account("ada", "auditor")


def test_who_signs_comes_back_with_the_same_key_only(people):
    admin, public = people.gateway("admin"), people.keys["operator"].public
    admin.revoke_account("otto", "operator")
    with pytest.raises(ConflictError, match=r"account\.key_differs"):
        admin.create_account("otto", "operator", SigningKey.generate().public)
    fresh = admin.create_account("otto", "operator", public)
    assert HttpGateway(people.client, fresh).list_units() == ()


def test_an_account_that_nobody_has_cannot_be_revoked(people):
    with pytest.raises(NotFoundError, match=r"account\.unknown"):
        people.gateway("admin").revoke_account("nobody", "auditor")


def test_the_last_administrator_stays(people):
    admin = people.gateway("admin")
    with pytest.raises(ConflictError, match=r"account\.last_admin"):
        admin.revoke_account("admin", "admin")
    second = HttpGateway(people.client, admin.create_account("bea", "admin"))
    second.revoke_account("admin", "admin")
    with pytest.raises(ForbiddenError, match=r"auth\.revoked"):
        admin.create_account("eve", "auditor")
    with pytest.raises(ConflictError, match=r"account\.last_admin"):
        second.revoke_account("bea", "admin")


def test_the_plans_of_a_revoked_author_get_no_permit(world):
    world.gateway("admin").revoke_account("anna", "author")
    with pytest.raises(RefusedError) as caught:
        world.permit()
    assert caught.value.codes == ("plan.author_unknown",)
    world.gateway("admin").create_account("anna", "author", world.keys["author"].public)
    assert world.permit().plan == world.plan().digest
