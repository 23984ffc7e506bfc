"""Epsilon from privacy events: the claim of a Rényi filter, and the PLD value beside it.

Plans are chosen after outputs were seen, so the order of the Rényi divergence must not be chosen
after them. A cap and a delta, both public and fixed, name one order (`order_for`), and the filter
lets events pass while their Rényi divergence at that one order stays below what converts to the cap
(ADR 0003). The claim of a list of events is the least cap under which the filter lets it pass.

With h(a) = log(1 - 1/a) - log(delta a)/(a - 1), divergence r at order a gives epsilon r + h(a)
(Canonne, Kamath, Steinke 2020, Proposition 12). The order of a cap is the one that admits most
full-batch Gaussian noise, the maximum of (cap - h(a))/a; there cap = h(a) + t(a) with the
threshold t(a) = -a h'(a) = -a log(delta a)/(a - 1)^2. Caps and thresholds fall and divergences
rise with the order, so one bisection over the orders finds the claim.

The library of divergences brings all of scipy's statistics, more than half of what a command takes
to start: it is imported when it is needed first (`divergences`, `composing`).
"""

import bisect
import math
from collections.abc import Sequence
from functools import lru_cache

from fedcore.errors import InvalidRecordError
from fedcore.privacy.events import PrivacyEvent
from fedcore.privacy.steps import Step, Summary, summarise

# The public grid: orders 1 + MIN_EXCESS * (MAX_EXCESS / MIN_EXCESS) ** (rank / ORDER_COUNT). It is
# so fine that a claim is at most 0.01 % above that of a continuum of orders. Its ends allow claims
# from about 0.01 to 10^7 at delta 1e-5.
MIN_EXCESS = 0.001
MAX_EXCESS = 1023.0
ORDER_COUNT = 2**18
# Below this the library's series for fractional orders may fail to converge (rates near 1/2).
MIN_SERIES_ORDER = 3.0

# Above this the tables of PLD grow without use: no cap is that high.
PLD_MAX_EPSILON = 100.0


def renyi_epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Return the claim: the least cap under which the Rényi filter lets `events` pass.

    Guarantees: the events together are (claim, `delta`)-DP when each was fixed before the first
        output; when later ones depended on outputs, their whole history is (cap, `delta`)-DP for
        every cap at which `decide_within` gated all of them. Does not depend on the order of the
        events, never falls when events are added; 0.0 for no events; inf beyond about 10^7.
    Args: events in any order; delta in (0, 1).
    Raises: InvalidRecordError `privacy.delta_invalid`.
    Reference: Feldman and Zrnic (2021), arXiv 2008.11193, Theorem 4.3; Canonne, Kamath and Steinke
        (2020), arXiv 2004.00010, Proposition 12; Mironov, Talwar and Zhang (2019), arXiv
        1908.10530.
    """
    _require_delta(delta)
    return _claim(summarise(events), delta)


def pld_epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Return the smallest epsilon known for `events` if plans did not depend on outputs.

    Guarantees: an upper bound for events fixed beforehand (privacy loss distributions, pessimistic,
        interval 1e-4), at most the claim; 0.0 for no events. A claim above `PLD_MAX_EPSILON` is
        returned as it is.
    Args: events in any order; delta in (0, 1).
    Raises: InvalidRecordError `privacy.delta_invalid`.
    Reference: Koskela, Jälkö and Honkela (2020), arXiv 1906.03049; Doroshenko et al. (2022), arXiv
        2207.04380.
    """
    _require_delta(delta)
    return _composed_pld_epsilon(summarise(events), delta)


def decide_within(
    events: Sequence[PrivacyEvent], added: Sequence[PrivacyEvent], cap: float, delta: float
) -> bool:
    """Return whether a ledger that holds `events` may still take `added` under `cap`.

    Guarantees: a valid privacy filter. When nothing is released that it refuses, everything ever
        released is (`cap`, `delta`)-DP, also when each event is chosen by someone who has seen all
        earlier outputs, as long as `cap` and `delta` never change. False for a cap that is NaN.
    Raises: InvalidRecordError `privacy.delta_invalid`.
    Reference: Feldman and Zrnic (2021), arXiv 2008.11193, Theorem 4.3, at the order of the cap.
    """
    spent, threshold = _under(summarise([*events, *added]), cap, delta)
    return spent <= threshold


def filter_share(events: Sequence[PrivacyEvent], cap: float, delta: float) -> float:
    """Return which share of the filter of `cap` and `delta` is used up by `events`.

    Guarantees: at most 1 when `decide_within` says yes, at least 1 when not; adds up over events,
        but for rounding; 0.0 for no events, inf for a cap that admits none or is no number.
    Raises: InvalidRecordError `privacy.delta_invalid`.
    """
    spent, threshold = _under(summarise(events), cap, delta)
    if spent == 0 and threshold >= 0:
        return 0.0
    return spent / threshold if threshold > 0 else math.inf


