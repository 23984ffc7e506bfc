"""A DPIA at its author's desk: drafted, shown, checked, compared; nothing of it needs a service."""

import json
from pathlib import Path

import pytest
import yaml

from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.learning_rules import Algorithm
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.signing import SigningKey

GOLDEN = Path(__file__).parents[2] / "golden" / "dpia-2.json"
ENTITY = {
    "id": "firm",
    "name": "Firm",
    "role": "controller",
    "contact": "privacy@firm.example",
    "units": ["north", "south"],
}
RIGHTS = (
    "information",
    "access",
    "rectification",
    "erasure",
    "restriction",
    "portability",
    "objection",
    "automated_decisions",
    "consent",
)
# What a person writes into a draft; everything else is in it already.
WRITTEN = {
    "responsibilities": "The firm answers for all of it.",
    "standards": "None.",
    "necessity": "Keeping customers needs to know who is about to leave.",
    "accuracy": "The tables are those that invoices are written from.",
    "rights": dict.fromkeys(RIGHTS, "By letter to the firm."),
    "processors": [],
    "transfers": [],
    "profiling": {"effects": "An offer, or none.", "human_oversight": "Staff decide."},
    "consultation": {"consulted": False, "text": "They will be asked after the first run."},
    "entities": [ENTITY],
}


def contract(fields=("tenure", "charges")):
    return Contract(
        contract_id="telco",
        version=1,
        title="t",
        source="s",
        subject=SubjectRule(column="number", namespace="crm", normaliser="trim-upper/1"),
        fields=tuple(
            ContractField(name=name, kind="numeric", lower=0, upper=72) for name in fields
        ),
        label=Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        purposes=(Purpose(id="retention", text="Keep customers", basis="consent"),),
        retention_days=500,
    )


def plan(agreed):
    return TrainingPlan(
        title="Churn of two units",
        task="churn",
        purpose="retention",
        contract=agreed.digest,
        features=(Feature(field="tenure", encoding="scale"),),
        units=(UnitTerms(unit="north", public_n=1536), UnitTerms(unit="south", public_n=768)),
        minimum_units=2,
        model=ModelSpec(kind="logistic"),
        initial_model=agreed.digest,
        algorithm=Algorithm(local_learning_rate=1.0),
        rounds=4,
        privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
    )


class Desk:
    """A folder with a contract and a plan, and the commands that are run on it."""

    def __init__(self, folder, run):
        self.folder, self.run = folder, run
        self.write("contract.json", contract().to_json())
        self.write("plan.json", plan(contract()).to_json())

    def path(self, name):
        return self.folder / name

    def write(self, name, value):
        self.path(name).write_text(json.dumps(value, indent=4), encoding="utf-8")
        return self.path(name)

    def read(self, name):
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def new(self, *more, out="dpia.json"):
        papers = ("--from-contract", self.path("contract.json"), "--plan", self.path("plan.json"))
        return self.run("dpia", "new", *papers, "--out", self.path(out), *more)

    def finish(self):
        """Write what a person must write; return the finished DPIA's file."""
        value = {**self.read("dpia.json"), **WRITTEN}
        known = {answer["id"] for answer in value["screening"]["criteria"]}
        _, listed = self.run("dpia", "criteria")
        ids = [line.partition(":")[0] for line in listed.splitlines()][:-1]
        value["screening"]["criteria"] += [
            {"id": id_, "applies": False, "reason": "No."} for id_ in ids if id_ not in known
        ]
        kept = [{"what": w, "days": 30, "reason": "r"} for w in ("checkpoints", "updates")]
        value["retention"] += kept
        for risk in value["risks"]:
            risk |= {"impacts": ["Unwanted letters."], "likelihood_after": 1}
        return self.write("finished.json", value)


@pytest.fixture
def desk(tmp_path, run):
    return Desk(tmp_path, run)


