"""Every page, for every role: who may read it, what it shows, and that it shows it harmlessly."""

import re
from datetime import timedelta

import numpy as np
import pytest
from fastapi.routing import APIRoute
from safetensors.numpy import save

from fedcore.errors import RefusedError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.group_opt_outs import GroupOptOut
from fedcore.incidents import IncidentFacts, IncidentOpening, StopTarget
from fedcore.model_decisions import DecisionRequest
from fedcore.models import ModelVersion
from fedcore.signing import SigningKey
from governance.console.seats import OVERSEERS
from governance.office import Office
from governance.roles import HOUSE_ROLES, ROLES
from registry import models
from registry.database import Database

# Statements of a page with a list: the session's own, and the list.
MOST = 10

# A new page fails here until it is written down with the roles that it is for.
PAGES = {
    ("GET", "/console"): set(HOUSE_ROLES),
    ("GET", "/console/dpias"): set(HOUSE_ROLES),
    ("GET", "/console/dpias/{digest}"): set(HOUSE_ROLES),
    ("GET", "/console/dpias/{digest}/acts/{act}"): set(HOUSE_ROLES),
    ("POST", "/console/dpias/{digest}/acts/{act}"): "form",
    ("GET", "/console/runs"): set(HOUSE_ROLES),
    ("GET", "/console/runs/{run_id}"): set(HOUSE_ROLES),
    ("GET", "/console/refusals"): OVERSEERS,
    ("GET", "/console/opt-outs"): OVERSEERS,
    ("GET", "/console/opt-outs/{unit}"): OVERSEERS,
    ("GET", "/console/models"): set(HOUSE_ROLES),
    ("GET", "/console/models/{name}/{version}"): set(HOUSE_ROLES),
    ("GET", "/console/models/{name}/{version}/evidence"): set(HOUSE_ROLES),
    ("GET", "/console/models/{name}/{version}/card"): set(HOUSE_ROLES),
    ("GET", "/console/models/{name}/{version}/gate"): set(HOUSE_ROLES),
    ("GET", "/console/evaluations/{run_id}"): set(HOUSE_ROLES),
    ("GET", "/console/audits/{run_id}"): set(HOUSE_ROLES),
    ("GET", "/console/log"): set(HOUSE_ROLES),
    ("GET", "/console/log/{index}"): set(HOUSE_ROLES),
    ("GET", "/console/incidents"): OVERSEERS,
    ("GET", "/console/incidents/{number}"): OVERSEERS,
    ("GET", "/console/sign-in"): "public",
    ("POST", "/console/sign-in"): "public",
    ("POST", "/console/sign-out"): "form",
    ("GET", "/console/static/{name}"): "public",
    ("GET", "/console/{rest:path}"): "public",
}
AUDIT = "/console/audits/{run_id}"  # test_model_pages.py has one to show
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def evaluate(evaluating):
    """Train a model with rows set aside, and evaluate it in run eval-1."""
    evaluating.train("trained", save({"w": np.full(2, 2.0)}))
    plan, permit = evaluating.permitted()
    tables = evaluating.signed(evaluating.answered(plan, permit))
    evaluating.world.gateway("operator").submit_tables("eval-1", tables)


def live(world, give):
    evaluate(give("evaluating_in")(world, name="second"))
    world.clock.tick(minutes=1)
    world.run()
    world.gateway("operator").register_model("run-1", "churn", give("model_bytes"))
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    world.cosign()
    bad = world.plan(task="response", purpose="marketing")
    world.register(bad)
    with pytest.raises(RefusedError):
        world.gateway("operator").request_permit(bad.digest, "run-2")
    facts = IncidentFacts(
        title="A <b>backup</b>", nature="n", aware_at=world.clock(), units=("north",)
    )
    target = StopTarget(scope="unit", subject="elsewhere")
    world.gateway("dpo").open_incident(IncidentOpening(facts=facts, stop=(target,)))


BEGINNINGS = {"lived": live}


@pytest.fixture
def lived(world):
    """A world in which something has happened: runs with their models, an evaluation of one of
    them, a refusal, opt-outs, and an incident.
    """
    return world


