"""Calibrated noise claims what was asked, and not a grain more."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.errors import InvalidRecordError
from fedcore.privacy.accounting import decide_within, pld_epsilon, renyi_epsilon
from fedcore.privacy.calibration import noise_multiplier_by_pld, noise_multiplier_for
from fedcore.privacy.events import PrivacyEvent


def event(noise: float, steps: int, rate: float) -> PrivacyEvent:
    return PrivacyEvent(
        mechanism="gaussian",
        l2_sensitivity=1.0,
        sampling_rate=rate,
        noise_multiplier=noise,
        steps=steps,
    )


EPSILONS = st.floats(0.2, 10)
STEPS = st.integers(1, 2000)
RATES = st.sampled_from([0.01, 0.1, 0.5, 1.0])


@settings(max_examples=5, deadline=None)
@given(EPSILONS, STEPS, RATES)
def test_noise_is_enough_and_a_thousandth_less_is_not(
    epsilon: float, steps: int, rate: float
) -> None:
    noise = noise_multiplier_for(epsilon, 1e-5, steps, rate)
    assert decide_within([], [event(noise, steps, rate)], epsilon, 1e-5)
    assert renyi_epsilon([event(noise, steps, rate)], 1e-5) <= epsilon
    assert renyi_epsilon([event(noise * 0.999, steps, rate)], 1e-5) > epsilon
    assert noise == round(noise, 4)


@pytest.mark.parametrize(
    ("epsilon", "steps", "rate"),
    [(3.0, 40, 1.0), pytest.param(8.0, 200, 0.1, marks=pytest.mark.slow)],
)
def test_noise_by_pld_is_never_over_the_target_nor_half_a_percent_below(epsilon, steps, rate):
    noise = noise_multiplier_by_pld(epsilon, 1e-5, steps, rate)
    assert epsilon * 0.995 < pld_epsilon([event(noise, steps, rate)], 1e-5) <= epsilon
    assert pld_epsilon([event(noise * 0.995, steps, rate)], 1e-5) > epsilon
    assert 0.8 * noise_multiplier_for(epsilon, 1e-5, steps, rate) < noise
    assert renyi_epsilon([event(noise, steps, rate)], 1e-5) > epsilon


@settings(max_examples=3, deadline=None)
@given(EPSILONS, STEPS, RATES, st.floats(1.05, 3))
def test_noise_rises_with_steps_and_falls_with_epsilon(
    epsilon: float, steps: int, rate: float, factor: float
) -> None:
    noise = noise_multiplier_for(epsilon, 1e-5, steps, rate)
    assert noise_multiplier_for(epsilon * factor, 1e-5, steps, rate) <= noise
    assert noise_multiplier_for(epsilon, 1e-5, steps * 2, rate) >= noise
    assert noise_multiplier_for(epsilon, 1e-4, steps, rate) <= noise


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e-6, 1e9, math.nan, math.inf])
def test_an_epsilon_that_no_noise_reaches_is_refused(epsilon: float) -> None:
    with pytest.raises(InvalidRecordError) as refusal:
        noise_multiplier_for(epsilon, 1e-5, 40, 1.0)
    assert refusal.value.code == "privacy.unreachable_epsilon"
    assert noise_multiplier_for(3.0, 1e-5, 40, 1.0) == pytest.approx(9.444, abs=1e-3)


@pytest.mark.parametrize(("steps", "rate"), [(0, 1.0), (-1, 1.0), (40, 0.0), (40, 1.01)])
def test_impossible_steps_and_rates_are_refused(steps: int, rate: float) -> None:
    with pytest.raises(InvalidRecordError) as refusal:
        noise_multiplier_for(3.0, 1e-5, steps, rate)
    assert refusal.value.code == "privacy.steps_invalid"
