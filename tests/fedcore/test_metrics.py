import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from fedcore.errors import InvalidRecordError
from fedcore.intervals import ScoreSum, value_of
from fedcore.metrics import (
    CALIBRATION_EDGES,
    AveragePrecision,
    Gain,
    measures,
    noised_sum,
    roc_auc,
    settled,
)
from fedcore.score_tables import DEFAULT_BINS, score_table

MIDDLES = DEFAULT_BINS.middles
SHAPE = (2, DEFAULT_BINS.count)


def exactly(number):
    return pytest.approx(number, abs=1e-9, rel=0)


def said(table, thresholds=(0.5,)):
    return measures(table, thresholds)


def rows(chance, count=3000, prevalence=0.12):
    """Labels and scores on the bins' middles."""
    labels = (chance.random(count) < prevalence).astype(int)
    odds = prevalence / (1 - prevalence) * np.exp(chance.normal((labels - 0.5) * 1.4, 1.2))
    return labels, MIDDLES[DEFAULT_BINS.bin_of(odds / (1 + odds))]


def unnoised(labels, scores, units=3):
    parts = [(labels[k::units], scores[k::units]) for k in range(units)]
    return noised_sum([score_table(*part) for part in parts], None)


@pytest.fixture(params=range(5))
def pooled(request):
    return rows(np.random.default_rng(request.param), 200 + 900 * request.param)


# Without noise: what scikit-learn says of the pooled rows


def test_area_precision_and_losses_are_those_of_the_pooled_rows(pooled):
    labels, scores = pooled
    found = said(unnoised(labels, scores))
    expected = {
        "roc_auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "log_loss": sk.log_loss(labels, scores),
        "brier": sk.brier_score_loss(labels, scores),
        "prevalence": labels.mean(),
    }
    for name, number in expected.items():
        assert found[name].value == exactly(number)
        assert found[name].noise_sd == 0


@pytest.mark.parametrize("threshold", [0.02, 0.2, 0.5])
def test_confusion_is_that_of_the_pooled_rows(pooled, threshold):
    labels, scores = pooled
    chosen = (scores >= threshold).astype(int)
    negative, wrong, missed, right = sk.confusion_matrix(labels, chosen).ravel()
    found = said(unnoised(labels, scores), [threshold])
    expected = {
        "true_positives": right,
        "false_positives": wrong,
        "true_negatives": negative,
        "false_negatives": missed,
        "true_positive_rate": sk.recall_score(labels, chosen),
        "false_positive_rate": wrong / (wrong + negative),
        "accuracy": sk.accuracy_score(labels, chosen),
        "chosen": chosen.mean(),
    }
    if chosen.any():
        expected["precision"] = sk.precision_score(labels, chosen)
    for name, number in expected.items():
        assert found[f"{name}_at_{threshold:g}"].value == exactly(number)


def test_gain_and_lift_are_those_of_the_highest_scores_with_ties_split_evenly(pooled):
    labels, scores = pooled
    found = said(unnoised(labels, scores))
    order = np.unique(scores)[::-1]
    for percent in range(10, 100, 10):
        room, hits = len(labels) * percent / 100, 0.0
        for score in order:
            tied = labels[scores == score]
            part = min(max(room / len(tied), 0), 1)
            hits, room = hits + part * tied.sum(), room - len(tied)
        gain = hits / labels.sum()
        assert found[f"gain_{percent}"].value == exactly(gain)
        assert found[f"lift_{percent}"].value == exactly(gain / percent * 100)


def test_calibration_is_that_of_the_pooled_rows(pooled):
    labels, scores = pooled
    found = said(unnoised(labels, scores))
    error = 0.0
    for low, high in itertools.pairwise(CALIBRATION_EDGES):
        inside = (scores >= low) & (scores < high)
        observed, predicted = (found[f"{k}_{low:g}_{high:g}"] for k in ("observed", "predicted"))
        if not inside.any():
            assert observed is predicted is None
            continue
        assert observed.value == exactly(labels[inside].mean())
        assert predicted.value == exactly(scores[inside].mean())
        error += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
    assert found["ece"].value == exactly(error)


def test_the_area_lies_between_all_ties_lost_and_all_ties_won(pooled):
    labels, scores = pooled
    found = said(unnoised(labels, scores))
    pairs = [(scores[labels == 1][:, None] - scores[labels == 0][None]).ravel()][0]
    assert found["roc_auc_least"].value == exactly((pairs > 0).mean())
    assert found["roc_auc_most"].value == exactly((pairs >= 0).mean())


def test_finer_scores_have_their_area_between_these_two():
    chance = np.random.default_rng(7)
    labels = (chance.random(4000) < 0.3).astype(int)
    scores = chance.beta(2 + labels, 4)
    found = said(unnoised(labels, scores))
    exact = sk.roc_auc_score(labels, scores)
    assert found["roc_auc_least"].value < exact < found["roc_auc_most"].value
    assert abs(found["roc_auc"].value - exact) < 0.002


