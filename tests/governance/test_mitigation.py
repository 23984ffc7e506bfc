"""From a signed audit to other thresholds, weights, a penalty, and a plan that is permitted."""

import json
from contextlib import nullcontext
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from fedcore import cli, gateway_http
from fedcore.audit_basis import AuditBasis
from fedcore.errors import MismatchError, NotFoundError, RefusedError
from fedcore.evaluations import NoisedTables
from fedcore.fairness_audits import derive_audit
from fedcore.fairness_bindings import AttributeUse
from fedcore.mitigation import CovariancePenalty, Reweighing
from fedcore.plans import TrainingPlan

CONSENT = "Explicit consent, Art. 9(2)(a)"


def allowing(dpia, *uses, condition=CONSENT):
    """The DPIA with these uses of what it audits."""
    use = AttributeUse(
        attribute="religion",
        uses=uses,
        special_condition=condition,
        largest_weight=1.5,
        largest_strength=0.5,
    )
    bindings = dpia.bindings.model_copy(update={"fairness_mitigation": (use,) if uses else None})
    return dpia.model_copy(update={"bindings": bindings})


@pytest.fixture
def audited(evaluating, model_bytes):
    """A model and its audit, under a DPIA that allows a threshold for each group."""
    evaluating.world.take_into_force(allowing(evaluating.audited_dpia(2), "decision"))
    evaluating.train("run-3", model_bytes)
    return evaluating


@pytest.fixture
def said(evaluating, tmp_path, monkeypatch):
    """Runs a command of the group; returns exit code and output."""
    world = evaluating.world
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(world.client))
    key = tmp_path / "auditor.key"
    key.write_text(world.api_keys["auditor"])
    key.chmod(0o600)
    entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"governance": entry})

    def run(*words, online=False):
        line = ["governance", "audits", *(str(word) for word in words)]
        if online:
            line += ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
        result = CliRunner().invoke(root, line)
        return result.exit_code, result.output

    return run


@pytest.fixture
def fetched(audited, said, tmp_path):
    audited.audit("run-3", "eval-1", "one selected more")
    path = tmp_path / "audit.json"
    code, output = said("tables", "eval-1", "--out", path, online=True)
    assert (code, "churn version 3" in output) == (0, True)
    return path


def test_whoever_has_the_tables_derives_the_audit_again(audited):
    audit = audited.audit("run-3", "eval-1", "one selected more")
    envelopes = audited.world.gateway("auditor").fetch_audit_tables("eval-1")
    tables = [NoisedTables.from_bytes(each.payload_bytes) for each in envelopes]
    assert tuple(each.digest for each in tables) == audit.tables
    plan = audited.plan("run-3", title="eval-1", fairness=audited.layout)
    assert plan.digest == audit.plan
    bindings = audited.world.gateway("auditor").fetch_dpia(audit.dpia).record.bindings
    assert derive_audit(plan, tables, bindings) == audit.found
    with pytest.raises(NotFoundError, match=r"audit\.unknown"):
        audited.world.gateway("auditor").fetch_audit_tables("eval-2")


def test_a_curve_is_printed_and_drawn_and_says_what_it_is_not(said, fetched, tmp_path):
    code, printed = said("curve", fetched)
    assert code == 0
    assert "a threshold for everybody, each of 1 candidates tested at 0.05: FAIL" in printed
    assert "none of these candidates mends that; thresholds between them" in printed
    assert "audit number" not in printed
    assert "balanced_accuracy" in printed
    page = tmp_path / "curve.html"
    code, output = said("curve", fetched, "--attribute", "religion", "--html", page, "--json")
    assert code == 0
    curves = json.loads(output)["curves"]
    # The curve of everybody, and that of the one attribute that may decide.
    assert [(each.get("attribute"), each["candidates"], each["looks"]) for each in curves] == [
        (None, 1, 2),
        ("religion", 1, 2),
    ]
    code, printed = said("curve", fetched, "--attribute", "religion")
    assert (code, printed.count("each of 1 candidates tested at 0.025")) == (0, 2)
    drawn = page.read_text()
    assert drawn.count("<svg") == 2
    assert "Other thresholds, by religion" in drawn
    assert "<circle" in drawn
    assert said("curve", fetched, "--html", page)[0] == 1


def test_a_curve_of_a_later_audit_says_that_the_first_one_decides(audited, said, fetched, tmp_path):
    audited.audit("run-3", "eval-2", "one selected more")
    later = tmp_path / "later.json"
    assert said("tables", "eval-2", "--out", later, online=True)[0] == 0
    code, printed = said("curve", later)
    assert (code, printed.splitlines()[0]) == (0, "audit number 2: the first audit decides")
    assert json.loads(said("curve", later, "--json")[1])["number"] == 2
    assert json.loads(said("curve", fetched, "--json")[1])["number"] == 1