def addresses(world):
    values = {
        "digest": world.dpia().digest,
        "act": "suspend",
        "run_id": "run-1",
        "unit": "north",
        "name": "churn",
        "version": "1",
        "index": "2",
        "number": "1",
    }
    evaluated = {**values, "run_id": "eval-1"}

    def filled(template):
        found = evaluated if "evaluations" in template else values
        return re.sub(r"{(\w+)}", lambda match: found[match[1]], template)

    return {
        template: filled(template)
        for (method, template), roles in PAGES.items()
        if method == "GET" and not isinstance(roles, str) and template != AUDIT
    }


def hidden_routes(world):
    """The routes of the whole service that its OpenAPI document does not show."""
    included = (
        getattr(r, "original_router", None) for r in world.client._transport._transport.app.routes
    )
    routes = [route for router in included if router is not None for route in router.routes]
    assert len(routes) > len(PAGES)
    return [r for r in routes if isinstance(r, APIRoute) and not r.include_in_schema]


def test_every_page_is_classified_and_nothing_else_is_missing_in_the_document(world):
    found = {(method, r.path) for r in hidden_routes(world) for method in r.methods}
    assert found == set(PAGES)


@pytest.mark.parametrize("role", ROLES)
def test_a_page_admits_its_roles_and_no_other(lived, browser_of, role):
    browser, stranger = browser_of(role), browser_of()
    for template, address in addresses(lived).items():
        expected = 200 if role in PAGES["GET", template] else 403
        answer = browser.get(address)
        assert answer.status_code == expected, address
        assert (expected == 403) == ("auth.wrong_role" in answer.text), address
        assert stranger.get(address).status_code == 303, address


def test_every_answer_forbids_scripts_frames_and_foreign_forms(lived, browser_of):
    browser = browser_of("auditor")
    paths = [*addresses(lived).values(), "/console/none", "/console/static/console.css"]
    for path in paths:
        answer = browser.get(path)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        if not path.startswith("/console/static"):
            assert answer.headers["cache-control"] == "no-store", path


def test_the_policy_of_the_api_stays_as_it_was(lived):
    for path in ("/healthz", "/openapi.json", "/v1/about", "/nowhere"):
        policy = lived.client.get(path).headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_no_page_has_a_script_a_style_or_a_handler_in_it(lived, browser_of):
    browser = browser_of("auditor")
    for path in addresses(lived).values():
        text = browser.get(path).text.lower()
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|https?://", text), path


@pytest.mark.databases
def test_pages_show_what_has_happened(lived, browser_of):
    browser = browser_of("auditor")
    shown = {
        "/console/runs": ("run-1", "Granted", "north, south"),
        "/console/runs/run-1": ("Permitted", "accepted", "churn, version 1"),
        "/console/refusals": ("run-2", "dpia.task_differs"),
        "/console/opt-outs": ("north", "run-1</a>, round 2"),
        "/console/incidents": ("72 h 0 min left to notify the authority", "Open"),
        "/console/incidents/1": (
            "A &lt;b&gt;backup&lt;/b&gt;",
            "left to assess the risk (Art. 33(1))",
            "north",
            "dora: open",
            "Stopped by",
        ),
        "/console/models": ("churn",),
        "/console/models/churn/1": ("A simulation", "Privacy spent"),
        "/console/log": ("north has seen", "model-version"),
        "/console/log/2": ("its proof leads to the root",),
    }
    for path, texts in shown.items():
        page = browser.get(path).text
        assert [text for text in texts if text not in page] == [], path


def test_a_model_shows_its_evaluations_and_an_evaluation_all_its_numbers(lived, browser_of):
    browser = browser_of("author")
    assert "It has not been evaluated." in browser.get("/console/models/churn/1").text
    model = browser.get("/console/models/second/1").text
    assert '<a href="/console/evaluations/eval-1">eval-1</a>' in model
    assert '<a href="/console/evaluations/eval-1">what it has found</a>' in (
        browser.get("/console/runs/eval-1").text
    )
    envelope = lived.gateway("author").fetch_evaluation("eval-1")
    [outcome] = lived.open(envelope, Evaluation).models
    page = browser.get("/console/evaluations/eval-1").text
    for number in outcome.numbers:
        shown = f"{number.low:.4f} to {number.high:.4f}"
        assert f'<th scope="row">{number.name}</th>' in page
        assert number.high >= 1000 or shown in page, number.name
    assert "contains the number of the customers' population in 95 % of evaluations" in (
        page.replace("&#39;", "'")
    )
    assert browser.get("/console/evaluations/run-1").status_code == 404


