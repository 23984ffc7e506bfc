"""All that is told of the segments of one version: id, name, size, share and profile."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedcore.errors import InvalidRecordError
from fedcore.segments.estimates import Estimate, Interval
from fedcore.segments.noised import NoisedSums
from fedcore.segments.profiles import FeatureScale, profiles, suggest_names
from fedcore.segments.sizes import shares, size_band, sizes


@dataclass(frozen=True)
class Segment:
    """One segment; the profile is in the features' own units, and None where it is not found."""

    id: int
    name: str
    size: Estimate
    band: Interval
    share: Estimate
    profile: tuple[Estimate, ...] | None


def describe(
    last: NoisedSums,
    ids: Sequence[int],
    features: Sequence[FeatureScale],
    edges: Sequence[float] = (),
) -> list[Segment]:
    """Return the segments in the order of their ids.

    Args: `last` are the sums of a course's last release, `ids` those of its centres; `edges` are
        those of the size bands, powers of two without them.
    Raises: InvalidRecordError `segments.identities_invalid` for ids of another number of centres;
        `segments.features_invalid`, `segments.edges_invalid`.
    """
    if len(ids) != len(last.counts):
        raise InvalidRecordError(
            "segments.identities_invalid", "there must be one id for each centre"
        )
    names, counts = suggest_names(last, features), sizes(last)
    segments = [
        Segment(one, name, size, size_band(size, edges), share, _told(profile, features))
        for one, name, size, share, profile in zip(
            ids, names, counts, shares(last), profiles(last), strict=True
        )
    ]
    return sorted(segments, key=lambda segment: segment.id)


def _told(
    profile: list[Estimate] | None, features: Sequence[FeatureScale]
) -> tuple[Estimate, ...] | None:
    if profile is None:
        return None
    return tuple(
        feature.in_own_unit(estimate) for feature, estimate in zip(features, profile, strict=True)
    )