def test_only_what_the_audit_names_is_computed_with_and_only_what_the_dpia_binds(said, fetched):
    """The file names its documents by digest, so that another DPIA needs another audit."""
    good = fetched.read_text()
    assert said("curve", fetched, "--attribute", "religion")[0] == 0
    code, output = said("curve", fetched, "--attribute", "gender")
    assert (code, "fairness.use_not_bound" in output) == (1, True)
    for part in ("plan", "contract", "training", "tables", "dpia"):
        values = json.loads(good)
        if part == "tables":
            values["tables"].reverse()
        elif part == "dpia":
            del values["dpia"]["bindings"]["fairness_mitigation"]
        else:
            values[part] = values["audit"]
        fetched.write_text(json.dumps(values))
        code, output = said("curve", fetched)
        assert (code, "audit.basis_differs" in output) == (1, True), part
    fetched.write_text("{}")
    code, output = said("curve", fetched)
    assert (code, "audit.basis_invalid" in output) == (1, True)
    fetched.write_text("[]")
    code, output = said("curve", fetched)
    told = "is none that `audits tables` has written: must be a JSON object (audit.basis_invalid)"
    assert (code, " ".join(output.split())) == (1, f"error: {fetched} {told}")
    fetched.write_text(good)
    assert said("curve", fetched)[0] == 0


def compared(**update):
    """Return an edit of what an audit found: of its only comparison."""

    def edit(found):
        (bound,) = found.bounds
        one = bound.compared[0].model_copy(update=update)
        bound = bound.model_copy(update={"compared": (one, *bound.compared[1:])})
        return found.model_copy(update={"bounds": (bound,)})

    return edit


def counted(found):
    first = found.groups[0]
    more = first.model_copy(update={"people": first.people + 1})
    return found.model_copy(update={"groups": (more, *found.groups[1:])})


def test_an_audit_that_says_something_else_than_its_tables_is_refused(audited, fetched):
    """Whoever may sign the audit has signed the lie, so that all digests hold."""
    basis = AuditBasis.from_json(json.loads(fetched.read_text()))
    audit = basis.open().audit
    gap = audit.found.bounds[0].compared[0].low

    def opened(edit):
        said = audit.model_copy(update={"found": edit(audit.found)})
        signed = audited.world.sign(said, "north")
        return basis.model_copy(update={"audit": signed}).open().audit.found.verdict

    lies = (
        lambda found: found.model_copy(update={"verdict": "PASS"}),
        lambda found: found.model_copy(update={"alpha": 0.06}),
        compared(low=gap + 1e-6),
        compared(outcome="within"),
        counted,
    )
    for lie in lies:
        with pytest.raises(MismatchError, match=r"audit\.not_derived"):
            opened(lie)
    twins = (
        lambda found: found,
        lambda found: found.model_copy(update={"meaning": "In other words."}),
        compared(low=gap + 1e-12),
    )
    assert [opened(twin) for twin in twins] == ["FAIL"] * 3


def test_weights_and_a_penalty_go_into_a_plan_that_the_gate_then_permits(
    audited, said, fetched, tmp_path
):
    draft = tmp_path / "plan.json"
    draft.write_text(json.dumps(audited.training_plan("run-4").to_json()))
    weighed, penalised = tmp_path / "weighed.json", tmp_path / "penalised.json"
    about = ("--attribute", "religion", "--plan", draft, "--out")
    assert said("weights", fetched, *about, weighed)[0] == 0
    assert said("penalty", fetched, "--group", "high", "--strength", 0.5, *about, penalised)[0] == 0
    for strength in ("nan", "inf", "-1e9"):
        named = ("--group", "high", "--strength", strength, *about, tmp_path / "none.json")
        code, output = said("penalty", fetched, *named)
        assert (code, "(fairness.strength_invalid)" in output) == (1, True)
    assert not (tmp_path / "none.json").exists()
    code, output = said("weights", fetched, "--attribute", "religion")
    assert (code, json.loads(output)["mitigation"]["kind"]) == (0, "reweighing")
    assert said("weights", fetched, "--attribute", "religion", "--plan", draft)[0] == 2
    plans = [TrainingPlan.from_json(json.loads(path.read_text())) for path in (weighed, penalised)]
    first, second = (plan.mitigation for plan in plans)
    # 3,600 and 1,800 of 5,400 people at each unit, 600 and 300 with the label.
    assert isinstance(first, Reweighing)
    assert {one.weight for one in first.weights} == {1.0}
    assert isinstance(second, CovariancePenalty)
    assert second.penalties[0].share == pytest.approx(1 / 3, abs=1e-4)
    world = audited.world
    for place, plan in enumerate(plans):
        world.register(plan)
        with pytest.raises(RefusedError) as refused:
            world.permit(f"run-{place + 4}", plan)
        assert refused.value.codes == ("fairness.use_not_bound", "fairness.no_basis")
    world.take_into_force(allowing(audited.audited_dpia(3), "training", "decision"))
    for place, plan in enumerate(plans):
        assert world.permit(f"run-{place + 4}", plan).plan == plan.digest
    world.take_into_force(allowing(audited.audited_dpia(4), "training", condition=None))
    with pytest.raises(RefusedError) as refused:
        world.permit("run-6", plans[0])
    assert refused.value.codes == ("fairness.no_basis",)