def order_for(cap: float, delta: float) -> float:
    """Return the one Rényi order at which the filter of `cap` and `delta` counts.

    Guarantees: a function of the two public numbers alone; falls when the cap rises.
    Args: cap positive, delta in (0, 1).
    Raises: InvalidRecordError `privacy.delta_invalid`; `privacy.cap_invalid` for a cap so small or
        large that the grid has no order for it.
    """
    _require_delta(delta)
    rank = _rank_for(cap, delta)
    if rank > ORDER_COUNT or math.isinf(cap):
        raise InvalidRecordError("privacy.cap_invalid", f"no Rényi order serves a cap of {cap}")
    return _order(rank)


def _under(summary: Summary, cap: float, delta: float) -> tuple[float, float]:
    """Return the divergence of events at the order of a cap, and the most that it may be there."""
    _require_delta(delta)
    if not summary:
        return 0.0, 0.0 if cap >= 0 else -1.0
    if math.isinf(cap):
        return 0.0, cap
    rank = _rank_for(cap, delta)
    if rank > ORDER_COUNT:
        return math.inf, 0.0
    return _divergence(summary, _order(rank)), _threshold(_order(rank), delta)


@lru_cache(maxsize=1024)
def _rank_for(cap: float, delta: float) -> int:
    return bisect.bisect_left(
        range(ORDER_COUNT + 1), True, key=lambda rank: _cap_of_order(_order(rank), delta) <= cap
    )


@lru_cache(maxsize=1024)
def _claim(summary: Summary, delta: float) -> float:
    if not summary:
        return 0.0
    passing = bisect.bisect_left(
        range(ORDER_COUNT + 1),
        True,
        key=lambda rank: _divergence(summary, _order(rank)) > _threshold(_order(rank), delta),
    )
    return _cap_of_order(_order(passing - 1), delta) if passing else math.inf


@lru_cache(maxsize=1024)
def _composed_pld_epsilon(summary: Summary, delta: float) -> float:
    claim = _claim(summary, delta)
    if not summary or claim > PLD_MAX_EPSILON:
        return claim
    from fedcore.privacy.composing import composed_epsilon

    return min(claim, composed_epsilon(summary, delta))


def _order(rank: int) -> float:
    return 1 + MIN_EXCESS * math.pow(MAX_EXCESS / MIN_EXCESS, rank / ORDER_COUNT)


def _threshold(order: float, delta: float) -> float:
    """Return t(order); negative, so that nothing passes, for orders above 1/delta."""
    return -order * math.log(delta * order) / (order - 1) ** 2


def _cap_of_order(order: float, delta: float) -> float:
    conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
    return max(0.0, conversion + _threshold(order, delta))


def _divergence(summary: Summary, order: float) -> float:
    return math.fsum(count * _step_divergence(step, order) for step, count in summary)


@lru_cache(maxsize=65536)
def _step_divergence(step: Step, order: float) -> float:
    if step.mechanism == "discrete_laplace":
        return _pure_divergence(step.pure_epsilon, order)
    if step.sampling_rate == 1:
        return _gaussian_divergence(step, order)
    bound = _interpolated_divergence(step, order)
    # The library's series for fractional orders may not converge, and is then far too large.
    return min(bound, _gaussian_divergence(step, order)) if order >= MIN_SERIES_ORDER else bound


def _interpolated_divergence(step: Step, order: float) -> float:
    """Return a bound from the integer orders beside `order`: (order - 1) * divergence is convex."""
    low = math.floor(order)
    below = (low - 1) * _gaussian_divergence(step, low) if low > 1 else 0.0
    above = low * _gaussian_divergence(step, low + 1)
    return (below + (order - low) * (above - below)) / (order - 1)


def _gaussian_divergence(step: Step, order: float) -> float:
    from fedcore.privacy.divergences import gaussian_divergence

    return gaussian_divergence(step, order)


def _pure_divergence(epsilon: float, order: float) -> float:
    """Return the Rényi divergence of randomised response, the greatest of all epsilon-DP.

    The continuous Laplace mechanism of the same scale would under-report: a discrete Laplace count
    of sensitivity 1 *is* randomised response in its losses.
    Reference: Bun and Steinke (2016), arXiv 1605.02065, Proposition 3.3 and its proof.
    """
    likely, unlikely = -math.log1p(math.exp(-epsilon)), -math.log1p(math.exp(-epsilon)) - epsilon
    gain = (order - 1) * epsilon
    high, low = likely + gain, unlikely - gain
    return (high + math.log1p(math.exp(low - high))) / (order - 1)


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InvalidRecordError("privacy.delta_invalid", "delta must lie between 0 and 1")
