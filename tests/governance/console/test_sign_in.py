"""Coming and going: what a browser must show, and for how long it counts."""

from typing import ClassVar

import httpx
import pytest

from governance.app import create_app
from governance.decisions.sign_in import ACCOUNT_ALLOWANCE
from governance.roles import HOUSE_ROLES
from simulations.transport import AsgiTransport

pytestmark = pytest.mark.usefixtures("quick_passwords")

PASSWORD = "four plain words in a row"
SESSION = "__Host-fedpact-session"


def test_a_stranger_is_sent_to_sign_in_and_back_to_where_they_wanted(browser_of, world):
    browser = browser_of()
    answer = browser.get("/console/runs")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=/console/runs"
    fields = {"api_key": world.api_keys["auditor"], "next": "/console/runs"}
    assert browser.post("/console/sign-in", fields).headers["location"] == "/console/runs"
    assert browser.get("/console/runs").status_code == 200


@pytest.mark.parametrize("role", HOUSE_ROLES)
def test_every_role_signs_in_and_out(browser_of, role):
    browser = browser_of(role)
    assert browser.get("/console").status_code == 200
    left = browser.post("/console/sign-out", {}, form="/console")
    assert left.headers["location"] == "/console/sign-in"
    assert browser.get("/console").status_code == 303


def with_cookie(browser, secret):
    return browser.client.get("/console", headers={"Cookie": f"{SESSION}={secret}"})


def test_what_was_signed_out_counts_no_more_even_when_the_cookie_was_kept(browser_of):
    browser, thief = browser_of("dpo"), browser_of()
    kept = browser.client.cookies[SESSION]
    assert with_cookie(thief, kept).status_code == 200
    browser.post("/console/sign-out", {}, form="/console")
    assert with_cookie(thief, kept).status_code == 303


def test_a_session_lasts_while_it_is_used_and_ends_when_it_is_not(browser_of, world):
    browser, idle_s = browser_of("dpo"), world.settings.console_idle_s
    for _ in range(4):
        world.clock.tick(seconds=idle_s - 1)
        assert browser.get("/console").status_code == 200
    world.clock.tick(seconds=idle_s)
    assert browser.get("/console").status_code == 303


