"""A draft holds what the system knows of a run, and no judgement that is a person's."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, FieldBasis, Label, Purpose, SubjectRule
from fedcore.dpia_sections import FEARED_EVENTS, LegalEntity
from fedcore.errors import MismatchError, RefusedError
from fedcore.learning_rules import Algorithm
from fedcore.permits import UnitCertificate
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from governance.decisions.completeness import list_lacks
from governance.decisions.facts import GateFacts, run_epsilon
from governance.decisions.gate import decide_permit
from governance.decisions.prefill import DraftTerms, prefill_dpia
from governance.decisions.prefill_risks import STANDARD_MEASURES, STANDARD_RISKS, list_unjudged
from governance.languages import load_texts

NOW = datetime(2026, 11, 28, tzinfo=UTC)
LANGUAGES = ("en", "fr", "de")
TERMS = DraftTerms(version=1, language="en", valid_until=NOW + timedelta(days=365))


def contract(basis="consent", **changes):
    values = {
        "contract_id": "telco",
        "version": 3,
        "title": "t",
        "source": "s",
        "subject": SubjectRule(column="number", namespace="crm", normaliser="trim-upper/1"),
        "fields": (
            ContractField(name="tenure", kind="numeric", lower=0, upper=72),
            ContractField(name="charges", kind="numeric", lower=0, upper=200),
            ContractField(name="age", kind="numeric", lower=18, upper=99, sensitivity="sensitive"),
            ContractField(name="belief", kind="numeric", lower=0, upper=9, sensitivity="special"),
            ContractField(name="income", kind="numeric", lower=0, upper=9, sensitivity="forbidden"),
        ),
        "label": Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        "purposes": (
            Purpose(id="marketing", text="Direct marketing", basis="legitimate_interests"),
            Purpose(id="retention", text="Keep customers", parent="marketing", basis=basis),
            Purpose(id="service", text="Mend lines", basis="contract"),
        ),
        "retention_days": 500,
    }
    return Contract(**{**values, **changes})


def plan(for_contract, **changes):
    values = {
        "title": "Churn of two units",
        "task": "churn",
        "purpose": "retention",
        "contract": for_contract.digest,
        "features": (
            Feature(field="tenure", encoding="scale"),
            Feature(field="tenure", encoding="log"),
        ),
        "units": (UnitTerms(unit="north", public_n=1536), UnitTerms(unit="south", public_n=768)),
        "minimum_units": 2,
        "model": ModelSpec(kind="logistic"),
        "initial_model": for_contract.digest,
        "algorithm": Algorithm(local_learning_rate=1.0),
        "rounds": 4,
        "spare_rounds": 1,
        "privacy": PrivacyTerms(l2_clip_norm=1.5, noise_multiplier=8.25, delta=1e-5),
    }
    return TrainingPlan(**{**values, **changes})


def draft(basis="consent", terms=TERMS, language="en", **changes):
    agreed = contract(basis)
    return prefill_dpia(agreed, plan(agreed, **changes), terms, load_texts(language))


def certificates(run):
    return {
        terms.unit: UnitCertificate(
            unit=terms.unit,
            node_key="ab" * 32,
            size_band=terms.public_n * 2 // 3,
            enrolment=run.contract,
            issued_at=NOW,
        )
        for terms in run.units
    }


class TestBindings:
    def test_the_gate_lets_the_very_plan_through_that_the_draft_was_made_from(self):
        run = plan(contract())
        facts = GateFacts(run, True, contract(), draft(), "in_force", certificates(run), NOW)
        assert decide_permit(facts) == ()

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"rounds": 5}, "dpia.epsilon_cap_exceeded"),
            ({"task": "response"}, "dpia.task_differs"),
            ({"purpose": "marketing"}, "dpia.purpose_not_covered"),
            ({"features": (Feature(field="charges", encoding="log"),)}, "dpia.feature_not_covered"),
            (
                {"privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=9.0, delta=2e-5)},
                "dpia.delta_cap_exceeded",
            ),
        ],
    )
    def test_it_covers_no_more_than_that_plan(self, changes, code):
        run = plan(contract(), **changes)
        facts = GateFacts(run, True, contract(), draft(), "in_force", certificates(run), NOW)
        assert code in [reason for reason, _ in decide_permit(facts)]

    @given(
        noise=st.floats(0.5, 50),
        rounds=st.integers(1, 200),
        spare=st.integers(0, 20),
        rate=st.sampled_from([0.1, 1.0]),
    )
    def test_the_cap_is_the_whole_runs_epsilon_never_rounded_down(self, noise, rounds, spare, rate):
        privacy = PrivacyTerms(
            l2_clip_norm=1.0, noise_multiplier=noise, sampling_rate=rate, delta=1e-5
        )
        changes = {"privacy": privacy, "rounds": rounds, "spare_rounds": spare}
        cap = draft(**changes).bindings.epsilon_cap
        assert cap == run_epsilon(plan(contract(), **changes))


class TestInventory:
    def test_every_column_of_the_contract_is_in_exactly_one_category(self):
        fields = [field for category in draft().inventory for field in category.fields]
        columns = {field.name for field in contract().fields} | {"number", "churned"}
        assert (len(fields), set(fields)) == (len(columns), columns)

    def test_fields_stand_in_the_category_of_their_sensitivity(self):
        assert {category.id: category.fields for category in draft().inventory} == {
            "inputs": ("tenure",),
            "others": ("charges",),
            "sensitive": ("age",),
            "special": ("belief",),
            "forbidden": ("income",),
            "identifier": ("number",),
            "label": ("churned",),
        }

    def test_sizes_are_the_plans_public_numbers_and_retention_the_contracts(self):
        for category in draft().inventory:
            assert category.volume_band.startswith("north 1536, south 768; 2304 in all")
            assert category.retention_days == 500

    def test_a_thousand_units_still_fit(self):
        units = tuple(UnitTerms(unit=f"{i:04}{'u' * 70}", public_n=768) for i in range(1000))
        made = draft(units=units)
        assert len(made.bindings.units) == 1000
        said = made.inventory[0].subjects
        assert (said.count("u" * 70), "(+980)" in said) == (20, True)


class TestMinimisation:
    def test_an_input_is_allowed_and_everything_else_forbidden(self):
        assert {review.field: review.verdict for review in draft().minimisation} == {
            "tenure": "allowed",
            "charges": "forbidden",
            "age": "forbidden",
            "belief": "forbidden",
            "income": "forbidden",
        }

    def test_the_reason_is_what_contract_and_plan_say_of_the_field(self):
        reasons = {review.field: review.reason for review in draft().minimisation}
        assert "scale, log" in reasons["tenure"]
        assert reasons["charges"].startswith("No input of the plan")
        for field, mark in (("age", "sensitive"), ("belief", "special"), ("income", "forbidden")):
            assert reasons[field].startswith("The contract marks it as")
            assert mark in reasons[field].partition(":")[0]

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_legal_basis_of_a_field_is_said_where_the_contract_names_one(self, language):
        tenure, charges, age, belief, income = contract().fields
        based = contract(
            fields=(
                tenure.model_copy(update={"legal_basis": FieldBasis(basis="contract")}),
                charges,
                age,
                belief.model_copy(
                    update={
                        "legal_basis": FieldBasis(basis="consent", condition="explicit_consent")
                    }
                ),
                income,
            )
        )
        made = prefill_dpia(based, plan(based), TERMS, load_texts(language))
        reasons = {review.field: review.reason for review in made.minimisation}
        assert "(b)" in reasons["tenure"]
        assert [reasons["belief"].count(part) for part in ("(a)", "6", "9")] == [2, 1, 1]
        plain = {review.field: review.reason for review in draft(language=language).minimisation}
        assert {field for field, reason in reasons.items() if reason != plain[field]} == {
            *("tenure", "belief")
        }
        assert all(reasons[field].startswith(plain[field]) for field in reasons)


class TestRisks:
    def test_every_feared_event_and_every_standard_risk_is_there_with_its_measures(self):
        made = draft()
        assert set(FEARED_EVENTS) <= {risk.event for risk in made.risks}
        assert [risk.id for risk in made.risks] == list(STANDARD_RISKS)
        assert all(risk.measures and risk.sources and risk.threats for risk in made.risks)

    def test_every_measure_lowers_some_risk(self):
        named = {measure for _, _, measures in STANDARD_RISKS.values() for measure in measures}
        assert named == set(STANDARD_MEASURES)

    def test_a_draft_claims_no_lowered_level(self):
        """Severity and likelihood are a person's judgement: the draft errs on the high side."""
        made = draft()
        assert list_unjudged(made) == tuple(STANDARD_RISKS)
        for risk in made.risks:
            levels = (risk.severity_before, risk.likelihood_before)
            assert (*levels, risk.severity_after, risk.likelihood_after) == (4, 4, 4, 4)

    def test_a_risk_that_somebody_judged_is_no_longer_listed(self):
        made = draft()
        judged = made.risks[0].model_copy(update={"likelihood_after": 1})
        after = made.model_copy(update={"risks": (judged, *made.risks[1:])})
        assert list_unjudged(after) == tuple(STANDARD_RISKS)[1:]

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_measure_states_the_plans_own_numbers(self, language):
        made = draft(language=language)
        [text] = [one.text for one in made.measures if one.id == "differential-privacy"]
        numbers = re.findall(r"\d[\d.e-]*\d|\d", text)
        epsilon = f"{made.bindings.epsilon_cap:.9g}"
        assert {"1.5", "8.25", "5", epsilon, "1e-05"} <= set(numbers)


