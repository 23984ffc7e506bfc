"""Made-up rows are sound under any contract, and say nothing."""

from datetime import UTC, date, datetime

import pytest

from clients.data import Faults, check_source
from clients.pseudonyms import KEY_BYTES, Pseudonymiser
from clients.sources import Source
from fedcore.contracts import ContractField, DayRule
from simulations.generated_rows import generate_rows
from simulations.scenario import load_scenario


@pytest.fixture(scope="module")
def contract():
    return load_scenario("telco").contract


def test_the_nodes_reader_finds_no_fault_in_them(contract, tmp_path):
    path = tmp_path / "rows.csv"
    generate_rows(contract, "alpha", 300, seed=1).write_csv(path)
    pseudonymiser = Pseudonymiser(bytes(KEY_BYTES), contract.subject)
    found = check_source(Source(path), contract, pseudonymiser, date(2026, 3, 2))
    assert found.counts == ()


def test_where_the_contract_has_days_theirs_is_today(contract, tmp_path):
    dated = contract.model_copy(update={"row_day": DayRule(column="seen", rule="iso-day/1")})
    path = tmp_path / "rows.csv"
    generate_rows(dated, "alpha", 300, seed=1).write_csv(path)
    pseudonymiser = Pseudonymiser(bytes(KEY_BYTES), contract.subject)
    today = datetime.now(UTC).date()
    assert check_source(Source(path), dated, pseudonymiser, today) == Faults(())


def test_bounds_that_are_no_whole_numbers_are_kept(contract):
    field = ContractField(name="share", kind="numeric", lower=0.25, upper=0.75)
    narrow = contract.model_copy(update={"fields": (field,)})
    shares = generate_rows(narrow, "alpha", 100, seed=1)["share"].cast(float)
    assert shares.is_between(0.25, 0.75).all()


def test_a_seed_repeats_them_and_units_differ(contract):
    alpha = generate_rows(contract, "alpha", 50, seed=1)
    assert alpha.equals(generate_rows(contract, "alpha", 50, seed=1))
    assert not alpha["tenure"].equals(generate_rows(contract, "beta", 50, seed=1)["tenure"])
    assert not alpha["tenure"].equals(generate_rows(contract, "alpha", 50, seed=2)["tenure"])


def test_both_labels_occur_and_identifiers_are_distinct(contract):
    rows = generate_rows(contract, "alpha", 200, seed=1)
    assert set(rows[contract.label.name]) == {contract.label.positive, contract.label.negative}
    assert rows[contract.subject.column].n_unique() == 200
