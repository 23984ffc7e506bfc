import pytest

from fedcore.contracts import ContractField
from fedcore.encodings import field_of, input_names, levels_of
from fedcore.errors import MismatchError
from fedcore.plans import Feature, Imputation


@pytest.fixture
def contract(documents):
    return documents.contract_of()


def test_input_names_tell_field_and_encoding_in_the_plans_order(contract):
    features = (
        Feature(field="plan", encoding="onehot"),
        Feature(field="tenure", encoding="edges", edges=(0, 6, 24.5, 72)),
        Feature(field="tenure", encoding="log"),
        Feature(field="tenure", encoding="scale"),
    )
    assert input_names(features, contract) == [
        "plan=plus",
        "tenure>0",
        "tenure>6",
        "tenure>24.5",
        "log tenure",
        "tenure",
    ]


def test_onehot_names_the_plans_levels_or_all_categories_but_the_first(contract):
    field = ContractField(name="x", kind="categorical", categories=("a", "b", "c"))
    assert levels_of(Feature(field="x", encoding="onehot"), field) == ("b", "c")
    assert levels_of(Feature(field="x", encoding="onehot", levels=("c", "a")), field) == ("c", "a")


@pytest.mark.parametrize(
    ("feature", "code"),
    [
        (Feature(field="unknown", encoding="scale"), "plan.field_unknown"),
        (Feature(field="churn", encoding="onehot"), "plan.field_unknown"),
        (Feature(field="customer_id", encoding="onehot"), "plan.field_unknown"),
        (Feature(field="plan", encoding="scale"), "plan.encoding_unfit"),
        (Feature(field="plan", encoding="edges", edges=(0, 1)), "plan.encoding_unfit"),
        (Feature(field="tenure", encoding="onehot"), "plan.encoding_unfit"),
        (Feature(field="plan", encoding="onehot", levels=("gold",)), "plan.encoding_unfit"),
        (Feature(field="tenure", encoding="edges", edges=(0, 73)), "plan.encoding_unfit"),
        (Feature(field="tenure", encoding="edges", edges=(-0.5, 72)), "plan.encoding_unfit"),
    ],
)
def test_a_feature_must_fit_the_contract(contract, feature, code):
    for reads in (lambda: field_of(feature, contract), lambda: input_names((feature,), contract)):
        with pytest.raises(MismatchError) as error:
            reads()
        assert error.value.code == code


@pytest.fixture
def loose(contract):
    """A contract of which tenure and plan may be absent at a unit, and plan may be empty."""
    tenure, plan, gender = contract.fields
    fields = (
        tenure.model_copy(update={"availability": "may_be_absent", "missing_value": 0.0}),
        plan.model_copy(update={"availability": "may_be_absent", "missing_category": "basic"}),
        gender,
    )
    return contract.model_copy(update={"fields": fields})


def test_indicators_are_inputs_after_those_of_the_value(loose):
    features = (
        Feature(
            field="plan",
            encoding="onehot",
            absent=Imputation(impute="basic", indicator=True),
            missing_indicator=True,
        ),
        Feature(field="tenure", encoding="scale", absent="leave_out", missing_indicator=True),
    )
    assert input_names(features, loose) == [
        *("plan=plus", "plan missing", "plan absent"),
        *("tenure", "tenure missing"),
    ]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (None, "plan.absence_unsaid"),
        (Imputation(impute=-1, indicator=True), "plan.absence_unfit"),
        (Imputation(impute=72.5, indicator=True), "plan.absence_unfit"),
        (Imputation(impute="3", indicator=True), "plan.absence_unfit"),
    ],
    ids=str,
)
def test_what_happens_where_a_field_is_absent_must_be_said_and_fit(loose, rule, code):
    for good in ("leave_out", Imputation(impute=72, indicator=True)):
        found = field_of(Feature(field="tenure", encoding="scale", absent=good), loose)
        assert found.name == "tenure"
    with pytest.raises(MismatchError) as error:
        input_names((Feature(field="tenure", encoding="scale", absent=rule),), loose)
    assert error.value.code == code


def test_a_field_that_is_at_every_unit_has_no_rule_for_its_absence(contract, loose):
    for rule in ("leave_out", Imputation(impute="plus", indicator=True)):
        feature = Feature(field="plan", encoding="onehot", absent=rule)
        assert field_of(feature, loose).name == "plan"
        with pytest.raises(MismatchError) as error:
            field_of(feature, contract)
        assert error.value.code == "plan.absence_unfit"


def test_an_imputed_category_is_one_of_the_contracts(loose):
    feature = Feature(
        field="plan", encoding="onehot", absent=Imputation(impute="gold", indicator=True)
    )
    with pytest.raises(MismatchError) as error:
        field_of(feature, loose)
    assert error.value.code == "plan.absence_unfit"


def test_only_cells_that_may_be_empty_are_marked(contract, loose):
    marked = Feature(field="tenure", encoding="scale", missing_indicator=True)
    with pytest.raises(MismatchError) as error:
        field_of(marked, contract)
    assert error.value.code == "plan.encoding_unfit"
    assert field_of(marked.model_copy(update={"absent": "leave_out"}), loose).name == "tenure"