class TestJudgement:
    def test_legal_judgements_are_left_unwritten(self):
        made = draft(basis="legitimate_interests")
        for section in ("necessity", "responsibilities", "standards", "accuracy", "rights"):
            assert getattr(made, section) is None
        assert (made.processors, made.transfers, made.profiling) == (None, None, None)
        assert made.consultation is None
        assert made.purposes == ()
        assert made.entities == ()

    def test_a_basis_of_the_contract_that_needs_no_test_is_filled_in(self):
        assert [(one.purpose, one.basis, one.text) for one in draft("contract").purposes] == [
            ("retention", "contract", "Keep customers")
        ]

    def test_what_a_person_must_write_is_listed_and_what_is_filled_in_is_not(self):
        made = draft()
        lacks = {lack.path.partition(".")[0] for lack in list_lacks(made, contract())}
        written = {"description", "life_cycle", "assets", "measures", "review_triggers"}
        assert not lacks & written
        assert {"necessity", "rights", "entities", "profiling", "consultation"} <= lacks
        assert "minimisation" not in lacks

    def test_entities_that_are_given_are_taken_over(self):
        entity = LegalEntity(
            id="firm", name="Firm", role="controller", contact="c", units=("north", "south")
        )
        terms = DraftTerms(1, "en", NOW + timedelta(days=1), (entity,))
        made = draft(terms=terms)
        assert made.entities == (entity,)
        assert "entities" not in {lack.path for lack in list_lacks(made, contract())}


