"""Coming and going: what a browser must show, and for how long it counts."""

import pytest

from governance.console.key_sessions import LIFETIME
from governance.roles import ROLES

SESSION = "__Host-fedpact-session"


def test_a_stranger_is_sent_to_sign_in_and_back_to_where_they_wanted(browser_of, world):
    browser = browser_of()
    answer = browser.get("/console/runs")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=/console/runs"
    fields = {"api_key": world.api_keys["auditor"], "next": "/console/runs"}
    assert browser.post("/console/sign-in", fields).headers["location"] == "/console/runs"
    assert browser.get("/console/runs").status_code == 200


@pytest.mark.parametrize("role", ROLES)
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


def test_a_session_ends_by_itself(browser_of, world):
    browser = browser_of("dpo")
    world.clock.tick(seconds=LIFETIME.total_seconds() - 1)
    assert browser.get("/console").status_code == 200
    world.clock.tick(seconds=1)
    assert browser.get("/console").status_code == 303


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
