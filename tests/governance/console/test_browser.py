"""The console in a real browser: accessible, silent, and usable by keyboard without any script."""

import re
import shutil
import threading
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import uvicorn
from safetensors.numpy import save

from fedcore.errors import RefusedError
from fedcore.incidents import IncidentFacts, IncidentOpening

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe_api = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
)

pytestmark = [pytest.mark.slow, pytest.mark.browser]

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LONGEST_WAY = 120
ICON = "/console/static/icon.svg"


@pytest.fixture(scope="module")
def chromium():
    """The system's Chromium; nothing is downloaded."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield browser
        browser.close()


def over_loopback(app) -> tuple[httpx.Client, Callable[[], None]]:
    """The application behind uvicorn on a port of this machine."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}")

    def close() -> None:
        client.close()
        server.should_exit = True
        thread.join()

    return client, close


@pytest.fixture
def served(make_world, evaluating_in, model_bytes):
    """A world on a port, in which something has happened, and in which a draft waits."""
    world = make_world(server=over_loopback)
    world.ready()
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    evaluating = evaluating_in(world)
    evaluating.train("trained-1", model_bytes)
    evaluating.train("trained-2", save({"w": np.full(2, 2.0)}))
    tables = evaluating.signed(evaluating.answered(*evaluating.permitted()))
    world.gateway("operator").submit_tables("eval-1", tables)
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    world.cosign()
    bad = world.plan(task="response", purpose="marketing")
    world.register(bad)
    with pytest.raises(RefusedError):
        world.gateway("operator").request_permit(bad.digest, "run-2")
    world.gateway("author").create_dpia(world.dpia(version=2, title="Churn, revised"))
    facts = IncidentFacts(title="A backup was lost", nature="n", aware_at=world.clock())
    world.gateway("dpo").open_incident(IncidentOpening(facts=facts))
    return world


@pytest.fixture
def person(chromium, served):
    """Returns a page of a browser of one's own, at the sign-in, and what went wrong on it."""
    contexts = []

    def open_page(**options):
        context = chromium.new_context(base_url=str(served.client.base_url), **options)
        contexts.append(context)
        page = context.new_page()
        faults: list[str] = []
        page.on("console", lambda message: note(faults, page, message))
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.on("requestfailed", lambda request: note_failure(faults, request))
        page.goto("/console")
        return page, faults

    yield open_page
    for context in contexts:
        context.close()


def note(faults, page, message):
    """Keep what the browser complains about; it also gives advice, about password forms."""
    if message.type in {"error", "warning"}:
        faults.append(f"{page.url}: {message.text}")


def note_failure(faults, request):
    """Keep what the browser could not load. Only for the icon does no page's load wait, so that the
    browser may give it up as it leaves: that alone is no fault.
    """
    if not (request.url.endswith(ICON) and request.failure == "net::ERR_ABORTED"):
        faults.append(f"failed: {request.url}: {request.failure}")


def sign_in(page, api_key):
    page.get_by_label("API key").fill(api_key)
    page.get_by_role("button", name="Sign in with the API key").click()
    wait_for_home(page)


def wait_for_home(page):
    """Wait for the page itself: the sign-in's address ends with its address, as what comes next."""
    page.get_by_role("heading", name="Waiting for me").wait_for()


def violations(page):
    found = axe_api.Axe().run(page).response["violations"]
    return [(page.url, item["id"], [node["html"] for node in item["nodes"]]) for item in found]


def addresses(world):
    draft = world.dpia(version=2, title="Churn, revised").digest
    acts = [f"/console/dpias/{draft}/acts/{act}" for act in ("submit", "evaluate", "advise")]
    return [
        "/console",
        "/console/dpias",
        f"/console/dpias/{world.dpia().digest}",
        f"/console/dpias/{draft}",
        *acts,
        f"/console/dpias/{draft}/acts/approve_with_conditions",
        f"/console/dpias/{world.dpia().digest}/acts/suspend",
        "/console/runs",
        "/console/runs/run-1",
        "/console/refusals",
        "/console/opt-outs",
        "/console/opt-outs/north",
        "/console/incidents",
        "/console/incidents/1",
        "/console/models",
        "/console/models/churn/1",
        "/console/models/churn/2",
        "/console/evaluations/eval-1",
        "/console/log",
        "/console/log/2",
    ]


