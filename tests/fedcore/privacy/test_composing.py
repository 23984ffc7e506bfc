"""Composed losses against computations that share no more with them than single steps."""

import math

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import (
    DiscreteLaplaceDpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld import privacy_loss_distribution as library
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.privacy import composing
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.privacy.composing import composed_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.privacy.losses import INTERVAL
from fedcore.privacy.steps import Step, summarise

HISTORIES = {
    "sampled": [(Step("gaussian", 0.05, 8.0), 12), (Step("gaussian", 0.2, 20.0), 9)],
    "mixed": [
        (Step("discrete_laplace", 1.0, 20.0), 6),
        (Step("gaussian", 0.1, 12.0), 10),
        (Step("gaussian", 1.0, 8.0), 1),
    ],
    "rare": [(Step("gaussian", 0.004, 1.5), 4), (Step("discrete_laplace", 0.2, 4.0), 3)],
}
DELTAS = [1e-3, 1e-5, 1e-7]


def library_step(step, interval):
    """Return the library's distributions of a step."""
    if step.mechanism == "discrete_laplace":
        return library.from_discrete_laplace_mechanism(
            step.pure_epsilon, value_discretization_interval=interval
        )
    return library.from_gaussian_mechanism(
        step.noise_multiplier,
        sampling_prob=step.sampling_rate,
        value_discretization_interval=interval,
    )


def plainly_composed(history, side):
    """Return epsilon at each delta by sums of products, one step after the other: all terms are
    positive, so that each mass is right to its last digits, however small it is.
    """
    masses, first, finite = np.ones(1), 0, 1.0
    for step, count in history:
        pmf = getattr(library_step(step, INTERVAL), side).to_dense_pmf()
        for _ in range(count):
            masses = np.convolve(masses, pmf._probs)
            first, finite = first + pmf._lower_loss, finite * (1 - pmf._infinity_mass)
            # Far below every delta; it keeps the sums short.
            kept = np.flatnonzero(masses > 1e-22)
            masses, first = masses[kept[0] : kept[-1] + 1], first + int(kept[0])
    losses = (first + np.arange(len(masses))) * INTERVAL
    return [_least_epsilon(losses, masses, 1 - finite, delta) for delta in DELTAS]


def _least_epsilon(losses, masses, infinite, delta):
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        above = losses > middle
        found = infinite + masses[above] @ -np.expm1(middle - losses[above])
        low, high = (middle, high) if found > delta else (low, middle)
    return high


@pytest.mark.parametrize("name", HISTORIES)
def test_composed_epsilon_is_that_of_plain_sums_of_products(name):
    both = [plainly_composed(HISTORIES[name], side) for side in ("_pmf_remove", "_pmf_add")]
    for delta, *plain in zip(DELTAS, *both, strict=True):
        found = composed_epsilon(tuple(HISTORIES[name]), delta)
        assert found == pytest.approx(max(plain), abs=1e-9)


def accounted(history, delta, interval):
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    for step, count in history:
        if step.mechanism == "discrete_laplace":
            event = DiscreteLaplaceDpEvent(step.pure_epsilon, 1)
        else:
            event = GaussianDpEvent(step.noise_multiplier)
            if step.sampling_rate < 1:
                event = PoissonSampledDpEvent(step.sampling_rate, event)
        accountant.compose(SelfComposedDpEvent(event, count))
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize("name", HISTORIES)
def test_composed_epsilon_is_the_library_s_and_not_below_that_of_a_finer_interval(name):
    # At smaller deltas the library's own rounding shows: it transforms without weights.
    for delta in DELTAS[:2]:
        found = composed_epsilon(tuple(HISTORIES[name]), delta)
        assert found == pytest.approx(accounted(HISTORIES[name], delta, INTERVAL), abs=1e-9)
        assert found > accounted(HISTORIES[name], delta, INTERVAL / 10)


KINDS = [
    PrivacyEvent(mechanism="gaussian", sampling_rate=0.1, noise_multiplier=10.0, steps=3),
    PrivacyEvent(mechanism="gaussian", sampling_rate=0.02, noise_multiplier=4.0, steps=20),
    PrivacyEvent(mechanism="gaussian", sampling_rate=1.0, noise_multiplier=15.0, steps=2),
    PrivacyEvent(mechanism="discrete_laplace", sampling_rate=1.0, noise_multiplier=9.0, steps=1),
]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(KINDS), min_size=2, max_size=12), st.sampled_from([1e-4, 1e-6]))
def test_what_is_kept_never_changes_a_result(events, delta):
    """Grown event by event, past the grid's width too, or made at once: the same epsilon."""
    composing._KEPT.clear()
    for count in range(1, len(events) + 1):
        grown = composed_epsilon(summarise(events[:count]), delta)
    composing._KEPT.clear()
    assert grown == pytest.approx(composed_epsilon(summarise(events), delta), abs=1e-10)


def test_one_more_event_takes_only_its_own_transforms(monkeypatch):
    history = summarise(KINDS * 5)
    composed_epsilon(history, 1e-5)
    taken = []
    real = np.fft.rfft

    def counted(*args):
        taken.append(args)
        return real(*args)

    monkeypatch.setattr(np.fft, "rfft", counted)
    composed_epsilon(summarise([*KINDS * 5, KINDS[0]]), 1e-5)
    assert len(taken) == 2 * 2  # each way: the event's kind, and the full-batch steps as one
    composing._KEPT.clear()
    composed_epsilon(history, 1e-5)
    assert len(taken) == 4 + 2 * len(history)


def test_mass_above_the_window_counts_as_an_infinite_loss(monkeypatch):
    counts = dict(HISTORIES["sampled"])
    composing._KEPT.clear()
    exact = composing._composed(0, 1e-5, counts, [])
    for tail in (1e-2, 1e-4):
        composing._KEPT.clear()
        monkeypatch.setattr(composing, "_TAIL", tail)
        monkeypatch.setattr(composing, "_LOG_TAIL", math.log(2 / tail))
        found = composing._composed(0, 1e-5, counts, [])
        cut = np.exp(exact.logs[exact.places > found.places[-1]]).sum()
        assert 0 < cut < found.infinite - exact.infinite
        assert composing._epsilon(exact, 1e-5) < composing._epsilon(found, 1e-5)
    composing._KEPT.clear()


def test_a_delta_below_the_mass_of_an_infinite_loss_has_no_epsilon():
    assert composed_epsilon(((Step("gaussian", 1.0, 1.0), 1),), 1e-30) == math.inf
    assert pld_epsilon([KINDS[2]], 1e-30) == renyi_epsilon([KINDS[2]], 1e-30)
