"""What is decided about models that were trained before customers objected, and that it acts."""

from contextlib import nullcontext
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from fedcore import canonical, cli, gateway_http
from fedcore.bundle import read_bundle
from fedcore.errors import ConflictError, ForbiddenError, NotFoundError, RefusedError
from fedcore.model_decisions import DecisionRequest, ModelDecision
from governance.decisions.notices import decide_notices
from governance.notice_facts import load_notice_facts
from governance.notice_settings import NoticeSettings
from registry.database import Database


def straddle(world, give):
    world.run("run-1")
    world.gateway("operator").register_model("run-1", "churn", give("model_bytes"))
    world.clock.tick(minutes=10)
    for sequence in (1, 2, 3):
        world.gateway().submit_opt_out(world.sign(world.opt_out("north", sequence), "north"))


BEGINNINGS = {"straddled": straddle}


@pytest.fixture
def straddled(world):
    """Three opt-outs of north after a run of both units, which has become a model."""
    return world


def request(outcome="kept", **changes):
    values = {"unit": "north", "up_to": 2, "outcome": outcome, "reason": "weighed"}
    return DecisionRequest(**{**values, **changes})


def decide(world, outcome="kept", role="compliance", seen="*", **changes):
    envelope = world.gateway(role).decide_model("churn", 1, request(outcome, **changes), seen)
    return world.open(envelope, ModelDecision)


def due(world, **amount):
    world.clock.tick(**amount)
    moment = world.clock.now
    world.clock.tick(**{name: -value for name, value in amount.items()})
    return moment


def shown(world, sequence, role="dpo"):
    [model] = world.gateway(role).fetch_opt_out("north", sequence).trained_before
    return model


def refusal(make):
    with pytest.raises(RefusedError) as caught:
        make()
    return caught.value.codes


def starting_from(world, model_bytes):
    plan = world.plan(title="On top", initial_model=canonical.digest(model_bytes))
    world.register(plan)
    return plan


def test_a_decision_is_signed_logged_and_shown_with_the_opt_outs_that_it_is_about(straddled):
    assert shown(straddled, 1).decided is None
    decision = decide(straddled, "retrain_due", due_at=due(straddled, days=30))
    assert (decision.number, decision.previous, decision.decided_by) == (1, None, "carla")
    entries = straddled.get("/v1/log/entries", "auditor")["entries"]
    assert (entries[-1]["entry"]["kind"], entries[-1]["entry"]["document"]) == (
        "model-decision",
        decision.digest,
    )
    for role in ("dpo", "unit_operator"):
        decided = shown(straddled, 2, role).decided
        assert (decided.outcome, decided.document) == ("retrain_due", decision.digest)
        assert (decided.up_to, decided.reason, decided.overdue) == (2, "weighed", False)
    assert shown(straddled, 3).decided is None
    straddled.clock.tick(days=30)
    assert shown(straddled, 2).decided.overdue


def test_the_newest_decision_of_a_unit_is_in_force_and_those_before_stay(straddled):
    first = decide(straddled)
    south = straddled.opt_out("south", 1)
    straddled.gateway().submit_opt_out(straddled.sign(south, "south"))
    of_south = decide(straddled, "withdrawn", unit="south", up_to=1)
    second = decide(straddled, "retrain_due", up_to=3, due_at=due(straddled, days=1))
    assert (second.number, second.previous) == (3, of_south.digest)
    views, _ = straddled.gateway("auditor").see_decisions("churn", 1)
    assert [(view.document, view.in_force) for view in views] == [
        (first.digest, False),
        (of_south.digest, True),
        (second.digest, True),
    ]
    model = shown(straddled, 3)
    assert (model.decided.document, model.withdrawn) == (second.digest, True)


def test_an_objection_that_has_changed_since_is_open_again(straddled):
    decide(straddled, up_to=3)
    assert shown(straddled, 1).decided is not None
    again = straddled.opt_out("north", 1)
    back = straddled.opt_out("north", 4, pseudonym=again.pseudonym, act="withdrawn")
    anew = straddled.opt_out("north", 5, pseudonym=again.pseudonym)
    for event in (back, anew):
        straddled.gateway().submit_opt_out(straddled.sign(event, "north"))
    assert shown(straddled, 1).decided is None
    decide(straddled, up_to=5)
    assert shown(straddled, 1).decided.up_to == 5