@pytest.mark.parametrize("role", ["compliance", "auditor"])
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_violates_a_rule_of_accessibility_or_complains(person, served, role, width):
    page, faults = person(viewport={"width": width, "height": 900})
    found = violations(page)
    sign_in(page, served.api_keys[role])
    for address in addresses(served):
        answer = page.goto(address)
        assert answer.status == 200, address
        found += violations(page)
    assert found == []
    assert faults == []
    assert page.request.get(ICON).headers["content-type"] == "image/svg+xml"


def test_a_password_signs_in_by_keyboard_and_a_wrong_one_is_told_accessibly(person, served):
    password = "four plain words in a row"
    served.gateway("dpo").set_password(password)
    page, faults = person(java_script_enabled=False)
    tab_to(page, "^name$")
    page.keyboard.type("dora")
    tab_to(page, "^role$")
    page.keyboard.type("dpo")
    tab_to(page, "^password$")
    page.keyboard.type("not this one, surely")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "auth.invalid" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Name").input_value() == "dora"
    assert page.get_by_label("Role").input_value() == "dpo"
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    wait_for_home(page)
    assert [fault for fault in faults if "401" not in fault] == []


def test_axe_finds_what_is_wrong(person, served):
    page, _ = person()
    page.evaluate("document.documentElement.removeAttribute('lang')")
    page.evaluate("document.querySelector('label').remove()")
    assert {"html-has-lang", "label"} <= {id_ for _, id_, _ in violations(page)}


def test_a_refusal_beside_its_form_is_accessible_too(person, served):
    page, _ = person()
    sign_in(page, served.api_keys["author"])
    page.goto(f"/console/dpias/{served.dpia().digest}/acts/evaluate")
    page.get_by_label("Your reasons").fill("read")
    page.get_by_role("button", name="Evaluate").click()
    assert "dpia.act_not_allowed" in page.get_by_role("alert").inner_text()
    assert violations(page) == []


def test_no_script_runs_even_where_one_gets_into_a_page(person, served):
    page, faults = person()
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; "
        "document.body.append(s)"
    )
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in fault for fault in faults)


def tab_to(page, wanted):
    """Press Tab until an element with such a name has the focus, which must be visible."""
    for _ in range(LONGEST_WAY):
        page.keyboard.press("Tab")
        focus = page.locator(":focus")
        if focus.count() == 0:
            continue
        name = focus.get_attribute("id") or focus.get_attribute("href") or focus.inner_text()
        if re.search(wanted, name) or re.search(wanted, focus.inner_text()):
            return focus
    pytest.fail(f"no way by Tab to {wanted}")


def act_by_keyboard(page, act, choice=None):
    tab_to(page, f"/acts/{act}$")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/acts/{act}")
    if choice is not None:
        tab_to(page, r"^advice-")
        page.keyboard.press("Space")
    tab_to(page, "^note$")
    page.keyboard.type("I have read it.")
    tab_to(page, "^" + act.replace("_", " ").capitalize())
    page.keyboard.press("Enter")
    page.wait_for_url("**?done=*")


def test_a_dpia_goes_from_draft_into_force_by_keyboard_without_scripts(person, served):
    draft = served.dpia(version=2, title="Churn, revised").digest
    steps = (
        ("author", "submit", None),
        ("evaluator", "evaluate", None),
        ("dpo", "advise", "favourable"),
        ("approver", "approve", None),
    )
    for role, act, choice in steps:
        page, faults = person(java_script_enabled=False)
        tab_to(page, "^#content$")
        tab_to(page, "^api_key$")
        page.keyboard.type(served.api_keys[role])
        page.keyboard.press("Enter")
        wait_for_home(page)
        act_by_keyboard(page, act, choice)
        assert "Done:" in page.get_by_role("status").inner_text()
        tab_to(page, "^Sign out")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/sign-in")
        assert faults == []
    assert served.get(f"/v1/dpias/{draft}", "auditor")["state"] == "in_force"


def test_the_focus_is_always_visible(person, served):
    page, _ = person()
    sign_in(page, served.api_keys["dpo"])
    page.goto(f"/console/dpias/{served.dpia().digest}")
    seen = 0
    for _ in range(25):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement);"
            " return [s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
        )
        assert outline[0] == "solid"
        assert outline[1] >= 2
        seen += 1
    assert seen == 25