def test_a_session_ends_with_its_day_even_when_it_is_used(browser_of, world):
    browser = browser_of("dpo")
    for _ in range(world.settings.session_valid_s // 1200 - 1):
        world.clock.tick(seconds=1200)
        assert browser.get("/console").status_code == 200
    world.clock.tick(seconds=1200)
    assert browser.get("/console").status_code == 303


def test_a_session_outlives_a_restart_of_the_service(browser_of, world):
    kept = browser_of("dpo").client.cookies[SESSION]
    again = AsgiTransport(create_app(world.settings, world.clock))
    cookie = {"Cookie": f"{SESSION}={kept}"}
    with httpx.Client(transport=again, base_url="https://governance") as client:
        assert client.get("/console", headers=cookie).status_code == 200


def test_a_cookie_is_no_bearer_token_and_a_bearer_token_no_cookie(browser_of, world):
    kept = browser_of("dpo").client.cookies[SESSION]
    answer = world.client.get("/v1/me", headers={"Authorization": f"Bearer {kept}"})
    assert answer.status_code == 401
    world.gateway("dpo").set_password(PASSWORD)
    tokens = world.gateway().sign_in("dora", "dpo", PASSWORD)
    assert with_cookie(browser_of(), tokens.access_token).status_code == 303


class TestPassword:
    FIELDS: ClassVar = {"name": "dora", "role": "dpo", "password": PASSWORD}

    def test_a_password_opens_the_console(self, browser_of, world):
        world.gateway("dpo").set_password(PASSWORD)
        browser = browser_of()
        assert browser.post("/console/sign-in", self.FIELDS).status_code == 303
        assert browser.get("/console").status_code == 200

    def test_a_wrong_one_is_refused_beside_the_form_which_keeps_the_name(self, browser_of, world):
        world.gateway("dpo").set_password(PASSWORD)
        browser = browser_of()
        wrong = {**self.FIELDS, "password": "not this one, surely"}
        for _ in range(ACCOUNT_ALLOWANCE):
            answer = browser.post("/console/sign-in", wrong)
            assert (answer.status_code, "auth.invalid" in answer.text) == (401, True)
            assert 'value="dora"' in answer.text
            assert "not this one" not in answer.text
        answer = browser.post("/console/sign-in", self.FIELDS)
        assert (answer.status_code, "auth.throttled" in answer.text) == (429, True)
        world.clock.tick(seconds=30)
        assert browser.post("/console/sign-in", self.FIELDS).status_code == 303

    def test_a_new_password_ends_the_sessions_of_the_old_one(self, browser_of, world):
        browser = browser_of("dpo")
        world.gateway("dpo").set_password(PASSWORD)
        assert browser.get("/console").status_code == 303


def test_a_units_operator_has_the_api_and_no_seat_at_the_console(browser_of):
    answer = browser_of("unit_operator").get("/console")
    assert (answer.status_code, "auth.wrong_role" in answer.text) == (403, True)


def test_a_session_ends_with_its_account(browser_of, world):
    browser = browser_of("dpo")
    assert browser.get("/console").status_code == 200
    world.gateway("admin").revoke_account("dora", "dpo")
    assert browser.get("/console").status_code == 303


@pytest.mark.parametrize("cookie", ["", "x", "0" * 43])
def test_a_made_up_session_is_nobodys(browser_of, cookie):
    location = with_cookie(browser_of(), cookie).headers["location"]
    assert location.startswith("/console/sign-in")


@pytest.mark.parametrize("key", ["", "x", f"fpk_{'0' * 16}_{'0' * 64}"])
def test_a_wrong_key_is_refused_beside_the_form(browser_of, key):
    browser = browser_of()
    answer = browser.post("/console/sign-in", {"api_key": key})
    assert answer.status_code == 401
    assert "auth.invalid" in answer.text
    assert 'name="api_key"' in answer.text
    assert SESSION not in browser.client.cookies


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/console",
        "//evil.example",
        "/console/../v1/log/export",
        "/console\\evil",
        "/console?x=1",
        "javascript:alert(1)",
    ],
)
def test_sign_in_leads_to_pages_of_the_console_only(browser_of, world, elsewhere):
    fields = {"api_key": world.api_keys["dpo"], "next": elsewhere}
    answer = browser_of().post("/console/sign-in", fields)
    assert answer.headers["location"] == "/console"


def test_cookies_are_out_of_reach_of_scripts_other_sites_and_other_hosts(browser_of, world):
    browser = browser_of()
    answer = browser.post("/console/sign-in", {"api_key": world.api_keys["dpo"]})
    given = [value for value in answer.headers.get_list("set-cookie") if SESSION in value]
    assert len(given) == 1
    attributes = {part.strip().lower() for part in given[0].split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=strict", "secure"}


def test_on_loopback_without_tls_the_cookie_has_its_plain_name(browser_of, world):
    browser = browser_of("dpo", "http://127.0.0.1:8330")
    assert "fedpact-session" in browser.client.cookies
    assert browser.get("/console").status_code == 200


def test_without_tls_nobody_signs_in_over_a_network(browser_of, world):
    answer = browser_of(base_url="http://governance").get("/console/sign-in")
    assert answer.status_code == 403
    assert "url.insecure" in answer.text
    assert browser_of(base_url="https://governance").get("/console/sign-in").status_code == 200


def test_a_sign_in_that_another_site_began_is_refused(browser_of, world):
    stranger = browser_of()
    fields = {
        "api_key": world.api_keys["dpo"],
        "form_token": browser_of().token("/console/sign-in"),
    }
    answer = stranger.client.post("/console/sign-in", data=fields)
    assert answer.status_code == 403
    assert "form.token_wrong" in answer.text
    stranger.get("/console/sign-in")
    assert stranger.client.post("/console/sign-in", data=fields).status_code == 403
    assert stranger.post("/console/sign-in", {"api_key": world.api_keys["dpo"]}).status_code == 303