class TestNew:
    def test_the_draft_is_a_dpia_and_what_is_left_is_listed_with_field_and_article(self, desk):
        exit_code, output = desk.new()
        assert exit_code == 0, output
        draft = Dpia.from_json(desk.read("dpia.json"))
        assert draft.bindings.contract == contract().digest
        assert (
            "write Necessity and proportionality (Art. 35(7)(b)): "
            "say why the processing is necessary and proportionate [necessity]"
        ) in output
        assert "judge Risks to rights and freedoms > discrimination (Recital 76)" in output

    def test_in_french_the_fields_and_the_sentences_of_the_draft_are_french(self, desk):
        exit_code, output = desk.new("--language", "fr")
        assert exit_code == 0, output
        rights = "write Droits des personnes concernées (Art. 12-22): dites comment chaque droit"
        assert rights in output
        draft = Dpia.from_json(desk.read("dpia.json"))
        assert draft.language == "fr"
        assert str(draft.description).startswith("Les unités")

    def test_entities_of_a_file_stand_in_the_draft_and_are_not_asked_for(self, desk):
        exit_code, output = desk.new("--entities", desk.write("entities.json", [ENTITY]))
        assert exit_code == 0, output
        assert "[entities]" not in output
        assert desk.read("dpia.json")["entities"] == [ENTITY]

    def test_entities_that_are_none_are_refused_with_the_field(self, desk):
        file = desk.write("entities.json", [{**ENTITY, "role": "owner"}])
        exit_code, output = desk.new("--entities", file)
        assert (exit_code, "entities.json: 0.role" in output) == (1, True)
        assert "record.invalid" in output
        assert not desk.path("dpia.json").exists()

    def test_a_draft_that_is_there_is_not_overwritten(self, desk):
        assert desk.new()[0] == 0
        before = desk.path("dpia.json").read_bytes()
        exit_code, output = desk.new()
        assert (exit_code, "file.exists" in output) == (1, True)
        assert desk.path("dpia.json").read_bytes() == before
        assert desk.new(out="other.json")[0] == 0

    def test_a_contract_in_yaml_gives_the_same_draft_and_the_same_check(self, desk):
        def said(name, out):
            papers = ("--from-contract", name, "--plan", desk.path("plan.json"))
            exit_code, output = desk.run("dpia", "new", *papers, "--out", desk.path(out))
            assert exit_code == 0, output
            checked = desk.run("dpia", "check", desk.path(out), "--contract", name)
            draft = json.loads(Path(desk.path(out)).read_bytes())
            return output.replace(out, ""), checked, {**draft, "valid_until": None}

        yaml_file = Path(desk.path("contract.yaml"))
        yaml_file.write_text(yaml.safe_dump(contract().to_json()), encoding="utf-8")
        agreed = said(desk.path("contract.json"), "a.json")
        assert said(str(yaml_file), "b.json") == agreed
        yaml_file.write_text("schema: contract/1\nversion: 012\n", encoding="utf-8")
        papers = ("--from-contract", str(yaml_file), "--plan", desk.path("plan.json"))
        exit_code, output = desk.run("dpia", "new", *papers, "--out", desk.path("c.json"))
        assert (exit_code, "record.ambiguous" in output) == (1, True)

    def test_a_plan_of_another_contract_is_refused(self, desk):
        desk.write("plan.json", plan(contract(("tenure", "other"))).to_json())
        exit_code, output = desk.new()
        assert (exit_code, "plan.other_contract" in output) == (1, True)
        assert not desk.path("dpia.json").exists()

    @pytest.mark.parametrize("name", ["contract.json", "plan.json"])
    def test_a_file_that_is_none_is_refused(self, desk, name):
        desk.write(name, {"schema": "other/1"})
        exit_code, output = desk.new()
        assert (exit_code, "record.unknown_schema" in output) == (1, True)
        desk.path(name).unlink()
        exit_code, output = desk.new()
        assert (exit_code, "file.unreadable" in output) == (1, True)


class TestCheck:
    def test_a_draft_is_incomplete_and_a_finished_one_is_not(self, desk):
        desk.new()
        papers = ("--contract", desk.path("contract.json"))
        exit_code, output = desk.run("dpia", "check", desk.path("dpia.json"), *papers)
        assert (exit_code, "dpia.incomplete" in output) == (1, True)
        exit_code, output = desk.run("dpia", "check", desk.finish(), *papers)
        assert (exit_code, output) == (0, "")

    def test_it_lists_what_new_has_listed(self, desk):
        _, first = desk.new()
        papers = ("--contract", desk.path("contract.json"))
        _, again = desk.run("dpia", "check", desk.path("dpia.json"), *papers)
        listed = [line for line in first.splitlines() if line.startswith(("write", "judge"))]
        assert again.splitlines()[: len(listed)] == listed

    def test_without_the_contract_nobody_can_say_that_it_is_complete(self, desk):
        desk.new()
        exit_code, output = desk.run("dpia", "check", desk.finish())
        assert (exit_code, "[bindings.contract]" in output) == (1, True)


