"""The claim and the PLD value against published figures, plain formulas and adaptive choosers."""

import math
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import (
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from fedcore.errors import InvalidRecordError
from fedcore.privacy.accounting import (
    decide_within,
    order_for,
    pld_epsilon,
    renyi_epsilon,
)
from fedcore.privacy.events import PrivacyEvent


def gaussian(noise: float, steps: int = 1, rate: float = 1.0) -> PrivacyEvent:
    return PrivacyEvent(
        mechanism="gaussian",
        l2_sensitivity=1.0,
        sampling_rate=rate,
        noise_multiplier=noise,
        steps=steps,
    )


def laplace_counts(noise: float, steps: int = 1, rate: float = 1.0) -> PrivacyEvent:
    return PrivacyEvent(
        mechanism="discrete_laplace",
        l1_sensitivity=1.0,
        sampling_rate=rate,
        noise_multiplier=noise,
        steps=steps,
    )


def analytic_delta(mu: float, epsilon: float) -> float:
    """Delta of a Gaussian mechanism with noise 1/mu: Balle and Wang (2018), Theorem 8."""
    with mpmath.workdps(30):
        high = mpmath.ncdf(mu / 2 - epsilon / mu)
        return float(high - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu))


def analytic_epsilon(mu: float, delta: float) -> float:
    """Exact epsilon of full-batch Gaussian steps whose (1/noise)^2 add up to mu^2."""
    if analytic_delta(mu, 0.0) <= delta:
        return 0.0
    return float(brentq(lambda eps: analytic_delta(mu, eps) - delta, 0.0, 50 * mu * mu + 50 * mu))


EVENTS = st.one_of(
    st.builds(
        gaussian,
        st.floats(0.8, 50),
        st.integers(1, 200),
        st.sampled_from([0.004, 0.05, 0.1, 0.5, 0.9, 1.0]),
    ),
    st.builds(gaussian, st.floats(2, 50), st.integers(1, 60)),
    st.builds(laplace_counts, st.floats(1, 80), st.integers(1, 6), st.sampled_from([0.2, 1.0])),
)
HISTORIES = st.lists(EVENTS, min_size=1, max_size=4)
DELTAS = st.sampled_from([1e-3, 1e-5, 1e-7])


class TestFigures:
    @pytest.mark.parametrize(
        ("noise", "epsilon"), [(1.0, 4.37718), (0.5, 9.99726), (3.730632, 0.99999)]
    )
    def test_pld_of_one_gaussian_is_the_analytic_value(self, noise: float, epsilon: float) -> None:
        """3.730632 is the noise of Balle and Wang (2018), algorithm 1, at epsilon 1, delta 1e-5."""
        assert analytic_epsilon(1 / noise, 1e-5) == pytest.approx(epsilon, abs=1e-4)
        assert pld_epsilon([gaussian(noise)], 1e-5) == pytest.approx(epsilon, abs=1e-3)

    def test_moments_accountant_figure_of_abadi_et_al(self) -> None:
        """Abadi et al. (2016), arXiv 1607.00133, section 3.2: q 0.01, sigma 4, T 10,000 give 1.26.

        Theirs is the classical conversion at integer orders; the claim's conversion is tighter.
        """
        library = RdpAccountant(list(range(2, 64)), NeighboringRelation.ADD_OR_REMOVE_ONE)
        step = PoissonSampledDpEvent(0.01, GaussianDpEvent(4.0))
        library.compose(SelfComposedDpEvent(step, 10_000))
        classical = np.min(library.rdp + math.log(1e5) / (np.arange(2, 64) - 1))
        assert classical == pytest.approx(1.26, abs=5e-3)
        events = [gaussian(4.0, 10_000, 0.01)]
        assert renyi_epsilon(events, 1e-5) == pytest.approx(library.get_epsilon(1e-5), rel=2e-3)
        assert pld_epsilon(events, 1e-5) == pytest.approx(0.9470, abs=1e-3)

    def test_claim_of_full_batch_steps_is_the_best_order_s(self) -> None:
        rho = 40 / (2 * 9.0**2)
        orders = np.linspace(1.01, 60, 200_000)
        conversion = np.log1p(-1 / orders) - np.log(1e-5 * orders) / (orders - 1)
        best = float(np.min(rho * orders + conversion))
        assert best <= renyi_epsilon([gaussian(9.0, 40)], 1e-5) <= best * 1.0002

    def test_sampled_claim_is_that_of_numeric_integration(self) -> None:
        noise, rate, steps, delta = 2.0, 0.1, 300, 1e-5
        claim = renyi_epsilon([gaussian(noise, steps, rate)], delta)
        order = order_for(claim, delta)
        with mpmath.workdps(30):

            def moment(x: mpmath.mpf) -> mpmath.mpf:
                ratio = 1 - rate + rate * mpmath.exp((2 * x - 1) / (2 * noise**2))
                return mpmath.npdf(x, 0, noise) * ratio**order

            total = mpmath.quad(moment, [-60, -10, 0, 5, 10, 20, 40, 80])
            divergence = steps * float(mpmath.log(total)) / (order - 1)
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        assert claim == pytest.approx(divergence + conversion, rel=2e-4)

    def test_discrete_laplace_counts_as_randomised_response(self) -> None:
        """A count of sensitivity 1 loses exactly +1/b or -1/b, more than a Laplace variable."""
        exact = math.log((math.e / (1 + math.e) - 0.1) / (1 / (1 + math.e)))
        assert pld_epsilon([laplace_counts(1.0)], 0.1) == pytest.approx(exact, abs=2e-4)
        order, delta = order_for(renyi_epsilon([laplace_counts(1.0)], 1e-5), 1e-5), 1e-5
        likely = 1 / (1 + math.exp(-1))
        moment = likely**order * (1 - likely) ** (1 - order)
        moment += (1 - likely) ** order * likely ** (1 - order)
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        claim = math.log(moment) / (order - 1) + conversion
        assert renyi_epsilon([laplace_counts(1.0)], 1e-5) == pytest.approx(claim, rel=2e-4)

    def test_sampling_amplifies_pure_epsilon(self) -> None:
        """Balle, Barthe and Gaboardi (2018), Theorem 9: log(1 + q (exp(epsilon) - 1))."""
        same = laplace_counts(1 / math.log1p(0.2 * math.expm1(0.5)))
        for epsilon in (renyi_epsilon, pld_epsilon):
            assert epsilon([laplace_counts(2.0, rate=0.2)], 1e-5) == pytest.approx(
                epsilon([same], 1e-5), rel=1e-3
            )


