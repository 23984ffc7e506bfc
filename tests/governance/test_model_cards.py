"""Model cards: recorded facts, what is not recorded, and nothing of it made into markup."""

import html
import re
from contextlib import nullcontext
from html.parser import HTMLParser
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from click.testing import CliRunner

from fedcore import canonical, cli, gateway_http
from fedcore.errors import NotFoundError
from fedcore.model_decisions import DecisionRequest
from fedcore.plans import MetricFloor
from fedcore.record import Realm
from fedcore.weights import encode_weights

HOSTILE = 'Churn <script>alert(1)</script> | *two* [x](y) "q"'
DATA = encode_weights({"0.weight": np.array([[-1.25]]), "0.bias": np.zeros(1)})


@pytest.fixture
def realm():
    """A model of real units."""
    return Realm.PRODUCTION


def train(world, _give):
    floors = (MetricFloor(metric="roc_auc", floor=0.8),)
    plan = world.plan(title=HOSTILE, metric_floors=floors)
    world.register(plan)
    permit = world.permit("run-1", plan)
    previous = None
    for number in (1, 2):
        given = [
            world.receipt(permit, unit, number, plan=plan.digest) for unit in ("north", "south")
        ]
        released = canonical.digest(DATA) if number == 2 else None
        previous = world.report(given, previous, released=released)
        world.submit(previous, given)
    world.gateway("operator").register_model("run-1", "churn", DATA)


BEGINNINGS = {"trained": train}


@pytest.fixture
def trained(world):
    """A model that is one, of a plan with floors and a title that would be markup."""
    return world


def card(world, form="md", role="author"):
    return world.gateway(role).fetch_card("churn", 1, form)


class Texts(HTMLParser):
    """The texts and the tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def read(page):
    parser = Texts()
    parser.feed(page)
    return parser


def test_a_card_says_what_was_recorded(trained):
    page = card(trained)
    model = trained.get("/v1/models", "auditor")["models"][0]
    for said in (
        "# churn, version 1",
        f"- **Document**: {model['document']}",
        "- **Realm**: production",
        r"- **Purpose**: Churn \(churn\_prediction\)",
        r"whether churned is Yes \(and not No\) within 30 days",
        "| tenure | scale | 0 to 72 | at every unit |",
        "- **Rounds**: 2 accepted, 0 void",
        "| north | 2 of 2 |",
        "- **Noise multiplier**: 8",
        r"- **Floors of the plan**: roc\_auc 0.8",
        r"in force, valid until 2026-03-28 12:00 UTC",
        "| south | 2025-06-01 12:00 UTC |",
    ):
        assert said in page, said
    claims = re.findall(r"^\| (north|south) \| (\d\.\d{4}) \| (\d\.\d{4}) \|$", page, re.M)
    assert [unit for unit, _, _ in claims] == ["north", "south"]
    assert all(float(claim) > float(pld) > 0 for _, claim, pld in claims)


def test_a_card_says_what_was_not_recorded_and_what_it_cannot_show(trained):
    page = card(trained)
    for said in (
        "An evaluation is not recorded.",
        "A fairness audit is not recorded.",
        "Decisions on later opt-outs: not recorded.",
        "- **Alias now**: none",
        "As champion, what speaks against it: There is no evaluation of this version: run one.",
        "That a unit told the truth",
    ):
        assert said in page, said


def test_drivers_are_told_from_the_model_and_the_contract(trained):
    page = card(trained)
    assert "| tenure | 2.5000 | 0 | 72 |" in page
    assert "Exact: what a field adds" in page


def test_bytes_that_are_no_model_of_the_plan_have_no_drivers_and_the_card_says_why(
    world, model_bytes
):
    world.run("run-2")
    world.gateway("operator").register_model("run-2", "churn", model_bytes)
    assert r"Not told: the model's names, shapes or types are not the plan's" in card(world)


def test_no_text_of_a_plan_becomes_markup(trained):
    page = read(card(trained, "html"))
    assert "script" not in page.tags
    assert any(HOSTILE in text for text in page.texts)
    shown = card(trained)
    assert r"Churn &lt;script&gt;alert\(1\)&lt;/script&gt; \| \*two\* \[x\]\(y\)" in shown
    assert "<script" not in shown


def test_html_and_markdown_say_the_same(trained):
    page = "".join(read(card(trained, "html")).texts)
    plain = html.unescape(re.sub(r"\\(.)", r"\1", card(trained)))
    cells = [
        cell.strip()
        for line in plain.splitlines()
        if line.startswith("|") and HOSTILE not in line
        for cell in line.strip("|").split("|")
        if set(cell) != {"-"}
    ]
    assert len(cells) > 20
    for said in (*cells, *re.findall(r"^## (.*)$", plain, re.M)):
        assert said in page, said


def test_decisions_and_moves_are_on_the_card_and_a_withdrawn_version_says_so_first(trained):
    trained.gateway("approver").promote_model(("churn", 1), "challenger", "r", "*")
    trained.gateway().submit_opt_out(trained.sign(trained.opt_out("north", 1), "north"))
    assert "- **Alias now**: challenger" in card(trained)
    assert "| 2025-06-01 12:00 UTC | challenger promoted | paul |" in card(trained)
    request = DecisionRequest(unit="north", up_to=1, outcome="withdrawn", reason="it <i>hurts</i>")
    trained.gateway("compliance").decide_model("churn", 1, request, "*")
    page = card(trained)
    assert "> **Withdrawn: a decision in force says" in page
    assert page.index("Withdrawn") < page.index("## The version")
    assert "north, up to its opt-out 1: withdrawn. it &lt;i&gt;hurts&lt;/i&gt;" in page


def test_a_card_is_the_same_for_whoever_reads_it(trained):
    assert card(trained, role="author") == card(trained, role="auditor")


def test_a_card_of_nothing_is_not_found(trained):
    with pytest.raises(NotFoundError, match=r"model\.unknown"):
        trained.gateway("author").fetch_card("churn", 2, "md")


def test_a_card_is_sent_as_what_it_is(trained):
    headers = {"Authorization": f"Bearer {trained.api_keys['auditor']}"}
    for query, media in (("", "text/html"), ("?format=md", "text/markdown")):
        answer = trained.client.get(f"/v1/models/churn/1/card{query}", headers=headers)
        assert answer.headers["content-type"].partition(";")[0] == media
    refused = trained.client.get("/v1/models/churn/1/card?format=pdf", headers=headers)
    assert refused.json()["code"] == "request.invalid"


def test_the_command_prints_a_card(trained, monkeypatch, tmp_path):
    key = tmp_path / "anna.key"
    key.write_text(trained.api_keys["author"])
    key.chmod(0o600)
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(trained.client))

    def said(*words):
        entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
        line = ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
        command = ["governance", "models", "card", "churn", "1", *words, *line]
        result = CliRunner().invoke(cli.RootCommand({"governance": entry}), command)
        return result.exit_code, result.output

    assert said() == (0, card(trained))
    assert said("--format", "html") == (0, card(trained, "html"))
    code, output = said("--format", "pdf")
    assert (code, "request.invalid" in output) == (1, True)