def test_the_gates_answers_are_shown_to_those_only_who_may_read_them(lived, browser_of):
    assert "What the gate answered" in browser_of("dpo").get("/console/runs/run-1").text
    assert "What the gate answered" not in browser_of("operator").get("/console/runs/run-1").text


def test_a_revoked_permit_says_why(lived, browser_of):
    browser = browser_of("auditor")
    assert "Revoked" not in browser.get("/console/runs/run-1").text
    lived.gateway("dpo").revoke_permit("run-1", "a leak <b>")
    page = browser.get("/console/runs/run-1").text
    assert "a leak &lt;b&gt;" in page
    assert "Revoked" in browser.get("/console/runs").text


def test_opt_outs_are_counted_and_nobody_is_named(lived, browser_of):
    pseudonym = lived.opt_out("north", 1).pseudonym
    page = browser_of("compliance").get("/console/opt-outs").text
    assert pseudonym not in page
    assert pseudonym[:12] not in page
    assert "1 came later" in page  # than the training of run-1


def decide(world, outcome, **changes):
    values = {"unit": "north", "up_to": 1, "outcome": outcome, "reason": "a <b>reason</b>"}
    request = DecisionRequest(**{**values, **changes})
    world.gateway("compliance").decide_model("churn", 1, request, "*")


def test_a_units_page_shows_lag_enforcement_and_what_was_decided_about_models(lived, browser_of):
    pseudonym = lived.opt_out("north", 1).pseudonym
    lived.bulletin("north")
    for sequence in (2, 3):
        lived.gateway().submit_opt_out(lived.sign(lived.opt_out("north", sequence), "north"))
    lived.clock.tick(hours=25)
    browser = browser_of("auditor")
    assert "25.0 h of 24 h, <strong>late</strong>" in browser.get("/console/opt-outs").text
    page = browser.get("/console/opt-outs/north").text
    assert page.count("25.0 h of 24 h, <strong>late</strong>, held by no bulletin yet") == 2
    assert "0.0 h of 24 h, in time" in page
    assert "not shown to be excluded: round 2 of run run-1" in page
    assert "scoring outside fedpact is the unit&#39;s duty" in page
    assert "<td>3</td><td><strong>3</strong></td><td>Nothing is decided yet</td>" in page
    assert pseudonym[:12] not in page
    decide(lived, "retrain_due", due_at=lived.clock.now + timedelta(hours=1))
    lived.clock.tick(hours=1)
    browser = browser_of("auditor")  # the session before has ended by now
    page = browser.get("/console/opt-outs/north").text
    assert "<td>3</td><td><strong>2</strong></td><td>Retrain_due by 2025-06-02T14:01" in page
    assert ", OVERDUE; decided" in page
    assert "a &lt;b&gt;reason&lt;/b&gt;" in page
    decide(lived, "withdrawn", up_to=3)
    page = browser.get("/console/opt-outs/north").text
    assert "<td>3</td><td>0</td><td>Withdrawn; decided" in page
    assert "No opt-out of this unit is here" in browser.get("/console/opt-outs/south").text
    assert browser.get("/console/opt-outs/nowhere").status_code == 404


def test_what_a_unit_was_told_for_its_group_is_shown_without_naming_anybody(lived, browser_of):
    lived.gateway("compliance").declare_group(
        "retail", ["north", "south"], "trim-upper/1", "ab" * 32
    )
    said = GroupOptOut(
        group="retail",
        unit="north",
        sequence=1,
        pseudonym="cd" * 32,
        purpose="marketing",
        channel="web",
        ground="gpc",
        received_at=lived.clock.now,
        seal="00" * 32,
    )
    lived.gateway().submit_group_opt_out(lived.sign(said, "north"))
    browser = browser_of("auditor")
    page = browser.get("/console/opt-outs/north").text
    assert "Told for its group" in page
    assert "marketing, gpc" in page
    assert "no unit yet" in page
    lived.newest_bulletin("south", group_seen=())
    page = browser.get("/console/opt-outs/north").text
    assert "no unit yet" not in page
    assert "cd" * 6 not in page
    assert "Told for its group" not in browser.get("/console/opt-outs/south").text