class TestAlgebra:
    def test_no_events_cost_nothing(self) -> None:
        assert renyi_epsilon([], 1e-5) == 0.0
        assert pld_epsilon([], 1e-5) == 0.0

    @settings(max_examples=6, deadline=None)
    @given(HISTORIES, DELTAS)
    def test_pld_is_at_most_the_claim(self, events: list[PrivacyEvent], delta: float) -> None:
        assert 0 <= pld_epsilon(events, delta) <= renyi_epsilon(events, delta) < math.inf

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(0.7, 60), min_size=1, max_size=6), DELTAS)
    def test_claim_is_never_below_the_exact_epsilon(
        self, noises: list[float], delta: float
    ) -> None:
        exact = analytic_epsilon(math.sqrt(sum(1 / noise**2 for noise in noises)), delta)
        assert exact <= renyi_epsilon([gaussian(noise) for noise in noises], delta)

    @settings(max_examples=60, deadline=None)
    @given(HISTORIES, EVENTS, DELTAS)
    def test_an_added_event_never_lowers_the_claim(
        self, events: list[PrivacyEvent], added: PrivacyEvent, delta: float
    ) -> None:
        assert renyi_epsilon(events, delta) <= renyi_epsilon([*events, added], delta)

    @settings(max_examples=40, deadline=None)
    @given(HISTORIES, DELTAS, st.randoms())
    def test_order_and_grouping_of_events_do_not_matter(
        self, events: list[PrivacyEvent], delta: float, random: object
    ) -> None:
        split = [
            event.model_copy(update={"steps": 1}) for event in events for _ in range(event.steps)
        ]
        random.shuffle(split)  # type: ignore[attr-defined]
        assert renyi_epsilon(split, delta) == pytest.approx(renyi_epsilon(events, delta), rel=1e-4)

    @settings(max_examples=60, deadline=None)
    @given(HISTORIES, st.floats(0.05, 40), DELTAS)
    def test_the_filter_counts_at_the_one_order_of_its_cap(
        self, events: list[PrivacyEvent], cap: float, delta: float
    ) -> None:
        """Whatever passes at a cap has an order, named by the cap alone, at which it passes."""
        if decide_within([], events, cap, delta):
            claim = renyi_epsilon(events, delta)
            assert order_for(cap, delta) <= order_for(claim, delta)
            assert decide_within([], events, cap * 1.5, delta)
        else:
            assert renyi_epsilon(events, delta) > cap

    def test_a_half_sampled_step_with_much_noise_is_cheap(self) -> None:
        """The library's series for fractional orders does not converge there."""
        assert renyi_epsilon([gaussian(1000.0, 1, 0.5)], 1e-5) < 0.01

    def test_ten_thousand_equal_events_are_one_group(self) -> None:
        many = [gaussian(300.0)] * 10_000
        assert pld_epsilon(many, 1e-5) == pytest.approx(pld_epsilon([gaussian(3.0)], 1e-5))

    @pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, math.inf])
    def test_a_delta_outside_its_range_is_refused(self, delta: float) -> None:
        for epsilon in (renyi_epsilon, pld_epsilon):
            with pytest.raises(InvalidRecordError) as refusal:
                epsilon([gaussian(1.0)], delta)
            assert refusal.value.code == "privacy.delta_invalid"

    def test_the_filter_gates_on_the_claim_not_on_pld(self) -> None:
        events = [gaussian(9.0, 40)]
        between = (pld_epsilon(events, 1e-5) + renyi_epsilon(events, 1e-5)) / 2
        assert not decide_within([], events, between, 1e-5)
        assert decide_within([], events, renyi_epsilon(events, 1e-5), 1e-5)

    def test_what_a_ledger_holds_counts_against_what_is_added(self) -> None:
        held, added = [gaussian(9.0, 40)], [gaussian(30.0, 10)]
        assert decide_within([], added, 3.2, 1e-5)
        assert decide_within([], held, 3.2, 1e-5)
        assert not decide_within(held, added, 3.2, 1e-5)

    def test_a_cap_that_is_no_number_lets_nothing_pass(self) -> None:
        assert not decide_within([], [gaussian(9.0)], math.nan, 1e-5)
        assert decide_within([], [gaussian(9.0)], 3.0, 1e-5)

    @pytest.mark.parametrize("cap", [0.0, -1.0, math.nan, math.inf])
    def test_a_cap_without_an_order_is_refused(self, cap: float) -> None:
        with pytest.raises(InvalidRecordError):
            order_for(cap, 1e-5)