class TestScreening:
    def test_only_criteria_that_the_system_knows_are_answered(self):
        answers = {answer.id: answer.applies for answer in draft().screening.criteria}
        assert answers == {
            "evaluation_or_scoring": True,
            "sensitive_data": True,
            "innovative_technology": True,
        }

    def test_without_a_special_field_sensitive_data_are_left_to_a_person(self):
        plain = contract(fields=contract().fields[:2])
        made = prefill_dpia(plain, plan(plain), TERMS, load_texts("en"))
        screening = made.to_json()["screening"]
        assert "sensitive_data" not in {answer["id"] for answer in screening["criteria"]}
        assert screening["verdict"] == "required"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_draft_is_in_its_language_with_no_fact_missing(language):
    terms = DraftTerms(1, language, NOW + timedelta(days=1))
    made = draft(terms=terms, language=language)
    assert made.language == language
    text = made.to_bytes().decode().replace('{"', "").replace('"}', "")
    assert not re.search(r"\{[a-z_]+\}", text)
    other = draft(language="fr" if language != "fr" else "de")
    assert made.description != other.description
    assert made.bindings == other.bindings


class TestRefusals:
    def test_a_plan_of_another_contract_makes_no_draft(self):
        other = contract(retention_days=501)
        with pytest.raises(MismatchError) as error:
            prefill_dpia(other, plan(contract()), TERMS, load_texts("en"))
        assert error.value.code == "plan.other_contract"
        made = prefill_dpia(other, plan(other), TERMS, load_texts("en"))
        assert made.bindings.contract == other.digest

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            (
                {"features": (Feature(field="age", encoding="scale"),)},
                "contract.sensitive_input",
            ),
            ({"features": (Feature(field="shoe", encoding="scale"),)}, "contract.field_unknown"),
            ({"purpose": "survey"}, "contract.purpose_unknown"),
            (
                {"features": (Feature(field="tenure", encoding="log", absent="leave_out"),)},
                "plan.absence_unfit",
            ),
        ],
    )
    def test_a_plan_that_the_contract_forbids_makes_no_draft(self, changes, code):
        with pytest.raises(RefusedError) as error:
            draft(**changes)
        assert error.value.codes == (code,)


