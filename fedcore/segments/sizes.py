"""How large segments are: noised counts with what noise does to them, as bands, and their drift."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.segments.estimates import Estimate, Interval
from fedcore.segments.noised import NoisedSums


def sizes(noised: NoisedSums) -> list[Estimate]:
    """Return each segment's number of customers; the error is that of the noise alone."""
    return [Estimate(float(count), noised.count_scale) for count in noised.counts]


def size_band(size: Estimate, edges: Sequence[float] = (), confidence: float = 0.95) -> Interval:
    """Return the narrowest band between declared edges in which the size lies at this confidence.

    Guarantees: contains the interval's part above zero; starts at 0 below the first edge, and is
        open above the last one. Without edges the bands are powers of two.
    Raises: InvalidRecordError `segments.edges_invalid` unless edges rise and are positive; as
        `Estimate.interval`.
    """
    if not all(one < other for one, other in zip((0.0, *edges), edges, strict=False)):
        raise InvalidRecordError("segments.edges_invalid", "edges of bands are positive and rise")
    within = size.interval(confidence)
    if not edges:
        top = math.ceil(math.log2(max(2.0, within.high + 1)))
        edges = [2.0**power for power in range(top + 1)]
    below = [edge for edge in edges if edge <= within.low]
    above = [edge for edge in edges if edge > within.high]
    return Interval(max(below, default=0.0), min(above, default=math.inf))


def shares(noised: NoisedSums) -> list[Estimate]:
    """Return each segment's share of the customers, with the errors of noise and of sampling.

    Sampling is as if this many customers had been drawn from a larger population.
    """
    counts = np.maximum(noised.counts, 0.0)
    whole = max(counts.sum(), noised.least_size)
    return [_share(float(count), float(whole), noised) for count in counts]


def _share(count: float, whole: float, noised: NoisedSums) -> Estimate:
    share, others = count / whole, len(noised.counts) - 1
    noise = (noised.count_scale / whole) ** 2 * ((1 - share) ** 2 + others * share**2)
    return Estimate(share, math.sqrt(noise + share * (1 - share) / whole))


def drift(before: Mapping[int, Estimate], after: Mapping[int, Estimate]) -> dict[int, Estimate]:
    """Return by how much the share of each segment that both versions have has changed.

    Args: shares by stable id. A version's noise is independent of another's; customers that both
        have seen make the error smaller than stated, never larger.
    """
    return {one: after[one].minus(before[one]) for one in sorted(before.keys() & after.keys())}
