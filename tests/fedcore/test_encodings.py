import pytest

from fedcore.contracts import ContractField
from fedcore.encodings import field_of, input_names, levels_of
from fedcore.errors import MismatchError
from fedcore.plans import Feature


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
    ],
)
def test_a_feature_must_fit_the_contract(contract, feature, code):
    for reads in (lambda: field_of(feature, contract), lambda: input_names((feature,), contract)):
        with pytest.raises(MismatchError) as error:
            reads()
        assert error.value.code == code