LEARNT = re.compile(r"gradient|churned|\bpredicts\b|prédit|vorher\b", re.IGNORECASE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_draft_about_an_autoencoder_says_that_it_learns_no_label(language):
    model = ModelSpec(kind="autoencoder", hidden=(4,), embedding=2)
    autoencoder = draft(language=language, task="segmentation", model=model)
    trained = draft(language=language)
    [category], [other] = (
        [each.category for each in record.inventory if each.id == "label"]
        for record in (autoencoder, trained)
    )
    assert category != other
    for record, is_learnt in ((autoencoder, False), (trained, True)):
        said = record.description or ""
        said += "".join(answer.reason for answer in record.screening.criteria)
        assert ("churned" in said) == is_learnt
        assert "{" not in said
        # It is trained as others are.
        assert "gradient" in said.lower()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_draft_about_segments_speaks_of_sums_and_not_of_what_is_learnt(language):
    course = CourseSpec(segments=SegmentCount(least=2, most=5), spread=12)
    privacy = PrivacyTerms(l2_clip_norm=course.l2_sensitivity, noise_multiplier=8.25, delta=1e-5)
    of_segments = draft(
        language=language,
        task="segmentation",
        model=ModelSpec(kind="centres", course=course),
        algorithm=None,
        rounds=course.terms.releases,
        privacy=privacy,
    )
    trained = draft(language=language)
    of_size, other = (
        next(measure.text for measure in record.measures if measure.id == "size-bands")
        for record in (of_segments, trained)
    )
    # A release has a count in it, with noise.
    assert re.search(r"noise|verrauscht|bruité", of_size)
    assert not re.search(r"noise|verrauscht|bruité", other)
    for record, is_learnt in ((of_segments, False), (trained, True)):
        said = [record.description or "", *(step.text for step in record.life_cycle)]
        said += [measure.text for measure in record.measures]
        said += [answer.reason for answer in record.screening.criteria]
        assert bool(LEARNT.search("\n".join(said))) == is_learnt
        assert "{" not in "\n".join(said)
    assert "1.14891" in "\n".join(measure.text for measure in of_segments.measures)
