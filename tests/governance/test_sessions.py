"""Passwords, tokens, and everything that ends them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcore.errors import ConflictError, ForbiddenError, InvalidRecordError
from fedcore.gateway_http import HttpGateway
from governance import passwords
from governance.decisions.sign_in import ACCOUNT_ALLOWANCE, ADDRESS_ALLOWANCE

pytestmark = pytest.mark.usefixtures("quick_passwords")

PASSWORD = "four plain words in a row"
OTHER = "another four plain words"


@pytest.fixture
def people(make_world, begin):
    made = make_world(begin("people"))
    made.gateway("dpo").set_password(PASSWORD)
    return made


def sign_in(world, password=PASSWORD, name="dora", role="dpo"):
    return world.gateway().sign_in(name, role, password)


def reads(world, token):
    """The status of a request with a token, and the code of a refusal."""
    response = world.client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.json().get("code")


def attempt(world, password, name="dora", role="dpo"):
    body = {"name": name, "role": role, "password": password}
    response = world.client.post("/v1/sessions", json=body)
    return response.status_code, response.json().get("code")


class TestSignIn:
    def test_a_password_opens_a_session_of_its_account_and_role(self, people):
        tokens = sign_in(people)
        assert (tokens.name, tokens.role, tokens.unit) == ("dora", "dpo", None)
        response = people.client.get(
            "/v1/me", headers={"Authorization": f"Bearer {tokens.access_token}"}
        )
        assert response.json() == {"name": "dora", "role": "dpo", "unit": None}
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            HttpGateway(people.client, tokens.access_token).create_account("eve", "admin")

    def test_no_answer_tells_who_has_an_account_or_a_password(self, people):
        people.gateway("admin").revoke_account("ada", "auditor")
        answers = {
            attempt(people, PASSWORD + "!"),
            attempt(people, PASSWORD, name="nobody"),
            attempt(people, PASSWORD, role="admin"),
            attempt(people, PASSWORD, name="emil", role="evaluator"),
            attempt(people, PASSWORD, name="ada", role="auditor"),
        }
        assert answers == {(401, "auth.invalid")}
        assert attempt(people, PASSWORD) == (201, None)

    def test_no_password_and_no_token_is_kept(self, people):
        tokens = sign_in(people)
        people.gateway().refresh(tokens.refresh_token)
        content = people.stored()
        assert tokens.access_token[4:20].encode() in content
        for secret in (PASSWORD, tokens.access_token[21:], tokens.refresh_token[21:]):
            assert secret.encode() not in content


@pytest.mark.parametrize("change", ["revoked", "another password"])
def test_what_changes_while_the_password_is_hashed_counts(people, monkeypatch, change):
    """The hash is computed between two transactions, and much can happen meanwhile."""
    really = passwords.matches

    def matches(password, kept):
        outcome = really(password, kept)
        monkeypatch.undo()
        if change == "revoked":
            people.gateway("admin").revoke_account("dora", "dpo")
        else:
            people.gateway("dpo").set_password(OTHER, PASSWORD)
        return outcome

    monkeypatch.setattr(passwords, "matches", matches)
    assert attempt(people, PASSWORD) == (401, "auth.invalid")


class TestTokens:
    @pytest.mark.databases
    def test_an_access_token_lasts_minutes_and_is_followed_by_the_next(self, people):
        tokens = sign_in(people)
        people.clock.tick(seconds=people.settings.access_token_valid_s - 1)
        assert reads(people, tokens.access_token) == (200, None)
        people.clock.tick(seconds=1)
        assert reads(people, tokens.access_token) == (401, "session.ended")
        following = people.gateway().refresh(tokens.refresh_token)
        assert reads(people, following.access_token) == (200, None)

    def test_after_a_refresh_the_tokens_of_before_open_nothing(self, people):
        tokens = sign_in(people)
        following = people.gateway().refresh(tokens.refresh_token)
        assert reads(people, tokens.access_token) == (401, "session.ended")
        assert reads(people, following.access_token) == (200, None)

    @pytest.mark.parametrize("steps", [1, 2, 5])
    def test_a_refresh_token_that_comes_again_ends_the_session_for_both(self, people, steps):
        stolen = newest = sign_in(people)
        for _ in range(steps):
            newest = people.gateway().refresh(newest.refresh_token)
        assert reads(people, newest.access_token) == (200, None)
        with pytest.raises(ForbiddenError, match=r"session\.reused"):
            people.gateway().refresh(stolen.refresh_token)
        assert reads(people, newest.access_token) == (401, "session.ended")
        with pytest.raises(ForbiddenError, match=r"session\.ended"):
            people.gateway().refresh(newest.refresh_token)

    def test_who_knows_a_sessions_id_only_cannot_end_it(self, people):
        tokens = sign_in(people)
        made_up = tokens.refresh_token[:21] + "0" * 64
        with pytest.raises(ForbiddenError, match=r"session\.ended"):
            people.gateway().refresh(made_up)
        assert reads(people, tokens.access_token) == (200, None)

    @pytest.mark.databases
    def test_of_many_refreshes_at_once_one_wins_and_the_session_ends(self, people):
        tokens = sign_in(people)

        def refresh(_):
            body = {"refresh_token": tokens.refresh_token}
            return people.client.post("/v1/sessions/refresh", json=body).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(refresh, range(8)))
        assert statuses == [200, *[401] * 7]

    def test_a_session_ends_with_its_day_however_often_it_is_refreshed(self, people):
        tokens = sign_in(people)
        hours = people.settings.session_valid_s // 3600
        for _ in range(hours - 1):
            people.clock.tick(hours=1)
            tokens = people.gateway().refresh(tokens.refresh_token)
        people.clock.tick(hours=1)
        with pytest.raises(ForbiddenError, match=r"session\.ended"):
            people.gateway().refresh(tokens.refresh_token)

    @pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
    def test_each_token_is_for_its_own_use(self, people, kind):
        tokens = sign_in(people)
        if kind == "refresh_token":
            assert reads(people, tokens.refresh_token) == (401, "auth.invalid")
            assert people.gateway().refresh(tokens.refresh_token)
        else:
            with pytest.raises(ForbiddenError, match=r"session\.ended"):
                people.gateway().refresh(tokens.access_token)
            assert reads(people, tokens.access_token) == (200, None)

    def test_one_changed_character_opens_nothing(self, people):
        token = sign_in(people).access_token
        for place in range(4, len(token)):
            changed = "0" if token[place] != "0" else "1"
            assert reads(people, token[:place] + changed + token[place + 1 :])[0] == 401
        assert reads(people, token) == (200, None)


class TestTheEnd:
    def test_sign_out_ends_this_session_and_no_other(self, people):
        first, second = sign_in(people), sign_in(people)
        HttpGateway(people.client, first.access_token).sign_out()
        assert reads(people, first.access_token) == (401, "session.ended")
        with pytest.raises(ForbiddenError, match=r"session\.ended"):
            people.gateway().refresh(first.refresh_token)
        assert reads(people, second.access_token) == (200, None)

    def test_everywhere_is_everywhere_of_this_account(self, people):
        people.gateway("auditor").set_password(OTHER)
        first, second = sign_in(people), sign_in(people)
        another = sign_in(people, OTHER, "ada", "auditor")
        HttpGateway(people.client, first.access_token).sign_out(everywhere=True)
        assert reads(people, first.access_token)[0] == 401
        assert reads(people, second.access_token)[0] == 401
        assert reads(people, another.access_token)[0] == 200

    def test_an_api_key_has_no_session_to_end_but_may_end_them_all(self, people):
        tokens = sign_in(people)
        with pytest.raises(ConflictError, match=r"session\.none"):
            people.gateway("dpo").sign_out()
        assert reads(people, tokens.access_token)[0] == 200
        people.gateway("dpo").sign_out(everywhere=True)
        assert reads(people, tokens.access_token)[0] == 401

    def test_a_revoked_account_is_out_and_comes_back_without_password(self, people):
        tokens = sign_in(people)
        people.gateway("admin").revoke_account("dora", "dpo")
        assert reads(people, tokens.access_token) == (401, "session.ended")
        fresh = people.gateway("admin").create_account("dora", "dpo")
        assert reads(people, tokens.access_token) == (401, "session.ended")
        assert attempt(people, PASSWORD) == (401, "auth.invalid")
        HttpGateway(people.client, fresh).set_password(OTHER)
        assert attempt(people, OTHER) == (201, None)


class TestPassword:
    def test_a_second_one_needs_the_first_also_with_the_api_key(self, people):
        dpo = people.gateway("dpo")
        for current in (None, OTHER):
            with pytest.raises(ForbiddenError, match=r"auth\.invalid"):
                dpo.set_password(OTHER, current)
        assert attempt(people, PASSWORD) == (201, None)
        dpo.set_password(OTHER, PASSWORD)
        assert attempt(people, PASSWORD) == (401, "auth.invalid")
        assert attempt(people, OTHER) == (201, None)

    def test_with_it_all_sessions_end(self, people):
        tokens = sign_in(people)
        people.gateway("dpo").set_password(OTHER, PASSWORD)
        assert reads(people, tokens.access_token) == (401, "session.ended")

    def test_the_api_key_that_an_administrator_has_seen_may_go_with_it(self, people):
        key = people.api_keys["dpo"]
        people.gateway("dpo").set_password(OTHER, PASSWORD)
        assert reads(people, key) == (200, None)
        people.gateway("dpo").set_password(PASSWORD, OTHER, retire_api_key=True)
        assert reads(people, key) == (401, "auth.invalid")
        assert reads(people, sign_in(people).access_token) == (200, None)

    def test_a_weak_one_changes_nothing(self, people):
        tokens = sign_in(people)
        with pytest.raises(InvalidRecordError, match=r"password\.weak"):
            people.gateway("dpo").set_password("short", PASSWORD)
        assert reads(people, tokens.access_token) == (200, None)
        assert attempt(people, PASSWORD) == (201, None)

    def test_ten_megabytes_are_refused_before_they_are_hashed(self, people):
        body = {"name": "dora", "role": "dpo", "password": "x" * 10_000_000}
        response = people.client.post("/v1/sessions", json=body)
        assert (response.status_code, response.json()["code"]) == (422, "request.invalid")


class TestThrottling:
    def test_after_five_failures_even_the_right_password_has_to_wait(self, people):
        for _ in range(ACCOUNT_ALLOWANCE):
            assert attempt(people, OTHER) == (401, "auth.invalid")
        response = people.client.post(
            "/v1/sessions", json={"name": "dora", "role": "dpo", "password": PASSWORD}
        )
        assert (response.status_code, response.json()["code"]) == (429, "auth.throttled")
        assert response.headers["retry-after"] == "30"
        assert reads(people, people.api_keys["dpo"]) == (200, None)
        people.clock.tick(seconds=29)
        assert attempt(people, PASSWORD) == (429, "auth.throttled")
        people.clock.tick(seconds=1)
        assert attempt(people, PASSWORD) == (201, None)

    def test_success_lets_the_failures_of_the_account_be_forgotten(self, people):
        for _ in range(3):
            for _ in range(ACCOUNT_ALLOWANCE - 1):
                assert attempt(people, OTHER)[0] == 401
            assert attempt(people, PASSWORD)[0] == 201

    def test_names_that_nobody_has_are_slowed_down_alike(self, people):
        for _ in range(ACCOUNT_ALLOWANCE):
            assert attempt(people, OTHER, name="nobody") == (401, "auth.invalid")
        assert attempt(people, OTHER, name="nobody") == (429, "auth.throttled")
        assert attempt(people, PASSWORD) == (201, None)

    def test_an_address_that_tries_many_names_is_slowed_down(self, people):
        for number in range(ADDRESS_ALLOWANCE):
            assert attempt(people, OTHER, name=f"name-{number}") == (401, "auth.invalid")
        assert attempt(people, PASSWORD) == (429, "auth.throttled")
        people.clock.tick(seconds=30)
        assert attempt(people, PASSWORD) == (201, None)

    @pytest.mark.databases
    def test_guesses_at_the_same_time_all_count(self, people):
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: attempt(people, OTHER), range(12)))
        assert answers.count((401, "auth.invalid")) == ACCOUNT_ALLOWANCE
        assert answers.count((429, "auth.throttled")) == 12 - ACCOUNT_ALLOWANCE

    def test_the_current_password_is_no_way_around(self, people):
        def change():
            body = {"password": OTHER, "current": "not this one, surely"}
            headers = {"Authorization": f"Bearer {people.api_keys['dpo']}"}
            return people.client.post("/v1/password", json=body, headers=headers).status_code

        assert [change() for _ in range(ACCOUNT_ALLOWANCE + 1)] == [401] * ACCOUNT_ALLOWANCE + [429]

    def test_no_name_of_a_failed_sign_in_is_kept(self, people):
        attempt(people, OTHER, name="mistyped-name")
        content = people.stored()
        assert b"mistyped-name" not in content