class TestAdversary:
    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.tuples(st.floats(1.5, 40), st.integers(1, 20)), min_size=5, max_size=25),
        st.floats(0.5, 8),
        DELTAS,
    )
    def test_a_chooser_of_events_never_passes_the_cap(
        self, wishes: list[tuple[float, int]], cap: float, delta: float
    ) -> None:
        spent: list[PrivacyEvent] = []
        for noise, steps in wishes:
            if decide_within(spent, [gaussian(noise, steps)], cap, delta):
                spent.append(gaussian(noise, steps))
        precision = sum(event.steps / event.noise_multiplier**2 for event in spent)
        if spent:
            assert analytic_epsilon(math.sqrt(precision), delta) <= cap

    def test_a_chooser_who_watches_the_privacy_loss_keeps_delta(self) -> None:
        """6,000 histories, noise chosen by the loss so far: E[(1 - exp(cap - loss))+] <= delta."""
        cap, delta, random = 2.0, 0.01, np.random.default_rng(7)
        excess = np.array([_loss_excess(random, cap, delta) for _ in range(6_000)])
        error = float(excess.std()) / math.sqrt(len(excess))
        assert float(excess.mean()) + 4 * error <= delta
        assert float(excess.mean()) > delta / 50  # the chooser does press against the cap

    def test_an_order_chosen_after_the_outputs_would_break_delta(self) -> None:
        """Why the filter has one order: with two, a two-step adversary reaches twice the delta.

        The first output shows (rarely, loss 1) or does not show the customer; then the adversary
        spends what order 16, or what order 6, still allows. At either order alone delta holds.
        """
        cap, delta = 3.0, 1e-5
        assert _delta_of_adversary((16.0, 6.0), cap, delta) > 1.9 * delta
        assert _delta_of_adversary((6.0, 6.0), cap, delta) <= delta
        assert _delta_of_adversary((16.0, 16.0), cap, delta) <= delta
        order = order_for(cap, delta)
        assert _delta_of_adversary((order, order), cap, delta) <= delta


def _loss_excess(random: np.random.Generator, cap: float, delta: float) -> float:
    """Play one history under D against D without c; return (1 - exp(cap - loss))+ at its end."""
    spent: list[PrivacyEvent] = []
    loss = 0.0
    for _ in range(12):
        noises = (2.0, 4.0) if loss > 0 else (4.0, 8.0)
        allowed = [n for n in noises if decide_within(spent, [gaussian(n)], cap, delta)]
        if not allowed:
            break
        noise = allowed[0]
        spent.append(gaussian(noise))
        loss += 0.5 / noise**2 + random.standard_normal() / noise
    return max(0.0, 1 - math.exp(cap - loss))


Outcomes = Sequence[tuple[float, float]]  # log probability with and without the customer


def _shows(log_probability: float, loss: float) -> Outcomes:
    """Two outcomes; the first has this probability under D and this privacy loss."""
    without = log_probability - loss
    return [
        (log_probability, without),
        (math.log(-math.expm1(log_probability)), math.log(-math.expm1(without))),
    ]


def _divergence(outcomes: Outcomes, order: float) -> float:
    both = (outcomes, [(b, a) for a, b in outcomes])
    return max(
        float(np.logaddexp.reduce([order * p + (1 - order) * q for p, q in side])) / (order - 1)
        for side in both
    )


def _delta_of_adversary(orders: tuple[float, float], cap: float, delta: float) -> float:
    first = _shows(math.log(2e-4), 1.0)
    total = 0.0
    for (p, q), order in zip(first, orders, strict=True):
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        budget = cap - conversion - _divergence(first, order)
        loss = cap + math.log(order / (order - 1)) - (p - q)
        second = _shows(_largest(order, loss, budget), loss)
        total += sum(max(0.0, math.exp(p + u) - math.exp(cap + q + v)) for u, v in second)
    return total


def _largest(order: float, loss: float, budget: float) -> float:
    """Return the greatest log probability of showing `loss` that costs at most `budget`."""
    return float(
        brentq(lambda log_p: _divergence(_shows(log_p, loss), order) - budget, -40.0, -1e-6)
    )