def test_a_withdrawn_version_is_handed_out_to_none_but_those_who_oversee(straddled):
    gateway = straddled.gateway
    assert gateway("author").fetch_evidence("churn", 1)
    decide(straddled, "withdrawn")
    for role in ("author", "operator", "approver", "evaluator"):
        assert refusal(lambda role=role: gateway(role).fetch_evidence("churn", 1)) == (
            "model.withdrawn",
        )
    for role in ("auditor", "compliance", "dpo", "admin"):
        assert gateway(role).fetch_evidence("churn", 1)
    decide(straddled, role="dpo")
    assert gateway("author").fetch_evidence("churn", 1)


def test_the_bytes_of_a_withdrawn_version_are_handed_out_like_its_evidence(straddled):
    gateway = straddled.gateway
    evidence = read_bundle(gateway("author").fetch_evidence("churn", 1))
    digest = canonical.digest(evidence.artifact)
    assert gateway("operator").fetch_artifact(digest) == evidence.artifact
    with pytest.raises(NotFoundError) as unknown:
        gateway("operator").fetch_artifact(canonical.digest(b"no model"))
    assert unknown.value.code == "model.unknown"
    decide(straddled, "withdrawn")
    for role in ("author", "operator", "approver", "evaluator"):
        assert refusal(lambda role=role: gateway(role).fetch_artifact(digest)) == (
            "model.withdrawn",
        )
    for role in ("auditor", "compliance", "dpo", "admin"):
        assert gateway(role).fetch_artifact(digest) == evidence.artifact


def test_no_run_starts_from_a_withdrawn_version_and_one_that_has_ends_at_once(
    straddled, model_bytes
):
    plan = starting_from(straddled, model_bytes)
    straddled.permit("run-2", plan)
    straddled.permit("run-3")
    decide(straddled, "withdrawn")
    assert straddled.bulletin("north").revoked_runs == ("run-2",)
    code = ("plan.initial_model_withdrawn",)
    assert refusal(lambda: straddled.permit("run-4", plan)) == code
    renew = straddled.gateway("operator").renew_permit
    assert refusal(lambda: renew("run-2")) == ("permit.revoked", *code)
    renew("run-3")
    [replay] = straddled.get("/v1/permits/run-4/replays", "auditor")["replays"]
    assert (replay["codes_today"], replay["agrees"]) == (list(code), True)
    decide(straddled, role="dpo")
    assert straddled.permit("run-4", plan).run_id == "run-4"


def test_one_withdraws_and_another_person_ends_that_in_whatever_role(straddled):
    decide(straddled, "withdrawn")
    straddled.api_keys["dpo"] = straddled.gateway("admin").create_account("carla", "dpo")
    assert refusal(lambda: decide(straddled, role="dpo")) == ("decision.same_person",)
    assert decide(straddled, "withdrawn", up_to=3).number == 2
    straddled.api_keys["dpo"] = straddled.gateway("admin").create_account("dave", "dpo")
    assert decide(straddled, role="dpo", up_to=3).decided_by == "dave"
    assert not shown(straddled, 3).withdrawn


def test_nobody_lets_the_model_of_their_own_plan_stay(straddled):
    straddled.api_keys["anna"] = straddled.gateway("admin").create_account("anna", "compliance")
    assert refusal(lambda: decide(straddled, role="anna")) == ("decision.own_plan",)
    assert decide(straddled, "withdrawn", role="anna").decided_by == "anna"
    assert decide(straddled).decided_by == "carla"