class TestDiff:
    def test_a_file_and_itself_do_not_differ(self, desk):
        exit_code, output = desk.run("dpia", "diff", GOLDEN, GOLDEN)
        assert (exit_code, output.strip()) == (0, "0 differences, 0 of them material")

    def test_each_difference_is_a_line_and_the_material_ones_are_marked(self, desk):
        desk.new()
        value = desk.read("dpia.json")
        value["bindings"]["epsilon_cap"] = 9.5
        value["title"] = "Another"
        other = desk.write("other.json", value)
        exit_code, output = desk.run("dpia", "diff", desk.path("dpia.json"), other)
        assert exit_code == 0
        title, epsilon, count = output.splitlines()
        assert title == "Title: Churn of two units → Another"
        assert epsilon.startswith("Machine bindings > Highest epsilon of a run: ")
        assert epsilon.endswith("→ 9.5 [material]")
        assert count == "2 differences, 1 of them material"

    def test_a_digest_without_a_service_is_wrong_usage(self, desk):
        exit_code, output = desk.run("dpia", "diff", "sha256:" + "0" * 64, GOLDEN)
        assert (exit_code, "--url" in output) == (2, True)

    def test_a_version_at_the_service_is_compared_by_its_digest(self, desk, service):
        desk.new()
        key = service.account("anna", "author", "--public-key", SigningKey.generate().public)
        line = ("--api-key-file", key, *service.line)
        exit_code, digest = desk.run("dpia", "draft", desk.path("dpia.json"), *line)
        assert exit_code == 0, digest
        other = desk.write("other.json", {**desk.read("dpia.json"), "title": "Another"})
        exit_code, output = desk.run("dpia", "diff", digest.strip(), other, *line)
        assert exit_code == 0, output
        assert output.splitlines() == [
            "Title: Churn of two units → Another",
            "1 differences, 0 of them material",
        ]
        exit_code, output = desk.run("dpia", "diff", "sha256:" + "0" * 64, other, *line)
        assert (exit_code, "dpia.unknown" in output) == (1, True)


class TestShowAndSchema:
    def test_a_dpia_is_shown_in_its_own_language_or_in_another(self, desk):
        desk.new("--language", "de")
        _, german = desk.run("dpia", "show", desk.path("dpia.json"))
        assert "Datenminimierung, Feld für Feld (Art. 5(1)(c)):" in german
        _, english = desk.run("dpia", "show", desk.path("dpia.json"), "--language", "en")
        assert "Data minimisation, field by field (Art. 5(1)(c)):" in english

    def test_the_schema_is_json_with_labels_of_the_language(self, desk):
        exit_code, output = desk.run("dpia", "schema", "--language", "fr")
        assert exit_code == 0
        schema = json.loads(output)
        assert schema["properties"]["rights"]["title"] == "Droits des personnes concernées"
        assert schema["properties"]["rights"]["asked_by"] == "Art. 12-22"

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("wp248", "large_scale: Daten"),
            ("fr", "cnil.large-scale-location: Standortdaten"),
            ("de", "dsk.artificial-intelligence: Künstliche Intelligenz"),
        ],
    )
    def test_criteria_are_printed_with_their_source(self, desk, name, line):
        _, output = desk.run("dpia", "criteria", "--list", name, "--language", "de")
        assert line in output
        assert "Source: " in output


CONDITION = "id=audit,text=An audit, by others,owner=Office,due=2999-01-31"


