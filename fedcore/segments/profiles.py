"""What segments are like: the mean of each feature with its uncertainty, and a name from it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import BOUND
from fedcore.segments.estimates import Estimate
from fedcore.segments.noised import NoisedSums

# A feature stands out from so many standard deviations of all customers on.
STANDS_OUT_AT = 0.5
NAMED_FEATURES = 2
AVERAGE = "near the average"


@dataclass(frozen=True)
class FeatureScale:
    """A feature's name, and which values of its own lie at the public bounds.

    `is_log`: values come as log(1 + value - lower), scaled to the bounds.
    """

    name: str
    lower: float = -BOUND
    upper: float = BOUND
    is_log: bool = False

    def own(self, value: float) -> float:
        """Return a value between public bounds as one of the feature's own."""
        share, width = (value + BOUND) / (2 * BOUND), self.upper - self.lower
        return self.lower + (
            math.expm1(share * math.log1p(width)) if self.is_log else share * width
        )

    def in_own_unit(self, estimate: Estimate) -> Estimate:
        """Return an estimate between public bounds in the feature's own unit, of logarithms its
        error to first order.
        """
        value, width = self.own(estimate.value), self.upper - self.lower
        slope = (1 + value - self.lower) * math.log1p(width) if self.is_log else width
        return Estimate(value, estimate.scale * abs(slope) / (2 * BOUND))


def profiles(noised: NoisedSums) -> list[list[Estimate] | None]:
    """Return the mean of each feature in each segment; None where a segment is not found.

    Guarantees: the error has the noise's part (of sums and counts) and sampling's, as if the
        segment's customers had been drawn from a larger population. Means are of rows that the
        radius has clipped: wide radii have no bias.
    """
    return [
        _profile(noised, place) if found else None
        for place, found in enumerate(noised.is_found.tolist())
    ]


def overall(noised: NoisedSums) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each feature over all segments that are found.

    The deviation is zero only where noise leaves nothing else.
    """
    kept = noised.is_found
    weights = noised.sizes[kept]
    whole = max(weights.sum(), noised.least_size)
    means = noised.means[kept]
    middle = weights @ means / whole
    between = weights @ np.square(means - middle)
    variances = (between + noised.scatters[kept].sum(axis=0)) / whole
    return [float(mean) for mean in middle], [float(value) for value in np.sqrt(variances)]


def suggest_names(noised: NoisedSums, features: Sequence[FeatureScale]) -> list[str]:
    """Return a name for each segment from its profile: "high spend, low recency".

    Guarantees: deterministic; no two are equal. A feature is named when its mean lies at least half
        a standard deviation of all customers from theirs and noise does not explain it; the two
        that stand out most come first, and further ones where two segments would be called alike.
    Raises: InvalidRecordError `segments.features_invalid` for another number of features.
    """
    if len(features) != noised.placement.shape[1]:
        raise InvalidRecordError(
            "segments.features_invalid", "there must be a name for each feature of the segments"
        )
    words = [_words(profile, noised, features) for profile in profiles(noised)]
    lengths = [NAMED_FEATURES] * len(words)
    while True:
        names = [", ".join(said[:most]) for said, most in zip(words, lengths, strict=True)]
        alike = Counter(names)
        longer = [
            place
            for place, name in enumerate(names)
            if alike[name] > 1 and lengths[place] < len(words[place])
        ]
        if not longer:
            return _numbered(names)
        for place in longer:
            lengths[place] += 1


def _profile(noised: NoisedSums, place: int) -> list[Estimate]:
    size, shifts = noised.sizes[place], noised.shifts[place]
    noise = noised.shift_scales[place] ** 2 + (shifts * noised.count_scale / size) ** 2
    scatter = noised.scatters[place] + noised.scatter_scale
    scales = np.sqrt(noise + scatter / size**2)
    means = noised.means[place]
    return [Estimate(float(m), float(s)) for m, s in zip(means, scales, strict=True)]


def _words(
    profile: list[Estimate] | None, noised: NoisedSums, features: Sequence[FeatureScale]
) -> list[str]:
    """Return what is to be said of a segment, the most telling first."""
    if profile is None:
        return ["too small to describe"]
    found: list[tuple[float, str]] = []
    for estimate, feature, mean, deviation in zip(profile, features, *overall(noised), strict=True):
        effect = (estimate.value - mean) / max(deviation, 1e-9)
        is_noise = mean in estimate.interval()
        if abs(effect) >= STANDS_OUT_AT and not is_noise:
            found.append((-abs(effect), f"{'high' if effect > 0 else 'low'} {feature.name}"))
    return [text for _, text in sorted(found, key=lambda one: one[0])] or [AVERAGE]


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names of which the second and further equal ones carry the next free number."""
    numbered: list[str] = []
    for name in names:
        numbers = range(2, len(names) + 2)
        forms = [name, *(f"{name} ({number})" for number in numbers)]
        taken = {*numbered, *(other for other in names if other != name)}
        numbered.append(next(form for form in forms if form not in taken))
    return numbered
