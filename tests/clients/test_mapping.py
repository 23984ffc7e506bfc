import pytest

from clients.data import check_source
from clients.mapping import ColumnMapping
from clients.sources import Source, load_rows
from fedcore.errors import DataError


@pytest.fixture
def faults(contract, pseudonymiser, today):
    return lambda path, **mapping: (
        check_source(Source(path, ColumnMapping(**mapping)), contract, pseudonymiser, today).counts
    )


def renamed(rows, **names):
    return [{names.get(name, name): cell for name, cell in row.items()} for row in rows]


def refused(act):
    with pytest.raises(DataError) as error:
        act()
    return error.value


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_may_have_another_name_in_the_source(rows, written, faults, suffix):
    theirs = renamed(rows, tenure="months", churn="left us")
    path = written(theirs, tuple(theirs[0]), suffix)
    assert refused(lambda: faults(path)).public.endswith("columns: churn, tenure")
    assert faults(path, columns={"tenure": "months", "churn": "left us"}) == ()


def test_a_mapped_column_that_is_missing_is_named_with_the_contracts(rows, written, faults):
    error = refused(lambda: faults(written(rows), columns={"tenure": "months"}))
    assert error.code == "data.column_missing"
    assert error.public.endswith("columns: months (for tenure)")


def test_one_column_is_never_read_as_two(rows, written, faults):
    path = written(rows)
    error = refused(lambda: faults(path, columns={"tenure": "charges"}))
    assert error.code == "data.column_mapped_twice"
    assert "charges" in error.public
    assert faults(path, columns={"tenure": "tenure"}) == ()


def test_two_columns_may_change_their_names(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,a,b\n1,x,y\n")
    mapping = ColumnMapping(columns={"a": "b", "b": "a"})
    assert load_rows(Source(path, mapping), ["id", "a", "b"]).frame.rows() == [("1", "y", "x")]


def test_a_name_that_a_csv_header_has_twice_is_refused(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,a,a\n1,x,y\n")
    error = refused(lambda: load_rows(Source(path), ["id", "a"]))
    assert (error.code, error.public.endswith(": a")) == ("data.column_doubled", True)
    assert load_rows(Source(path), ["id"]).frame.rows() == [("1",)]


def test_spellings_stand_for_the_contracts_values(rows, written, faults):
    spelt = [{**row, "churn": {"Yes": "1", "No": "0"}[row["churn"]]} for row in rows]
    path = written(spelt)
    assert faults(path) == (("churn", "not one of the two labels", 8),)
    values = {"churn": {"Yes": ("1", "true"), "No": ("0",)}}
    assert faults(path, values=values) == ()
    assert faults(path, values={"churn": {"Yes": ("1",)}}) == (
        ("churn", "not one of the two labels", 4),
    )


def test_values_may_be_swapped_by_spellings(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,plan\n1, basic \n2,plus\n3,max\n4,\n")
    swapped = ColumnMapping(values={"plan": {"basic": ("plus",), "plus": ("basic",)}})
    found = load_rows(Source(path, swapped), ["id", "plan"]).frame["plan"].to_list()
    assert found == ["plus", "basic", "max", None]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tenure": {"1": ("one",)}}, "values.tenure"),
        ({"customer_id": {"C1": ("C2",)}}, "values.customer_id"),
        ({"churn": {"Yes": ("No",)}}, "values.churn"),
        ({"plan": {"basic": ("plus",), "max": ("x",)}}, "values.plan"),
    ],
)
def test_spellings_of_numbers_and_customers_or_with_two_meanings_are_refused(
    rows, written, faults, values, named
):
    """Spellings of identifiers would make one customer of two."""
    error = refused(lambda: faults(written(rows), values=values))
    assert error.code == "data.mapping_unfit"
    assert error.public.startswith(named)


def test_a_value_may_keep_its_own_spelling_beside_others(rows, written, faults):
    assert faults(written(rows), values={"churn": {"Yes": ("Yes", "1")}}) == ()


def test_what_a_contract_does_not_have_is_told_and_changes_nothing(rows, written, faults, contract):
    columns = {"income": "salary", "tenure": "tenure"}
    values = {"plan": {"gold": ("GOLD",), "max": ("MAX",)}, "region": {"n": ("north",)}}
    assert faults(written(rows), columns=columns, values=values) == ()
    assert ColumnMapping(columns, values).unknown_names(contract) == [
        "columns.income",
        "values.plan.gold",
        "values.region.n",
    ]
