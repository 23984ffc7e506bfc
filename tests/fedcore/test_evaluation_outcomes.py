"""Numbers and intervals of evaluations: derived from tables alone, by anybody, alike."""

from fractions import Fraction

import numpy as np
import pytest

from fedcore.canonical import digest
from fedcore.evaluation_outcomes import derive_difference, derive_outcomes, table_epsilon
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.privacy.discrete import discrete_laplace_variance
from fedcore.score_tables import DEFAULT_BINS, score_table

VERSIONS = (("churn", 1), ("churn", 2))
AGE = SensitiveAttribute(name="age", groups=("young", "old"), edges=(30.0,))


def plan_of(count=2, **changes):
    models = tuple(
        EvaluatedModel(artifact=digest(b"%d" % n), plan=digest(b"plan")) for n in range(count)
    )
    values = {
        "title": "t",
        "models": models,
        "rows": "holdout",
        "epsilon": 1.0,
        "delta": 1e-5,
        "minimum_units": 1,
    }
    return EvaluationPlan(**{**values, **changes})


def population(draw, rows):
    """Labels, and scores of a good and of a fair model that err on the same customers."""
    labels = draw.random(rows) < 0.3
    shared = draw.normal(size=rows)
    scores = [
        1 / (1 + np.exp(-(strength * labels - 1 + shared + draw.normal(size=rows) / 2)))
        for strength in (1.5, 1.0)
    ]
    return labels, scores


def tables_of(plan, draw, units=3, rows=1500):
    scale = float(table_epsilon(plan))
    made = []
    for number in range(units):
        labels, scores = population(draw, rows)
        tables = []
        for each in scores[: len(plan.models)]:
            ones = draw.geometric(1 - np.exp(-scale), (2, DEFAULT_BINS.size))
            noised = score_table(labels, each) + ones[0] - ones[1]
            tables.append(tuple(int(count) for count in noised))
        made.append(NoisedTables(run_id="r", unit=f"u{number}", tables=tuple(tables)))
    return made


def difference_of(plan, tables):
    found = derive_difference(plan, derive_outcomes(plan, tables, VERSIONS))
    assert found is not None
    return found


def number_of(outcome, name):
    return next(number for number in outcome.numbers if number.name == name)


def test_each_table_gets_an_equal_and_exact_part_of_epsilon():
    terms = TableLayout(attributes=(AGE,), threshold=0.5)
    assert table_epsilon(plan_of(1)) == 1
    assert table_epsilon(plan_of(2, epsilon=0.1)) == Fraction(1, 20)
    assert table_epsilon(plan_of(2, fairness=terms)) == Fraction(1, 3)
    assert plan_of(2).exchange_event().noise_multiplier == 2.0


def test_the_order_of_the_units_changes_nothing():
    plan, tables = plan_of(), tables_of(plan_of(), np.random.default_rng(1))
    assert derive_outcomes(plan, tables, VERSIONS) == derive_outcomes(plan, tables[::-1], VERSIONS)


def test_the_noise_of_every_unit_is_in_the_interval():
    plan = plan_of(1)
    tables = tables_of(plan, np.random.default_rng(2), units=4)
    [outcome] = derive_outcomes(plan, tables, VERSIONS[:1])
    found = number_of(outcome, "true_positives_at_0.5")
    cells = sum(edge >= 0.5 for edge in DEFAULT_BINS.edges[:-1])
    assert found.noise_sd**2 == pytest.approx(4 * cells * discrete_laplace_variance(1))


def test_thresholds_of_fairness_are_counted_beside_the_half_where_bins_have_them():
    draw = np.random.default_rng(3)
    for threshold, counted in ((0.3, True), (0.33, False)):
        terms = TableLayout(attributes=(AGE,), threshold=threshold)
        plan = plan_of(1, fairness=terms)
        [outcome] = derive_outcomes(plan, tables_of(plan, draw), VERSIONS[:1])
        names = {number.name for number in outcome.numbers}
        assert "accuracy_at_0.5" in names
        assert (f"accuracy_at_{threshold:g}" in names) is counted


def test_more_noise_makes_the_interval_of_a_difference_wider():
    draw = np.random.default_rng(6)
    wide, narrow = (
        difference_of(one, tables_of(one, draw)) for one in (plan_of(epsilon=0.2), plan_of())
    )
    assert wide.high - wide.low > narrow.high - narrow.low
    assert wide.noise_sd > 2 * narrow.noise_sd


def area(labels, scores):
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positives = labels.sum()
    wins = ranks[labels].sum() - positives * (positives + 1) / 2
    return wins / (positives * (len(labels) - positives))


def test_differences_contain_that_of_the_population_at_least_as_often_as_they_say():
    plan = plan_of()
    labels, scores = population(np.random.default_rng(98), 200_000)
    true = area(labels, scores[0]) - area(labels, scores[1])
    draw, held, rounds = np.random.default_rng(4), 0, 60
    for _ in range(rounds):
        found = difference_of(plan, tables_of(plan, draw))
        held += found.low <= true <= found.high
    assert held >= 0.93 * rounds


def test_without_two_areas_there_is_no_difference():
    plan = plan_of(epsilon=0.0001)
    outcomes = derive_outcomes(plan, tables_of(plan, np.random.default_rng(5)), VERSIONS)
    assert "roc_auc" in outcomes[0].hidden
    assert derive_difference(plan, outcomes) is None
