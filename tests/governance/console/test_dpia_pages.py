"""DPIAs at the console: what waits for whom, the record in full, and the acts on it."""

import html
import re

import pytest

from governance.console.dpia_pages import ACTS
from registry import dpias
from registry.database import Database

STEPS = (
    ("submit", "author"),
    ("evaluate", "evaluator"),
    ("advise", "dpo"),
    ("approve", "approver"),
)
HOSTILE = "<script>alert(1)</script>\" onload='x' &amp; {{ 7 * 7191 }}"


def state_of(world, digest):
    return world.get(f"/v1/dpias/{digest}", "auditor")["state"]


def waiting_for(browser):
    return re.findall(
        r"/console/dpias/(sha256:[0-9a-f]{64})/acts/(\w+)", browser.get("/console").text
    )


def test_a_dpia_goes_from_draft_into_force_by_forms_alone(world, browser_of, draft):
    for act, role in STEPS:
        browser = browser_of(role)
        assert (draft, act) in waiting_for(browser)
        fields = {"advice": "favourable"} if act == "advise" else {}
        answer = browser.act(draft, act, **fields)
        assert answer.status_code == 303, answer.text
        page = browser.get(answer.headers["location"]).text
        assert "Done: " in page
        assert (draft, act) not in waiting_for(browser)
    assert state_of(world, draft) == "in_force"


def test_a_dpia_waits_for_those_only_who_may_act(world, browser_of, draft):
    assert waiting_for(browser_of("author")) != []
    for role in ("evaluator", "dpo", "approver", "compliance", "auditor", "admin", "operator"):
        assert waiting_for(browser_of(role)) == [], role


def test_a_person_with_another_duty_is_not_waited_for(world, browser_of, draft):
    world.api_keys["anna as evaluator"] = world.gateway("admin").create_account("anna", "evaluator")
    world.gateway("author").act_on_dpia(draft, "submit", "n")
    assert waiting_for(browser_of("anna as evaluator")) == []
    assert (draft, "evaluate") in waiting_for(browser_of("evaluator"))


@pytest.mark.parametrize(
    ("role", "act", "code"),
    [
        ("auditor", "evaluate", "dpia.wrong_role"),
        ("author", "evaluate", "dpia.same_person"),
        ("evaluator", "approve", "dpia.act_not_allowed"),
        ("evaluator", "withdraw", "dpia.other_author"),
    ],
)
def test_a_refused_act_shows_its_codes_beside_the_form_and_what_was_written(
    world, browser_of, draft, role, act, code
):
    world.gateway("author").act_on_dpia(draft, "submit", "n")
    browser = browser_of(role)
    answer = browser.act(draft, act, note="I have\r\nread it")
    assert answer.status_code == 409
    assert code in answer.text
    assert "I have\nread it</textarea>" in answer.text
    assert state_of(world, draft) == "submitted"
    assert browser_of("evaluator").act(draft, "evaluate").status_code == 303


@pytest.mark.parametrize("note", ["", "a\0b", "x" * 4001])
def test_a_note_that_the_api_refuses_is_refused_here(world, browser_of, draft, note):
    answer = browser_of("author").act(draft, "submit", note=note)
    assert answer.status_code == 422
    assert "request.invalid" in answer.text
    assert state_of(world, draft) == "draft"


