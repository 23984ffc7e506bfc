"""A field that this unit has declared to lack: what is read, what is refused, who is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.data import Inputs, check_source, load_examples
from clients.mapping import ColumnMapping
from clients.sources import Source, source_of
from fedcore.errors import DataError
from fedcore.plans import Feature, Imputation

WITHOUT = ("customer_id", "charges", "plan", "gender", "churn")
ABSENT = frozenset({"tenure"})


@pytest.fixture(scope="module")
def loose(contract):
    """The contract, of which tenure may be absent and plan may be empty."""
    tenure, charges, plan, gender = contract.fields
    fields = (
        tenure.model_copy(update={"availability": "may_be_absent"}),
        charges,
        plan.model_copy(update={"missing_category": "max"}),
        gender,
    )
    return contract.model_copy(update={"fields": fields})


@pytest.fixture(scope="module")
def inputs():
    constant = Imputation(impute=36, indicator=True)
    return (
        Feature(field="tenure", encoding="scale", absent=constant),
        Feature(field="charges", encoding="scale", missing_indicator=True),
        Feature(field="plan", encoding="onehot", missing_indicator=True),
    )


@pytest.fixture(scope="module")
def read(loose, inputs, pseudonymiser, today):
    """Read a source that is declared to lack fields, under a plan that says what is absent."""

    def read(path, declared=("tenure",), absent=ABSENT, features=inputs):
        source = Source(path, ColumnMapping(absent=declared))
        inputs = Inputs(features, absent)
        return load_examples(source, loose, inputs, pseudonymiser, lambda _: False, today)

    return read


@pytest.fixture(scope="module")
def checked(loose, pseudonymiser, today):
    """Hold a source that is declared to lack fields against the contract."""
    return lambda path, *declared: (
        check_source(
            Source(path, ColumnMapping(absent=declared)), loose, pseudonymiser, today
        ).counts
    )


def refused(act):
    with pytest.raises(DataError) as error:
        act()
    return error.value


def numbers(examples):
    return examples.features.tobytes(), examples.labels.tobytes()


@pytest.fixture(scope="module")
def lacking(rows, written):
    return written([{name: row[name] for name in WITHOUT} for row in rows], WITHOUT)


def test_a_source_without_the_column_fits_once_the_unit_has_declared_so(checked, lacking):
    error = refused(lambda: checked(lacking))
    assert (error.code, error.public.endswith(": tenure")) == ("data.column_missing", True)
    assert checked(lacking, "tenure") == ()


def test_what_every_unit_must_have_cannot_be_declared_absent(checked, rows, written):
    error = refused(lambda: checked(written(rows), "tenure", "charges", "plan"))
    assert error.code == "data.absence_not_allowed"
    assert error.public.endswith("charges, plan")
    assert checked(written(rows), "tenure") == ()


def test_every_customer_gets_the_constant_and_the_indicator(read, lacking):
    examples = read(lacking)
    assert examples.features[:, 0].tolist() == [0] * 8
    assert examples.features[:, 1].tolist() == [1] * 8
    assert examples.features.shape == (8, 7)


def test_the_plan_is_law_also_where_the_source_has_the_field(read, rows, written, lacking):
    full = written(rows)
    assert numbers(read(full, declared=())) == numbers(read(full)) == numbers(read(lacking))
    present = read(full, declared=(), absent=frozenset())
    assert present.features[:, 1].tolist() == [0] * 8
    assert present.features[:, 2:].tobytes() == read(lacking).features[:, 2:].tobytes()


def test_a_plan_that_reads_what_the_unit_lacks_is_refused_before_a_row_is_read(read, lacking):
    for path in (lacking, Path("nowhere.csv")):
        error = refused(lambda path=path: read(path, absent=frozenset()))
        assert (error.code, "tenure" in error.public) == ("data.field_absent", True)
    assert read(lacking).features.shape[0] == 8


def test_a_declared_field_breaks_no_row(read, checked, rows, written, lacking):
    broken = written([{**row, "tenure": "many"} for row in rows])
    assert checked(broken) == (("tenure", "not a finite number", 8),)
    assert checked(broken, "tenure") == ()
    assert numbers(read(broken)) == numbers(read(lacking))


def test_an_empty_category_stands_for_its_public_level(read, checked, rows, written):
    empty = written([rows[0], {**rows[1], "plan": ""}, *rows[2:]])
    assert checked(empty) == ()
    said = written([rows[0], {**rows[1], "plan": "max"}, *rows[2:]])
    found, twin = read(empty).features, read(said).features
    assert found[:, :6].tobytes() == twin[:, :6].tobytes()
    assert (found[:, 6].tolist(), twin[:, 6].sum()) == ([0, 1, 0, 0, 0, 0, 0, 0], 0)
    assert found[:, 3].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]  # C3 has no charges


def test_an_empty_category_without_a_rule_still_breaks_the_contract(
    contract, pseudonymiser, rows, written, today
):
    path = written([{**rows[0], "plan": ""}, *rows[1:]])
    assert check_source(Source(path), contract, pseudonymiser, today).counts == (
        ("plan", "empty", 1),
    )


@hypothesis_settings(max_examples=40)
@given(st.data())
def test_what_others_do_leaves_a_customers_numbers_byte_equal_where_fields_are_absent(
    read, rows, written, data
):
    absent = data.draw(st.sampled_from([frozenset(), ABSENT]))
    own = {**rows[0], "plan": data.draw(st.sampled_from(["", "plus"]))}
    alone = read(written([own]), (), absent).features[0].tobytes()
    cells = st.fixed_dictionaries(
        {
            "tenure": st.sampled_from(["", "0", "71", "x"]),
            "charges": st.sampled_from(["", "190", "x"]),
            "plan": st.sampled_from(["", "max", "gold"]),
        }
    )
    others = [{**row, **data.draw(cells)} for row in data.draw(st.permutations(rows[1:]))]
    together = read(written([own, *others]), (), absent).features
    assert together[0].tobytes() == alone


def test_settings_declare_it_and_do_not_name_it_too(node_settings):
    assert source_of(node_settings(absent_fields=("tenure",))).mapping.absent == ("tenure",)
    node_settings(absent_fields=("tenure",), columns={"plan": "tariff"})
    for named in ({"columns": {"tenure": "months"}}, {"values": {"tenure": {"1": ("x",)}}}):
        with pytest.raises(ValueError, match="absent_fields: tenure"):
            node_settings(absent_fields=("tenure",), **named)


def test_a_name_that_the_contract_does_not_have_is_told(loose):
    mapping = ColumnMapping(absent=("tenure", "income", "churn"))
    assert mapping.unknown_names(loose) == ["absent_fields.churn", "absent_fields.income"]


def test_a_check_stands_for_the_fields_that_were_declared_then(site, start):
    site.state.set_checked(available=True, at=start, contract="a", absent=("y", "x"))
    assert site.state.checked("a", ("x", "y"))
    assert not site.state.checked("a")
    assert not site.state.checked("a", ("x",))
    site.state.set_checked(available=True, at=start, contract="a")
    assert site.state.checked("a")