def test_a_decision_is_about_a_unit_that_trained_and_opt_outs_that_are_here(straddled):
    straddled.enrol("east")
    straddled.gateway().submit_opt_out(straddled.sign(straddled.opt_out("east", 1), "east"))
    elsewhere = refusal(lambda: decide(straddled, unit="east", up_to=1))
    assert elsewhere == ("decision.unit_not_trained",)
    for changes in ({"up_to": 4}, {"unit": "south", "up_to": 1}, {"unit": "nobody"}):
        with pytest.raises(NotFoundError, match=r"opt_out\.unknown"):
            decide(straddled, **changes)
    with pytest.raises(NotFoundError, match=r"model\.unknown"):
        straddled.gateway("dpo").decide_model("churn", 2, request(), "*")
    decide(straddled, up_to=3)
    assert refusal(lambda: decide(straddled, up_to=2)) == ("decision.covers_less",)
    past = refusal(lambda: decide(straddled, "retrain_due", up_to=3, due_at=straddled.clock.now))
    assert past == ("decision.due_past",)


def test_an_overdue_model_is_a_notice_until_another_decision(straddled):
    terms = NoticeSettings().terms
    database = Database(straddled.settings.database_url)

    def noticed():
        now = straddled.clock.now
        with database.reading() as session:
            found = decide_notices(load_notice_facts(session, now), terms, now)
        return [(n.subject, n.text) for n in found if n.kind == "retrain_overdue"]

    decide(straddled, "retrain_due", due_at=due(straddled, hours=1))
    straddled.clock.tick(hours=1, seconds=-1)
    assert noticed() == []
    straddled.clock.tick(seconds=1)
    text = "was to be trained anew by 2025-06-01T13:10:00+00:00: decide about it once more"
    assert noticed() == [("churn version 1", text)]
    decide(straddled)
    assert noticed() == []
    database.close()


def test_who_decides_has_seen_the_decision_before(straddled):
    _, seen = straddled.gateway("dpo").see_decisions("churn", 1)
    decide(straddled, seen=seen)
    with pytest.raises(ConflictError, match=r"request\.if_match_failed"):
        decide(straddled, "withdrawn", role="dpo", seen=seen)
    _, seen = straddled.gateway("dpo").see_decisions("churn", 1)
    assert decide(straddled, "withdrawn", role="dpo", seen=seen).number == 2


def test_compliance_and_the_dpo_decide_and_nobody_else(straddled):
    for role in ("admin", "author", "operator", "approver", "evaluator", "auditor"):
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            decide(straddled, role=role)
    assert decide(straddled, role="dpo").decided_by == "dora"


def test_the_command_decides_and_shows_what_was_decided(straddled, monkeypatch, tmp_path):
    key = tmp_path / "dora.key"
    key.write_text(straddled.api_keys["dpo"])
    key.chmod(0o600)
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(straddled.client))

    def said(*words):
        entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
        line = ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
        command = ["governance", "opt-outs", *words, *line]
        result = CliRunner().invoke(cli.RootCommand({"governance": entry}), command)
        return result.exit_code, result.output

    about = ("north", "3", "churn:1")
    why = ("--reason", "weighed")
    assert "    nothing is decided yet" in said("status", "north", "--sequence", "3")[1]
    code, output = said("decide", *about, "retrain_due", *why, "--due", "2025-07-01")
    assert (code, output.startswith("sha256:")) == (0, True)
    status = said("status", "north", "--sequence", "3")[1]
    assert "    retrain_due by 2025-07-01T23:59:59+00:00; decided 2025-06-01" in status
    code, output = said("decide", *about, "withdrawn", *why)
    assert (code, "dora, in force: retrain_due by 2025-07-01" in output) == (0, True)
    assert "    withdrawn; decided 2025-06-01" in said("status", "north", "--sequence", "1")[1]
    code, output = said("decisions", "churn:1")
    assert code == 0
    assert "decision 1, 2025-06-01" in output
    assert "dora, replaced: retrain_due" in output
    assert "in force: withdrawn for north up to 3: weighed" in output
    code, output = said("decide", *about, "kept", *why)
    assert (code, "decision.same_person" in output) == (1, True)
    code, output = said("decide", *about, "kept", *why, "--due", "2025-07-01")
    assert (code, "request.invalid" in output) == (1, True)
    for model in ("churn", "churn:", "churn:0", ":1", "churn:x"):
        code, output = said("decisions", model)
        assert (code, "request.invalid" in output) == (1, True)
