"""The table of hits and misses by group: fields that are no inputs, each customer in one entry."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data import Inputs, load_examples
from clients.evaluating import scores_of, tables_of
from clients.sources import Source
from fedcore.contracts import DayRule, RowsRule
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.score_tables import DEFAULT_BINS
from fedcore.tasks.task import initial_weights, load_scorer, load_task

COLUMNS = ("customer_id", "tenure", "charges", "plan", "gender", "churn", "seen")
THRESHOLD = 0.5
LAYOUT = TableLayout(
    attributes=(
        SensitiveAttribute(name="gender", groups=("female", "male")),
        SensitiveAttribute(name="charges", groups=("low", "high", "unknown"), edges=(50.0,)),
    ),
    threshold=THRESHOLD,
)
GROUPS = {"female": 0, "male": 1}


def row(customer, number, day="2026-02-20"):
    gender = "female" if number % 3 else "male"
    charges = "" if number % 7 == 0 else str(number % 100)
    label = "Yes" if number % 2 else "No"
    cells = (customer, str(number % 72), charges, "basic", gender, label, day)
    return dict(zip(COLUMNS, cells, strict=True))


ROWS = [row(f"C{number:03d}", number * 13) for number in range(60)]


@pytest.fixture(scope="module")
def dated(contract):
    rule = RowsRule.model_validate({"most": 3, "rule": "newest/1"})
    day = DayRule(column="seen", rule="iso-day/1")
    return contract.model_copy(update={"row_day": day, "rows_per_customer": rule})


@pytest.fixture(scope="module")
def inputs(features):
    """Inputs without what groups are told by."""
    kept = tuple(feature for feature in features if feature.field == "tenure")
    return Inputs(kept, groups=("gender", "charges"))


@pytest.fixture(scope="module")
def plan(plan, inputs):
    return plan.model_copy(update={"features": inputs.features})


@pytest.fixture(scope="module")
def evaluation(plan, digest):
    return EvaluationPlan(
        title="A test",
        models=(EvaluatedModel(artifact=digest("model"), plan=plan.digest),),
        rows="holdout",
        epsilon=1.0,
        delta=1e-5,
        minimum_units=2,
        fairness=LAYOUT,
    )


@pytest.fixture(scope="module")
def weights(plan, contract):
    width = len(input_names(plan.features, contract))
    draw = np.random.default_rng(5)
    first = initial_weights(load_task("churn"), plan.model, width)
    return {name: draw.normal(0, 1, array.shape) for name, array in first.items()}


@pytest.fixture(scope="module")
def read(inputs, pseudonymiser, written, today):
    def of(rows, contract):
        source = Source(written(rows, COLUMNS))
        return load_examples(source, contract, inputs, pseudonymiser, lambda *_: False, today)

    return of


@pytest.fixture(scope="module")
def counted(read, evaluation, plan, weights, contract):
    def of(rows, under=contract, asked=evaluation):
        return tables_of(asked, [(plan, weights)], read(rows, under))

    return of


def test_the_fields_of_groups_are_read_and_are_no_inputs(read, contract, plan):
    examples = read(ROWS, contract)
    assert examples.features.shape[1] == len(input_names(plan.features, contract))
    assert examples.groups is not None
    assert examples.groups.columns == ["gender", "charges"]
    assert examples.groups["charges"].dtype == pl.Float64


def test_the_table_is_what_the_rows_say(counted, read, plan, weights, contract):
    scores, groups = counted(ROWS)
    assert (len(scores), len(groups)) == (DEFAULT_BINS.size, 2 * 3 * 4)
    examples = read(ROWS, contract)
    found = scores_of(load_scorer("churn"), plan, weights, examples.features)
    expected = dict.fromkeys(itertools.product(range(2), range(3), range(2), range(2)), 0)
    by_name = {r["customer_id"]: r for r in ROWS}
    for name, score, label in zip(examples.identifiers, found, examples.labels, strict=True):
        charges = by_name[name]["charges"]
        cell = (GROUPS[by_name[name]["gender"]], int(float(charges) >= 50) if charges else 2)
        expected[(*cell, int(score >= THRESHOLD), int(label))] += 1
    assert groups.tolist() == list(expected.values())
    assert groups.sum() == scores.sum() == len(ROWS)


@settings(max_examples=15)
@given(st.integers(0, len(ROWS) - 1))
def test_without_one_customer_one_count_of_each_table_is_less_by_one(counted, gone):
    both = counted(ROWS), counted(ROWS[:gone] + ROWS[gone + 1 :])
    for table, less in zip(*both, strict=True):
        change = table - less
        assert sorted(change[change != 0]) == [1]


def test_of_several_rows_the_newest_says_the_group_and_the_label(counted, dated):
    newest = row("C1", 3, "2026-02-25") | {"gender": "male", "charges": "90", "churn": "Yes"}
    older = row("C1", 3, "2026-02-01") | {"gender": "female", "charges": "10", "churn": "No"}
    _, groups = counted([older, newest], dated)
    cells = groups.reshape(2, 3, 2, 2).sum(axis=2)
    assert cells[GROUPS["male"], 1, 1] == groups.sum() == 1
    _, swapped = counted([newest, older], dated)
    assert swapped.tolist() == groups.tolist()


def test_an_empty_cell_is_counted_nowhere_where_no_group_is_for_the_unknown(counted, evaluation):
    """What the contract has for an empty cell is an input's business: it says no group."""
    known, unknown = row("C1", 8), row("C2", 7)
    assert (known["charges"], unknown["charges"]) == ("8", "")
    _, groups = counted([known, unknown])
    assert groups.reshape(2, 3, 4).sum(axis=(0, 2)).tolist() == [1, 0, 1]
    charges = SensitiveAttribute(name="charges", groups=("low", "high"), edges=(50.0,))
    layout = TableLayout(attributes=(charges,), threshold=THRESHOLD)
    scores, groups = counted(
        [known, unknown], asked=evaluation.model_copy(update={"fairness": layout})
    )
    assert (scores.sum(), groups.sum()) == (2, 1)


def test_groups_that_were_not_read_are_not_taken_for_nobody(
    evaluation, plan, weights, read, contract
):
    examples = replace(read(ROWS, contract), groups=None)
    with pytest.raises(InvalidRecordError, match=r"fairness\.table_invalid"):
        tables_of(evaluation, [(plan, weights)], examples)


def test_a_unit_without_customers_has_a_table_of_zeros(counted):
    assert [int(table.sum()) for table in counted([])] == [0, 0]
