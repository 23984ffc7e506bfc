"""The groups that an evaluation tells are those of its plan and contract, whoever is in them."""

import pytest

from fedcore.contracts import Contract, ContractField
from fedcore.errors import MismatchError
from fedcore.evaluations import FairnessTerms, GroupField
from fedcore.group_layouts import field_of, groups_of_cells, layout_of

REGION = ContractField(
    name="region",
    kind="categorical",
    categories=("north", "east", "south", "west", "unknown"),
    missing_category="unknown",
)
MANY = ContractField(
    name="many", kind="categorical", categories=tuple(f"c{number}" for number in range(101))
)
AGE = ContractField(name="age", kind="numeric", lower=18, upper=100, missing_value=40)


@pytest.fixture(scope="module")
def contract(documents):
    values = documents.contract_of().to_json()
    values["fields"] = [one.model_dump(exclude_none=True) for one in (REGION, AGE, MANY)]
    return Contract.from_json(values)


def terms(*fields):
    return FairnessTerms(fields=tuple(fields), threshold=0.5)


BY_REGION = GroupField(field="region", merged=(("south", "east"), ("west", "unknown")))
BY_AGE = GroupField(field="age", edges=(25, 65))


def test_cells_are_crossed_in_the_order_of_the_fields_and_of_their_values(contract):
    layout = layout_of(terms(BY_REGION, BY_AGE), contract)
    assert layout.groups_of("region") == ("north", "south or east", "west or unknown")
    assert layout.groups_of("age") == ("18 to 25", "25 to 65", "65 to 100")
    assert layout.cells[:4] == (
        ("north", "18 to 25"),
        ("north", "25 to 65"),
        ("north", "65 to 100"),
        ("south or east", "18 to 25"),
    )
    assert layout.length == 9 * 4
    assert layout.threshold == 0.5


def test_each_cell_has_the_group_of_its_value_and_an_empty_one_that_of_the_contract(contract):
    cells = ["north", "east", "south", "west", None]
    assert groups_of_cells(BY_REGION, field_of(BY_REGION, contract), cells) == [
        "north",
        "south or east",
        "south or east",
        "west or unknown",
        "west or unknown",
    ]
    ages = [18.0, 24.999, 25.0, 64.0, 65.0, 100.0, None]
    found = groups_of_cells(BY_AGE, field_of(BY_AGE, contract), ages)
    assert found == [
        *["18 to 25"] * 2,
        *["25 to 65"] * 2,
        *["65 to 100"] * 2,
        "25 to 65",
    ]


@pytest.mark.parametrize(
    "group",
    [
        GroupField(field="gender"),
        GroupField(field="many"),
        GroupField(field="region", merged=(("north", "nowhere"),)),
        GroupField(field="region", merged=(("north", "east"), ("east", "south"))),
        GroupField(field="region", edges=(1.0,)),
        GroupField(field="region", merged=(REGION.categories,)),
        GroupField(field="age"),
        GroupField(field="age", edges=(18,)),
        GroupField(field="age", edges=(65, 25)),
        GroupField(field="age", edges=(25, 101)),
        GroupField(field="age", edges=(25,), merged=(("18", "25"),)),
    ],
    ids=repr,
)
def test_groups_that_a_field_cannot_have_are_refused(contract, group):
    with pytest.raises(MismatchError) as error:
        layout_of(terms(group), contract)
    assert error.value.code == "evaluation.groups_unfit"


def test_a_field_counts_once_and_a_table_has_an_end(contract):
    with pytest.raises(MismatchError) as error:
        layout_of(terms(BY_AGE, BY_AGE), contract)
    assert error.value.code == "evaluation.groups_unfit"
    many = GroupField(field="age", edges=tuple(19.0 + place for place in range(50)))
    assert layout_of(terms(many, BY_REGION), contract).length == 51 * 3 * 4
