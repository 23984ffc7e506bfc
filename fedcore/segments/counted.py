"""How many customers are in which segment, by a summed table of segments: the numbers of an
evaluation of a segmentation.

    customers              everybody who was counted
    segment_3_customers    in the segment with the id 3
    segment_3_share        of everybody

Intervals are those of `fedcore.noised_rates`: of a number of customers they have the noise alone,
of a share sampling as well.
"""

import math
from collections.abc import Mapping

from fedcore.fairness_tables import NoisedCount
from fedcore.intervals import CONFIDENCE, MIN_TOTAL_IN_SDS, Estimate
from fedcore.noised_rates import NoisedRate, count_bounds, rate_bounds
from fedcore.privacy.discrete import discrete_laplace_variance
from fedcore.segments.groups import SegmentTable

CUSTOMERS = "customers"


def segment_measures(
    table: SegmentTable, confidence: float = CONFIDENCE
) -> Mapping[str, Estimate | None]:
    """Return all numbers by name; None is one that the noise hides.

    Guarantees: pure; what is hidden is hidden by noised numbers alone.
    Raises: InvalidRecordError `fairness.noise_too_wide`.
    """
    layout, tail = table.layout, (1 - confidence) / 2
    whole = table.count(layout.everybody, layout.only(0) | ~layout.only(0))
    counted = [
        (number, table.count(layout.everybody, layout.only(place)))
        for place, number in enumerate(layout.segments)
    ]
    found: dict[str, Estimate | None] = {CUSTOMERS: _customers(whole, table.epsilon, tail)}
    for number, count in counted:
        others = NoisedCount(whole.value - count.value, whole.terms - count.terms)
        found[f"segment_{number}_customers"] = _customers(count, table.epsilon, tail)
        found[f"segment_{number}_share"] = _share(NoisedRate(count, others), table.epsilon, tail)
    return found


def _customers(count: NoisedCount, epsilon: float | None, tail: float) -> Estimate:
    within = count_bounds(count, epsilon, tail)
    value = max(0.0, float(count.value))
    return Estimate(value, within.low, within.high, 0.0, math.sqrt(_variance(count, epsilon)))


def _share(rate: NoisedRate, epsilon: float | None, tail: float) -> Estimate | None:
    hits, misses = (_variance(count, epsilon) for count in rate)
    total, share = rate.hits.value + rate.misses.value, rate.value
    if share is None or total < MIN_TOTAL_IN_SDS * math.sqrt(hits + misses):
        return None
    within = rate_bounds(rate, epsilon, tail)
    noise = hits * (1 - share) ** 2 + misses * share**2
    return Estimate(
        value=share,
        # The noised share of hardly anybody may be beyond what is likely.
        low=min(within.low, share),
        high=max(within.high, share),
        sampling_sd=math.sqrt(share * (1 - share) / total),
        noise_sd=math.sqrt(noise) / total,
    )


def _variance(count: NoisedCount, epsilon: float | None) -> float:
    return 0.0 if epsilon is None else count.terms * discrete_laplace_variance(epsilon)