def test_a_form_without_the_sessions_token_does_nothing(world, browser_of, draft):
    browser, other = browser_of("author"), browser_of("author")
    path = f"/console/dpias/{draft}/acts/submit"
    for token in (None, "", "x", "\u00e9", other.token(path)):
        fields = {"note": "n"} if token is None else {"note": "n", "form_token": token}
        answer = browser.client.post(path, data=fields)
        assert (answer.status_code, "form.token_wrong" in answer.text) == (403, True), token
    assert state_of(world, draft) == "draft"
    assert browser.act(draft, "submit").status_code == 303


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"note=n", "text/plain"),
        (b'{"note": "n"}', "application/json"),
        (b"note=\xff", "application/x-www-form-urlencoded"),
        (b"note=%ff", "application/x-www-form-urlencoded"),
        (b"note=a&note=b", "application/x-www-form-urlencoded"),
        (b"&".join(b"f%d=" % n for n in range(2001)), "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_form_of_the_console_is_refused(browser_of, draft, content, media_type):
    answer = browser_of("author").client.post(
        f"/console/dpias/{draft}/acts/submit",
        content=content,
        headers={"Content-Type": media_type},
    )
    assert answer.status_code == 422
    assert "form.unreadable" in answer.text


def test_an_act_after_the_session_has_ended_does_nothing_and_says_so(world, browser_of, draft):
    browser = browser_of("author")
    token = browser.token(f"/console/dpias/{draft}/acts/submit")
    world.clock.tick(hours=2)
    answer = browser.client.post(
        f"/console/dpias/{draft}/acts/submit", data={"note": "n", "form_token": token}
    )
    assert answer.status_code == 401
    assert "Nothing was done" in answer.text
    assert state_of(world, draft) == "draft"


def test_what_people_write_is_shown_and_never_run(world, browser_of):
    record = world.dpia(version=3, title=HOSTILE, description=HOSTILE)
    digest = world.gateway("author").create_dpia(record)
    browser = browser_of("author")
    assert browser.act(digest, "submit", note=HOSTILE).status_code == 303
    refused = browser.act(digest, "submit", note=HOSTILE)
    for page in (
        refused.text,
        browser.get(f"/console/dpias/{digest}").text,
        browser.get("/console/dpias").text,
        browser_of("evaluator").get("/console").text,
    ):
        assert "<script" not in page
        assert "50337" not in re.sub(r"[0-9a-f]{64}", "", page)
        assert HOSTILE in html.unescape(page)


def test_the_record_is_shown_whole_with_the_articles_that_ask_for_it(world, browser_of):
    page = browser_of("dpo").get(f"/console/dpias/{world.dpia().digest}").text
    text = html.unescape(page)
    for article in ("Art. 35(7)(a)", "Art. 35(9)", "Art. 12-22", "internal control"):
        assert article in page
    for risk in world.dpia().risks:
        assert risk.text in text
    for measure in world.dpia().measures:
        assert measure.title in text
    assert "What is missing" not in page


def test_a_draft_shows_what_is_missing(world, browser_of):
    digest = world.gateway("author").create_dpia(world.dpia(version=2, rights=None))
    browser = browser_of("author")
    assert "say how each right is exercised" in browser.get(f"/console/dpias/{digest}").text
    refused = browser.act(digest, "submit")
    assert (refused.status_code, "dpia.incomplete" in refused.text) == (409, True)


def test_acts_of_others_are_shown_with_the_reason_why(browser_of, draft):
    page = browser_of("dpo").get(f"/console/dpias/{draft}").text
    assert "submit is for the role author" in html.unescape(page).lower()
    assert f"/console/dpias/{draft}/acts/submit" not in page


def test_details_of_acts_are_asked_for_and_kept(world, browser_of, draft):
    world.gateway("author").act_on_dpia(draft, "submit", "n")
    evaluator = browser_of("evaluator")
    items = {"item_verdict:rights": "improvable", "item_text:rights": "say it shorter"}
    assert evaluator.act(draft, "evaluate", **items).status_code == 303
    assert browser_of("dpo").act(draft, "advise", advice="unfavourable").status_code == 303
    approver = browser_of("approver")
    refused = approver.act(draft, "approve")
    assert "dpia.advice_overruled" in refused.text
    assert 'name="overruling_reason"' in refused.text
    conditions = {
        "overruling_reason": "the risk is borne",
        "condition_id:1": "review",
        "condition_text:1": "look again",
        "condition_owner:1": "carla",
        "condition_due_at:1": "2025-08-01",
    }
    assert approver.act(draft, "approve_with_conditions", **conditions).status_code == 303
    page = html.unescape(approver.get(f"/console/dpias/{draft}").text)
    for text in ("say it shorter", "unfavourable", "the risk is borne", "look again"):
        assert text in page
    assert "Open conditions" in page
    assert (
        approver.act(draft, "fulfil_conditions", **{"fulfilled:review": "yes"}).status_code == 303
    )
    assert "Open conditions" not in approver.get(f"/console/dpias/{draft}").text


def test_a_review_is_shown_and_waits_for_those_who_may_close_it(world, browser_of):
    dpia = world.dpia().digest
    link = f"/console/dpias/{dpia}/acts/close_review"
    dpo, approver = browser_of("dpo"), browser_of("approver")
    assert link not in approver.get("/console").text
    assert f"/console/dpias/{dpia}/acts/open_review" not in dpo.get("/console").text
    assert dpo.act(dpia, "open_review", note="a fairness audit failed").status_code == 303
    page = html.unescape(approver.get(f"/console/dpias/{dpia}").text)
    assert "Under review" in page
    assert "opened by dora" in page
    assert link in approver.get("/console").text
    assert link not in dpo.get("/console").text
    assert "What was found" in approver.get(link).text
    assert approver.act(dpia, "close_review", note="within the bounds").status_code == 303
    assert "Under review" not in approver.get(f"/console/dpias/{dpia}").text


def test_going_back_and_sending_again_repeats_nothing(world, browser_of, draft):
    browser = browser_of("author")
    assert browser.act(draft, "submit").status_code == 303
    assert "dpia.act_not_allowed" in browser.act(draft, "submit").text
    database = Database(world.settings.database_url)
    with database.reading() as session:
        stored = dpias.find(session, draft)
    database.close()
    assert stored is not None
    assert [act.act for act in stored.acts] == ["submit"]


@pytest.mark.parametrize("role", ["auditor", "admin", "operator"])
def test_who_has_no_part_in_a_dpia_reads_it_and_does_nothing(world, browser_of, draft, role):
    browser = browser_of(role)
    page = browser.get(f"/console/dpias/{draft}").text
    assert "There is no act that you may do" in page
    for act in ACTS:
        assert browser.act(draft, act).status_code == 409, act
    assert world.get(f"/v1/dpias/{draft}", "auditor")["acts"] == []