class TestActs:
    """Five people take a DPIA from a draft into force and out of it, by commands alone."""

    @pytest.fixture
    def people(self, desk, service):
        """Does a command as a person; an author, an evaluator, an officer and an approver."""
        roles = {"emil": "evaluator", "dora": "dpo", "paul": "approver"}
        keys = {name: service.account(f"{name}-{id(desk)}", role) for name, role in roles.items()}
        signing = ("--public-key", SigningKey.generate().public)
        keys["anna"] = service.account(f"anna-{id(desk)}", "author", *signing)
        keys["carla"] = service.home / "carla.key"

        def act(name, *arguments):
            return desk.run(*arguments, "--api-key-file", keys[name], *service.line)

        return act

    @pytest.fixture
    def submitted(self, desk, people):
        """The digest of a complete DPIA that its author has submitted."""
        agreed = desk.path("contract.json")
        out = ("--out", desk.path("signed.json"))
        assert people("carla", "contract", "publish", agreed, *out)[0] == 0
        desk.new()
        finished = {**json.loads(desk.finish().read_text()), "dpia_id": f"churn-{id(desk)}"}
        exit_code, output = people("anna", "dpia", "draft", desk.write("own.json", finished))
        assert exit_code == 0, output
        digest = output.strip()
        assert self.state(people("anna", "dpia", "submit", digest, "--note", "n")) == "submitted"
        return digest

    def state(self, done):
        exit_code, output = done
        assert exit_code == 0, output
        return output.split()[-1]

    def test_from_new_into_force_against_advice_and_under_a_condition(self, people, submitted):
        def act(name, verb, *details):
            return people(name, "dpia", verb, submitted, "--note", "n", *details)

        item = "item=risks,verdict=improvable,text=Low, after noise"
        assert self.state(act("emil", "evaluate", "--item", item)) == "evaluated"
        against = ("--verdict", "unfavourable", "--entity", "firm")
        assert self.state(act("dora", "advise", *against)) == "advised"
        exit_code, output = act("paul", "approve-with-conditions", "--condition", CONDITION)
        assert (exit_code, "dpia.advice_overruled" in output) == (1, True)
        assert "overruling_reason" in output
        terms = ("--condition", CONDITION, "--overruling-reason", "The audit answers it.")
        exit_code, output = act("paul", "approve-with-conditions", *terms)
        assert (exit_code, output.splitlines()[1]) == (0, f"{submitted} is in_force")
        assert output.splitlines()[0].endswith("version 1 was advised")
        exit_code, output = act("paul", "fulfil-conditions", "--fulfilled", "report")
        assert (exit_code, "names report" in output) == (1, True)
        assert self.state(act("paul", "fulfil-conditions", "--fulfilled", "audit")) == "in_force"
        assert self.state(act("dora", "open-review")) == "in_force"
        exit_code, output = act("carla", "close-review")
        assert (exit_code, self.state((exit_code, output))) == (0, "in_force")
        assert "version 1 was in_force, under review by dora" in output.splitlines()[0]
        assert self.state(act("carla", "suspend")) == "suspended"
        assert self.state(act("paul", "resume")) == "in_force"
        assert self.state(act("anna", "withdraw")) == "withdrawn"

    def test_details_may_lie_in_files(self, desk, people, submitted):
        items = [{"item": "risks", "verdict": "acceptable", "text": "Low."}]
        file = ("--items", desk.write("items.json", items))
        done = people("emil", "dpia", "request-changes", submitted, "--note", "n", *file)
        assert self.state(done) == "changes_requested"

    def test_an_advice_that_does_not_say_for_or_against_is_wrong_usage(self, people, submitted):
        advise = ("dora", "dpia", "advise", submitted, "--note", "n")
        exit_code, output = people(*advise)
        assert (exit_code, "--verdict" in output) == (2, True)
        people("emil", "dpia", "evaluate", submitted, "--note", "n")
        assert self.state(people(*advise, "--verdict", "favourable")) == "advised"

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ((), "give --condition or --conditions"),
            (("--condition", "an audit"), "write it as id=ID"),
            (("--condition", "id=a,id=b,text=t,owner=o,due=2999-01-31"), "write it as id=ID"),
            (("--condition", "id=a,text=t,due=2999-01-31"), "owner"),
            (("--condition", "id=a,text=t,owner=o,due=soon"), "due_at"),
        ],
    )
    def test_a_condition_that_is_none_is_refused_with_option_and_rule(self, run, written, said):
        line = ("--url", "https://nowhere.example", "--api-key-file", "none")
        digest = "sha256:" + "0" * 64
        act = ("dpia", "approve-with-conditions", digest, "--note", "n", *line)
        exit_code, output = run(*act, *written)
        assert (exit_code, "request.invalid" in output, said in output) == (1, True, True), output
        # The repaired twin gets as far as the key that is not there.
        assert "key.unreadable" in run(*act, "--condition", CONDITION)[1]