# Noised sums


def test_a_sum_knows_the_noise_of_all_units():
    table = np.ones(DEFAULT_BINS.size, dtype=np.int64)
    one, five = noised_sum([table], 1.0), noised_sum([table] * 5, 1.0)
    assert five.noise_variance == exactly(5 * one.noise_variance)
    assert one.noise_variance == exactly(2 * math.exp(-1) / (1 - math.exp(-1)) ** 2)
    assert five.counts.sum() == 5 * one.counts.sum()
    assert noised_sum([table], None).noise_variance == 0


COUNTS = arrays(np.int64, SHAPE, elements=st.integers(-40, 200))


@settings(max_examples=40)
@given(COUNTS)
def test_no_count_however_negative_makes_a_number_that_cannot_be(counts):
    found = said(ScoreSum(counts.astype(float), 9.2, DEFAULT_BINS), [0.1, 0.5])
    for name, number in found.items():
        if number is None:
            continue
        assert 0 <= number.low <= number.value <= number.high, name
        assert all(map(math.isfinite, (number.value, number.sampling_sd, number.noise_sd)))
        if "lift" not in name and "positives" not in name and "negatives" not in name:
            assert number.value <= 1 or name == "log_loss"


@given(COUNTS)
def test_settled_counts_are_not_negative_and_end_in_the_noised_total(counts):
    steps = settled(counts.astype(float))
    assert (steps >= 0).all()
    assert steps.sum(axis=-1) == exactly(np.maximum(counts.sum(axis=-1), 0))


@given(arrays(np.int64, SHAPE, elements=st.integers(0, 200)))
def test_counts_that_are_not_negative_stay_as_they_are_when_settled(counts):
    assert np.array_equal(settled(counts.astype(float)), counts[:, ::-1])


def test_settling_spreads_a_negative_count_over_its_neighbours():
    steps = settled(np.array([[4.0, -2.0, 0.0, 3.0]]))
    # From the top: sums 3, 3, 1, 5; each the mean of greatest before and smallest after.
    assert np.cumsum(steps).tolist() == [2, 2, 2, 5]


def test_metrics_of_many_tables_are_those_of_each():
    chance = np.random.default_rng(3)
    many = chance.integers(0, 50, (4, *SHAPE)).astype(float)
    for metric in (roc_auc, AveragePrecision(9.2), Gain(0.3)):
        assert metric(many) == exactly([metric(one[np.newaxis])[0] for one in many])


def test_a_precision_that_noise_hides_is_that_of_the_bins_below():
    counts = np.array([[500.0, 100.0, 40.0, -3.0], [20.0, 30.0, 60.0, 2.0]])
    found = value_of(AveragePrecision(9.0), counts)
    # The highest bin has -1 customers; with the next one 99 are clear of 4 * sqrt(9 * 4) = 24.
    expected = (2 + 60) * 62 / 99 + 30 * 92 / 229 + 20 * 112 / 749
    assert found == exactly(expected / 112)


# What is not said


def totals(positives, noise_variance):
    counts = np.full(SHAPE, 100.0)
    counts[1] = positives / DEFAULT_BINS.count
    return said(ScoreSum(counts, noise_variance, DEFAULT_BINS))


def test_numbers_whose_divisor_does_not_stand_out_of_its_noise_are_not_said():
    sd = math.sqrt(9.2 * DEFAULT_BINS.count)
    hidden, shown = totals(4.9 * sd, 9.2), totals(5.1 * sd, 9.2)
    for name in ("roc_auc", "average_precision", "gain_10", "lift_90", "roc_auc_least"):
        assert hidden[name] is None
        assert shown[name] is not None
    assert hidden.keys() == shown.keys()
    assert hidden["log_loss"] is not None
    assert totals(4.9 * sd, 0.0)["roc_auc"] is not None


def test_of_no_customers_only_counts_are_said():
    found = said(noised_sum([], None))
    assert {name for name, number in found.items() if number is not None} == {
        f"{kind}_{label}_at_0.5"
        for kind in ("true", "false")
        for label in ("positives", "negatives")
    }
    assert found["true_positives_at_0.5"].value == 0


@pytest.mark.parametrize("bad", [0.17, 0.0, 1.0, math.nan])
def test_a_threshold_within_a_bin_is_refused_and_its_twin_is_not(bad):
    table = noised_sum([score_table([0, 1], [0.1, 0.9])], None)
    with pytest.raises(InvalidRecordError) as refused:
        said(table, [bad])
    assert refused.value.code == "evaluation.threshold_unfit"
    assert "precision_at_0.16" in said(table, [0.16])
