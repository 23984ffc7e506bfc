"""Aliases of models from the outside: approvals, the gate, moves, and the way back."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from fedcore import cli, gateway_http
from fedcore.errors import ConflictError, ForbiddenError, NotFoundError, RefusedError
from fedcore.model_decisions import DecisionRequest
from fedcore.models import LogEntry, ModelVersion
from fedcore.promotions import ModelApproval, Promotion
from fedcore.record import Realm
from fedcore.signing import SigningKey
from governance import promotions
from governance.decisions.promotion_facts import (
    ApprovalFacts,
    EvaluationFacts,
    FairnessFacts,
    Metric,
)
from governance.office import Office
from governance.promotion_facts import load_promotion
from registry.accounts import Account
from registry.database import Database

# What a champion is asked beyond a challenger, as long as nobody has evaluated or audited.
UNAUDITED = (
    "promotion.evaluation_missing",
    "promotion.fairness_missing",
    "promotion.approvals_missing",
)


@pytest.fixture
def realm():
    """Nothing of a simulation gets an alias."""
    return Realm.PRODUCTION


def train_three(world, give):
    for number in (1, 2, 3):
        world.run(f"run-{number}")
        world.gateway("operator").register_model(f"run-{number}", "churn", give("model_bytes"))


BEGINNINGS = {"trained": train_three}


@pytest.fixture
def trained(world):
    """Three versions of one model."""
    return world


def seen(world):
    return world.gateway("auditor").see_aliases("churn")[1]


def promote(world, version, alias="challenger", role="approver", at=None):
    envelope = world.gateway(role).promote_model(("churn", version), alias, "r", at or seen(world))
    return world.open(envelope, Promotion)


def roll_back(world, alias="challenger", role="dpo", at=None):
    envelope = world.gateway(role).roll_back("churn", alias, "r", at or seen(world))
    return world.open(envelope, Promotion)


def holders(world):
    history, _ = world.gateway("auditor").see_aliases("churn")
    return {holder.alias: holder.version for holder in history.holders}


def refusal(make):
    with pytest.raises(RefusedError) as caught:
        make()
    return caught.value.codes


def speaks_against(world, version=1, alias="champion", role="auditor"):
    found = world.gateway(role).check_promotion("churn", version, alias)
    return tuple(verdict.code for verdict in found.verdicts if verdict.objection is not None)


def withdraw(world, version, outcome="withdrawn"):
    if version == 1:
        world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    request = DecisionRequest(unit="north", up_to=1, outcome=outcome, reason="r")
    world.gateway("compliance").decide_model("churn", version, request, "*")


def office_of(world):
    return Office(
        world.settings,
        Database(world.settings.database_url),
        SigningKey.load(world.settings.signing_key),
        world.clock,
    )


def complete(facts, *people):
    """The facts with a good evaluation and audit, approved by these people."""
    audited = replace(
        facts,
        evaluation=EvaluationFacts(facts.model, facts.model, {"roc_auc": Metric(0.9, 0.88)}),
        fairness=FairnessFacts(facts.model, facts.model, "PASS"),
    )
    approvals = tuple(ApprovalFacts(audited.model, person, audited.seen) for person in people)
    return replace(audited, approvals=approvals)


def crown(world, office, version):
    """Make a version champion on complete evidence, as the route does on what it has loaded."""
    with office.writing() as desk:
        facts = load_promotion(
            desk, "churn", version, "champion", Account("paul", "approver", None)
        )
        outcome = promotions.promote(desk, complete(facts, "paul", "emil"), "r")
    if isinstance(outcome, RefusedError):
        raise outcome
    return world.open(outcome, Promotion)


@pytest.fixture
def office(trained):
    opened = office_of(trained)
    yield opened
    opened.close()


def test_a_move_is_signed_logged_and_shown_and_asking_again_moves_nothing(trained):
    assert holders(trained) == {"challenger": None, "champion": None}
    moved = promote(trained, 1)
    assert (moved.number, moved.previous, moved.from_version, moved.to_version) == (
        1,
        None,
        None,
        1,
    )
    assert (moved.moved_by, moved.step) == ("paul", "promoted")
    entry = trained.get("/v1/log/entries", "auditor")["entries"][-1]["entry"]
    assert LogEntry.from_json(entry).document == moved.digest
    assert holders(trained) == {"challenger": 1, "champion": None}
    assert promote(trained, 1) == moved
    second = promote(trained, 2, role="compliance")
    assert (second.number, second.previous, second.from_version) == (2, moved.digest, 1)
    history, _ = trained.gateway("author").see_aliases("churn")
    assert [view.document for view in history.moves] == [moved.digest, second.digest]


def test_all_rules_are_shown_at_once_and_a_champion_is_asked_more(trained):
    assert speaks_against(trained, alias="challenger") == ()
    assert speaks_against(trained) == UNAUDITED
    assert refusal(lambda: promote(trained, 1, "champion")) == UNAUDITED
    assert holders(trained)["champion"] is None
    found = trained.gateway("author").check_promotion("churn", 1, "challenger")
    assert all(verdict.asks.endswith(".") for verdict in found.verdicts)
    # Who looks counts: the author of the plan may not move the alias themselves.
    assert speaks_against(trained, role="author") == ("promotion.own_plan", *UNAUDITED)


def test_every_answer_is_kept_with_its_facts_and_rules(trained):
    refusal(lambda: promote(trained, 1, "champion"))
    promote(trained, 1)
    path = "/v1/models/churn/1/promotion/answers"
    no, yes = trained.get(path, "auditor")["answers"]
    assert (tuple(no["codes"]), no["alias"], no["asked_by"]) == (UNAUDITED, "champion", "paul")
    assert (yes["codes"], yes["alias"]) == ([], "challenger")
    assert no["rules"] == yes["rules"]
    history, _ = trained.gateway("auditor").see_aliases("churn")
    [view] = history.moves
    assert trained.open(view.envelope, Promotion).facts == yes["facts"] != no["facts"]


def test_a_withdrawn_version_gets_no_alias_and_another_decision_opens_the_way(trained):
    withdraw(trained, 1)
    assert refusal(lambda: promote(trained, 1)) == ("promotion.withdrawn",)
    assert promote(trained, 2).to_version == 2
    request = DecisionRequest(unit="north", up_to=1, outcome="kept", reason="r")
    trained.gateway("dpo").decide_model("churn", 1, request, "*")
    assert promote(trained, 1).to_version == 1


def test_a_version_that_is_to_be_trained_anew_gets_no_alias(trained):
    trained.gateway().submit_opt_out(trained.sign(trained.opt_out("north", 1), "north"))
    trained.clock.tick(hours=2)
    due_at = trained.clock.now
    trained.clock.tick(hours=-2)
    request = DecisionRequest(
        unit="north", up_to=1, outcome="retrain_due", due_at=due_at, reason="r"
    )
    trained.gateway("compliance").decide_model("churn", 1, request, "*")
    assert refusal(lambda: promote(trained, 1)) == ("promotion.retrain_due",)
    assert promote(trained, 2).to_version == 2


@pytest.mark.parametrize(
    ("scope", "subject"),
    [("all", None), ("unit", "north"), ("purpose", "marketing"), ("dpia", "churn-dpia")],
)
def test_a_stop_bars_the_versions_that_it_concerns_until_it_is_lifted(trained, scope, subject):
    trained.gateway("dpo").stop("unit", "elsewhere", "r")
    assert speaks_against(trained, alias="challenger") == ()
    digest = trained.gateway("dpo").stop(scope, subject, "r").digest
    assert refusal(lambda: promote(trained, 1)) == ("promotion.stopped",)
    trained.gateway("compliance").lift_stop(digest, "r")
    assert promote(trained, 1).to_version == 1


def test_a_suspended_dpia_bars_its_models_until_it_is_in_force_again_or_has_a_successor(trained):
    trained.act(trained.dpia().digest, "suspend", "compliance")
    assert refusal(lambda: promote(trained, 1)) == ("promotion.dpia_not_in_force",)
    trained.act(trained.dpia().digest, "resume", "approver")
    assert speaks_against(trained, alias="challenger") == ()
    # Suspending has revoked the permits of runs that were over: that says nothing of the runs.
    narrow = trained.dpia().bindings.model_copy(update={"units": ("north",), "minimum_units": 1})
    trained.take_into_force(trained.dpia(version=2, bindings=narrow))
    assert refusal(lambda: promote(trained, 1)) == ("promotion.dpia_not_in_force",)
    trained.take_into_force(trained.dpia(version=3))
    assert promote(trained, 1).to_version == 1


def test_what_was_erased_or_taken_out_of_the_database_is_missing(trained):
    model = trained.open(
        trained.gateway("auditor")._envelope("GET", "/v1/models/churn/1"), ModelVersion
    )
    database = Database(trained.settings.database_url)
    with database.writing() as session:
        session.connection().execute(
            text("DELETE FROM log_entries WHERE document = :digest"), {"digest": model.receipts[0]}
        )
    assert refusal(lambda: promote(trained, 1)) == ("promotion.not_logged",)
    with database.writing() as session:
        session.connection().execute(
            text("DELETE FROM documents WHERE digest = :digest"),
            {"digest": model.round_reports[0]},
        )
    assert refusal(lambda: promote(trained, 1)) == (
        "promotion.evidence_missing",
        "promotion.rounds_incomplete",
        "promotion.not_logged",
    )
    assert promote(trained, 2).to_version == 2
    with database.writing() as session:
        session.connection().execute(
            text("DELETE FROM documents WHERE digest = :digest"), {"digest": model.plan}
        )
    database.close()
    assert refusal(lambda: promote(trained, 3)) == (
        "promotion.evidence_missing",
        "promotion.author_unknown",
    )


def test_two_people_approve_the_evidence_that_they_have_seen(trained):
    evidence = trained.gateway("approver").check_promotion("churn", 1, "champion").evidence

    def approve(role):
        envelope = trained.gateway(role).approve_model("churn", 1, evidence, "looked at")
        return trained.open(envelope, ModelApproval)

    first = approve("approver")
    assert (first.number, first.approved_by, first.evidence) == (1, "paul", evidence)
    assert approve("approver") == first
    # The same person in another role is one person.
    trained.api_keys["evaluator"] = trained.gateway("admin").create_account("paul", "evaluator")
    assert approve("evaluator") == first
    assert "promotion.approvals_missing" in speaks_against(trained)
    assert approve("compliance").number == 2
    found = trained.gateway("auditor").check_promotion("churn", 1, "champion")
    assert found.approved_by == ("carla", "paul")
    assert speaks_against(trained) == UNAUDITED[:2]
    # Of another version nobody has approved anything.
    assert speaks_against(trained, 2) == UNAUDITED


def test_who_wrote_the_plan_neither_approves_nor_promotes_in_whatever_role(trained):
    trained.api_keys["anna"] = trained.gateway("admin").create_account("anna", "approver")
    evidence = trained.gateway("anna").check_promotion("churn", 1, "champion").evidence
    approve = trained.gateway("anna").approve_model
    assert refusal(lambda: approve("churn", 1, evidence, "r")) == ("approval.own_plan",)
    assert refusal(lambda: promote(trained, 1, role="anna")) == ("promotion.own_plan",)
    assert trained.gateway("approver").approve_model("churn", 1, evidence, "r")
    assert promote(trained, 1).moved_by == "paul"


def test_other_evidence_than_the_one_that_was_seen_is_not_approved(trained):
    evidence = trained.gateway("approver").check_promotion("churn", 2, "champion").evidence
    with pytest.raises(ConflictError, match=r"approval\.evidence_differs"):
        trained.gateway("approver").approve_model("churn", 1, evidence, "r")
    assert trained.gateway("approver").approve_model("churn", 2, evidence, "r")


def test_with_complete_evidence_a_challenger_becomes_champion_and_leaves_the_other_alias(
    trained, office
):
    crown(trained, office, 1)
    challenger = promote(trained, 2)
    moved = crown(trained, office, 2)
    assert (moved.from_version, moved.to_version, moved.number) == (1, 2, 2)
    assert holders(trained) == {"challenger": None, "champion": 2}
    history, _ = trained.gateway("auditor").see_aliases("churn")
    opened = [trained.open(view.envelope, Promotion) for view in history.moves]
    assert [(move.alias, move.step, move.to_version) for move in opened] == [
        ("champion", "promoted", 1),
        ("challenger", "promoted", 2),
        ("challenger", "vacated", None),
        ("champion", "promoted", 2),
    ]
    assert opened[2].previous == challenger.digest
    with pytest.raises(ConflictError, match=r"promotion\.champion_already"):
        promote(trained, 2)


def test_a_rollback_is_one_command_that_asks_no_rule_and_leaves_history(trained, office):
    crown(trained, office, 1)
    crown(trained, office, 2)
    trained.gateway("dpo").stop("all", None, "r")
    moved = roll_back(trained, "champion")
    assert (moved.step, moved.from_version, moved.to_version) == ("rolled_back", 2, 1)
    assert (moved.moved_by, moved.facts, moved.approvals) == ("dora", None, ())
    assert holders(trained)["champion"] == 1
    assert roll_back(trained, "champion").to_version is None
    assert holders(trained)["champion"] is None
    code = ("promotion.nothing_to_roll_back",)
    assert refusal(lambda: roll_back(trained, "champion")) == code
    assert len(trained.gateway("auditor").see_aliases("churn")[0].moves) == 4


def test_a_rollback_passes_over_a_withdrawn_version_and_a_withdrawn_champion_is_shown(
    trained, office
):
    for version in (1, 2, 3):
        crown(trained, office, version)
    withdraw(trained, 1, "kept")
    withdraw(trained, 2)
    withdraw(trained, 3)
    history, _ = trained.gateway("auditor").see_aliases("churn")
    assert [(h.alias, h.version, h.withdrawn) for h in history.holders] == [
        ("challenger", None, False),
        ("champion", 3, True),
    ]
    assert roll_back(trained, "champion").to_version == 1


def test_who_moves_has_seen_where_the_aliases_are(trained):
    before = seen(trained)
    promote(trained, 1, at=before)
    for move in (
        lambda: promote(trained, 2, at=before),
        lambda: roll_back(trained, at=before),
    ):
        with pytest.raises(ConflictError, match=r"request\.if_match_failed"):
            move()
    assert promote(trained, 2).to_version == 2


@pytest.mark.databases
def test_of_fifty_people_who_saw_the_same_one_makes_their_version_champion(trained, office):
    """The route's own steps on complete evidence: look where the aliases are, decide, move."""
    with office.reading() as desk:
        before = promotions.aliases_seen(desk, "churn")

    def attempt(number):
        version = number % 3 + 1
        with office.writing() as desk:
            if promotions.aliases_seen(desk, "churn") != before:
                return None
            account = Account(f"person-{number}", "approver", None)
            facts = load_promotion(desk, "churn", version, "champion", account)
            promotions.promote(desk, complete(facts, "paul", "emil"), "r")
        return version

    with ThreadPoolExecutor(50) as pool:
        [made] = [version for version in pool.map(attempt, range(50)) if version is not None]
    assert holders(trained)["champion"] == made
    assert len(trained.gateway("auditor").see_aliases("churn")[0].moves) == 1


