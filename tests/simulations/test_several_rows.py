"""A scenario whose customers have several rows, from the table to the verified model."""

import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedcore.errors import DataError, InvalidRecordError
from fedcore.tasks.task import load_task, shapes_of
from fedcore.verify import verify_bundle
from fedcore.weights import decode_weights, encode_weights
from simulations.experiment import Experiment, load_customers
from simulations.generated_rows import generate_rows
from simulations.paperwork import make_plan
from simulations.population import customers_of, load_population
from simulations.scenario import load_scenario
from simulations.scoring import HeldOut, baselines, encoded

MOST = 3
RULE = f'rows_per_customer = {{ most = {MOST}, rule = "drawn/1" }}\n'


def contacts():
    """One to five contacts with each of 240 customers; the younger say yes more often."""
    draw = random.Random(7)  # noqa: S311 - invented customers, always the same
    rows = []
    for number in range(240):
        age, branch = draw.randint(18, 100), ("east", "north", "west")[number % 3]
        for contact in range(draw.randint(1, 5)):
            name = f"k{number} " if contact % 2 else f"K{number}"
            said = "yes" if draw.random() < (0.7 if age < 50 else 0.2) else "no"
            rows.append(f"{name},{age},{draw.choice(['basic', 'plus'])},{said},{branch}")
    draw.shuffle(rows)
    return rows


@pytest.fixture
def contact_file(scenario_writer, scenario_text, tmp_path):
    text = scenario_text.replace("[contract]\n", f"[contract]\n{RULE}")
    return scenario_writer(tmp_path, contacts(), text)


@pytest.fixture
def scenario(contact_file):
    return load_scenario(str(contact_file))


def test_it_trains_and_verifies_and_opt_outs_act_for_whole_customers(scenario, tmp_path):
    outcome = Experiment(scenario, tmp_path / "run", lambda _: None).carry_out()
    assert verify_bundle(outcome.bundle, outcome.governance_key).ok
    assert outcome.auc > 0.6
    assert {(o.unit, o.purpose): o.excluded_since_round for o in outcome.opt_outs} == {
        ("east", "marketing"): 1,
        ("west", "churn"): 2,
        ("west", "statistics"): None,
    }


def test_the_same_table_is_refused_under_a_contract_of_one_row(contact_file, tmp_path):
    contact_file.write_text(contact_file.read_text().replace(RULE, ""))
    with pytest.raises(DataError, match="rows_per_customer") as error:
        Experiment(load_scenario(str(contact_file)), tmp_path / "run", lambda _: None).carry_out()
    assert error.value.code == "data.duplicate_subject"


def test_all_rows_of_a_customer_are_in_one_part_of_the_split(scenario, contact_file, tmp_path):
    population = load_customers(scenario, tmp_path / "rows")
    train, test = (customers_of(part, "id") for part in (population.train, population.test))
    assert sorted(train + test) == sorted(f"K{number}" for number in range(240))
    assert (len(train), len(test)) == (192, 48)
    rows = population.train.height + population.test.height
    assert rows == len(contacts())
    table = contact_file.with_name("customers.csv")
    by_row = load_population(table, ("left", "branch"), scenario.seed, 0.2)
    assert set(customers_of(by_row.train, "id")) & set(customers_of(by_row.test, "id"))


def test_customers_too_few_to_split_are_refused_however_many_rows_they_have(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("id,left,branch\n" + "1,yes,a\n" * 20 + "2,no,b\n" * 20, encoding="utf-8")
    load_population(path, ("left", "branch"), 1, 0.2)
    with pytest.raises(InvalidRecordError, match="too small"):
        load_population(path, ("left", "branch"), 1, 0.2, "id")
    with pytest.raises(DataError, match="number"):
        load_population(path, ("left", "branch"), 1, 0.2, "number")


def test_each_row_is_scored_and_a_customers_rows_count_as_one(scenario, tmp_path):
    population, plan = load_customers(scenario, tmp_path / "rows"), make_plan(scenario)
    scratch = tmp_path / "scratch.csv"
    part = HeldOut(population, plan, scenario.contract, scratch)
    rows = encoded(population.test, plan, scenario.contract, scratch)
    counts = [] if rows.counts is None else rows.counts.tolist()
    assert (rows.customers, len(counts), max(counts)) == (48, 48, MOST)
    module = load_task("churn").build(plan.model, 2)
    model = encode_weights(
        {name: np.full(shape, -1.0) for name, shape in shapes_of(module).items()}
    )
    scores = -rows.features.sum(axis=1)
    shares = [1 / count for count in counts for _ in range(count)]
    expected = roc_auc_score(rows.labels, scores, sample_weight=shares)
    assert part.auc(model) == pytest.approx(expected)
    assert part.auc(model) != pytest.approx(roc_auc_score(rows.labels, scores))
    assert decode_weights(model, shapes_of(module), 1.0)["0.bias"] == [-1.0]
    found = baselines(population, plan, scenario.contract, scratch, part)
    assert found.pooled_candidates.keys() == {"public_bounds", "plain"}
    assert all(0.5 < auc < 0.95 for auc in found.pooled_candidates.values())


def test_made_up_rows_are_two_of_each_customer(scenario):
    rows = generate_rows(scenario.contract, "alpha", 51, seed=1)
    assert (rows.height, rows["id"].n_unique()) == (51, 26)