def test_a_withdrawn_model_is_no_file_at_the_console_but_for_those_who_oversee(lived, browser_of):
    author, auditor = browser_of("author"), browser_of("auditor")
    assert author.get("/console/models/churn/1/evidence").content.startswith(b"PK")
    decide(lived, "withdrawn")
    refused = author.get("/console/models/churn/1/evidence")
    assert (refused.status_code, "model.withdrawn" in refused.text) == (403, True)
    assert auditor.get("/console/models/churn/1/evidence").content.startswith(b"PK")


def test_evidence_is_handed_out_as_a_file(lived, browser_of):
    answer = browser_of("auditor").get("/console/models/churn/1/evidence")
    assert answer.headers["content-disposition"] == 'attachment; filename="churn-1.fedpact"'
    assert answer.content.startswith(b"PK")


@pytest.mark.parametrize(
    "path",
    [
        "/console/nowhere",
        "/console/dpias/sha256:" + "0" * 64,
        "/console/dpias/x",
        "/console/runs/run-9",
        "/console/incidents/9",
        "/console/incidents/x",
        "/console/models/churn/x",
        "/console/log/999",
        "/console/static/../seats.py",
        "/console/static/seats.py",
    ],
)
def test_what_is_not_there_is_said_on_a_page(lived, browser_of, path):
    answer = browser_of("auditor").get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "<main" in answer.text


def copy_model(world, name, content, runs):
    """Register a version like the first one for each of these runs, which nobody has trained."""
    office = Office(
        world.settings,
        Database(world.settings.database_url),
        SigningKey.load(world.settings.signing_key),
        world.clock,
    )
    with office.writing() as desk:
        stored = models.find(desk.session, name, 1)
        assert stored is not None
        first = desk.open_own(ModelVersion, stored.document)
        for number in runs:
            changes = {"version": number + 1, "run_id": f"run-{number}"}
            model = first.model_copy(update=changes)
            desk.issue(model, run_id=model.run_id)
            models.append(desk.session, model, content)
    office.close()


def test_long_lists_go_on_on_the_next_page_and_cost_no_more_statements(
    world, browser_of, counted, model_bytes
):
    browser = browser_of("auditor")
    world.run("run-0")
    world.gateway("operator").register_model("run-0", "churn", model_bytes)
    with counted() as few:
        alone = browser.get("/console/models").text
    assert (alone.count("</tr>"), "before=" in alone) == (2, False)
    for number in range(1, 52):
        world.permit(f"run-{number}")
    copy_model(world, "churn", model_bytes, range(1, 52))
    with counted() as many:
        newest = browser.get("/console/models").text
    assert len(many) == len(few) <= MOST, many
    [older] = re.findall(r'href="(/console/models\?before=\d+)"', newest)
    shown = [newest, browser.get(older).text]
    found = [re.findall(r'href="/console/models/churn/(\d+)"', page) for page in shown]
    assert found == [[str(number) for number in range(52, 2, -1)], ["2", "1"]]
    assert "before=" not in shown[1]
    first = browser.get("/console/runs").text
    assert "run-51<" in first
    assert "run-1<" not in first
    [older] = re.findall(r'href="(/console/runs\?before=\d+)"', first)
    second = browser.get(older).text
    assert re.findall(r">(run-\d+)</a>", second) == ["run-1", "run-0"]
    assert "before=" not in second


@pytest.mark.parametrize("role", ["operator", "auditor"])
@pytest.mark.databases
def test_the_navigation_offers_the_pages_of_the_role_and_no_other(world, browser_of, role):
    browser = browser_of(role)
    offered = re.findall(r'<li><a href="(/console[^"]*)"', browser.get("/console").text)
    tops = {path for _, path in PAGES if "{" not in path and "sign" not in path}
    assert set(offered) == {path for path in tops if role in PAGES["GET", path]}
    assert [browser.get(path).status_code for path in offered] == [200] * len(offered)