@pytest.mark.databases
def test_of_fifty_requests_at_once_one_moves_the_alias(trained):
    before = seen(trained)

    def attempt(number):
        try:
            return promote(trained, number % 3 + 1, at=before).to_version
        except ConflictError as error:
            return error.code

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(attempt, range(50)))
    [made] = {answer for answer in answers if isinstance(answer, int)}
    assert holders(trained)["challenger"] == made
    assert answers.count("request.if_match_failed") == 49
    assert len(trained.gateway("auditor").see_aliases("churn")[0].moves) == 1


def test_approvers_and_compliance_move_forward_the_officer_back_only(trained):
    for role in ("admin", "author", "operator", "dpo", "evaluator", "auditor"):
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            promote(trained, 1, role=role)
    promote(trained, 1, role="compliance")
    for role in ("admin", "author", "operator", "evaluator", "auditor"):
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            roll_back(trained, role=role)
    with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
        trained.gateway("dpo").approve_model("churn", 1, "sha256:" + "0" * 64, "r")
    assert roll_back(trained).moved_by == "dora"


def test_unknown_models_have_no_aliases(trained):
    for ask in (
        lambda: trained.gateway("auditor").see_aliases("other"),
        lambda: trained.gateway("dpo").roll_back("other", "champion", "r", "*"),
        lambda: trained.gateway("auditor").check_promotion("churn", 4, "champion"),
        lambda: trained.gateway("approver").promote_model(("churn", 4), "champion", "r", "*"),
    ):
        with pytest.raises(NotFoundError, match=r"model\.unknown"):
            ask()


def test_a_check_asks_the_database_as_often_beside_many_runs_and_versions_as_beside_few(
    trained, counted, model_bytes
):
    costs = []
    for _ in range(2):
        with counted() as statements:
            speaks_against(trained)
        costs.append(len(statements))
        run_id = f"run-{len(costs) + 3}"
        trained.run(run_id)
        trained.gateway("operator").register_model(run_id, "churn", model_bytes)
    assert costs[0] == costs[1] <= 30, costs


def test_aliases_are_read_in_as_many_statements_after_many_moves_as_after_few(trained, counted):
    costs = []
    for version in (1, 2, 3, 1, 2, 3):
        promote(trained, version)
        with counted() as statements:
            holders(trained)
        costs.append(len(statements))
    assert len(set(costs)) == 1, costs
    assert costs[0] <= 10, statements


@pytest.fixture
def said(trained, monkeypatch, tmp_path):
    """Runs a command of `governance models` in a role; only the network is replaced."""
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(trained.client))

    def run(role, *words):
        key = tmp_path / f"{role}.key"
        key.write_text(trained.api_keys[role])
        key.chmod(0o600)
        entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
        line = ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
        command = ["governance", "models", *words, *line]
        result = CliRunner().invoke(cli.RootCommand({"governance": entry}), command)
        return result.exit_code, result.output

    return run


def test_the_commands_check_approve_promote_roll_back_and_show(trained, said):
    code, output = said("auditor", "check", "churn", "1", "--to", "challenger")
    assert (code, "NO " in output) == (0, False)
    code, output = said("auditor", "check", "churn", "1")
    assert code == 1
    assert output.count("NO ") == len(UNAUDITED)
    assert "      There is no evaluation of this version: run one." in output
    why = ("--reason", "looked at")
    code, output = said("approver", "approve", "churn", "1", *why)
    assert (code, output.splitlines()[-1].startswith("sha256:")) == (0, True)
    assert "approved by paul" in said("auditor", "check", "churn", "1")[1]
    code, output = said("approver", "promote", "churn", "1", "--to", "challenger", *why)
    assert (code, "challenger: nobody" in output) == (0, True)
    code, output = said("approver", "promote", "churn", "1", "--to", "champion", *why)
    assert (code, "promotion.evaluation_missing" in output) == (1, True)
    code, output = said("approver", "promote", "churn", "1", "--to", "winner", *why)
    assert (code, "request.invalid" in output) == (1, True)
    code, output = said("dpo", "rollback", "churn", "--alias", "challenger", *why)
    assert (code, "challenger: version 1" in output) == (0, True)
    code, output = said("dpo", "rollback", "churn", *why)
    assert (code, "promotion.nothing_to_roll_back" in output) == (1, True)
    code, output = said("auditor", "history", "churn")
    assert code == 0
    assert "paul: challenger promoted from nobody to version 1: looked at" in output
    assert "dora: challenger rolled back from version 1 to nobody: looked at" in output
    assert output.endswith("challenger: nobody\nchampion: nobody\n")


def test_evidence_is_fetched_whole_and_written_over_nothing(trained, said, tmp_path):
    out = tmp_path / "churn-1.fedpact"
    code, output = said("auditor", "evidence", "churn", "1", "--out", str(out))
    assert (code, output.strip()) == (0, str(out))
    assert out.read_bytes() == trained.gateway("auditor").fetch_evidence("churn", 1)
    assert said("auditor", "evidence", "churn", "1", "--out", str(out))[0] == 1
    other = str(tmp_path / "other.fedpact")
    code, output = said("auditor", "evidence", "churn", "99", "--out", other)
    assert (code, "model.unknown" in output) == (1, True)


class TestSimulation:
    @pytest.fixture
    def realm(self):
        """Worlds of this class are simulated."""
        return Realm.SIMULATION

    def test_what_comes_from_a_simulation_gets_no_alias(self, trained):
        assert refusal(lambda: promote(trained, 1)) == ("promotion.simulation",)
